// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

// heldBack are the resources that were not sent because they break Envoy's schema, and
// the version from which on there are any.
type heldBack struct {
	refused []Nack
	since   uint64
}

// validate applies the rules that stand in Envoy's own schema. What breaks one of them a
// proxy refuses, and of listeners and clusters everything else in the response with it.
func validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		return v.ValidateAll()
	}
	return nil
}

// valid gives the messages without those that break Envoy's schema: in place of each
// stands what the proxies have, as if they had refused it.
func valid(present *target, messages [kinds]map[string]proto.Message) ([kinds]map[string]proto.Message, []Nack) {
	var invalid []Nack
	for k := range messages {
		var known shelf
		if present != nil {
			known = present.resources[k]
		}
		copied := false
		for name, m := range messages[k] {
			was := known.get(name)
			if was != nil && was.source == m {
				continue
			}
			err := validate(m)
			if err == nil {
				continue
			}
			invalid = append(invalid, Nack{TypeURL: typeURLs[k], Resource: name, Message: err.Error()})
			if !copied {
				messages[k], copied = maps.Clone(messages[k]), true
			}
			delete(messages[k], name)
			if was != nil {
				messages[k][name] = was.source
			}
		}
	}
	slices.SortFunc(invalid, compareNacks)
	return messages, invalid
}

// holdBack keeps account of what was not sent.
func (s *Server) holdBack(gateway types.NamespacedName, version uint64, invalid []Nack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(invalid) == 0 {
		delete(s.heldBack, gateway)
		return
	}
	since := version
	if before := s.heldBack[gateway]; len(before.refused) > 0 {
		since = before.since
	}
	s.heldBack[gateway] = heldBack{refused: invalid, since: since}
}

// invalidRule is a rule that breaks Envoy's schema.
type invalidRule struct {
	message string
	// match says that what it matches does so, and not only what it does.
	match bool
}

// invalidRules gives the rules of a route table that break Envoy's schema.
func invalidRules(table *routev3.RouteConfiguration) map[xds.Rule]invalidRule {
	if table == nil || validate(table) == nil {
		return nil
	}
	faults := map[xds.Rule]invalidRule{}
	for _, host := range table.VirtualHosts {
		for _, route := range host.Routes {
			rule, named := xds.RuleOf(route.Name)
			if err := validate(route); err != nil && named {
				faults[rule] = invalidRule{message: err.Error(), match: faults[rule].match || validate(failing(route)) != nil}
			}
		}
	}
	return faults
}
