// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"maps"
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

// Isolated is a rule that the proxies do not serve as it was published, because
// they refuse every route table with it. It answers 500; or, while the bad one among
// several is being found, as before.
type Isolated struct {
	Rule xds.Rule
	// Message is Envoy's sentence.
	Message string
	// Searching says that the rule is one of several of which one is bad.
	Searching bool
}

// isolations are the searches of one gateway, by the name of their route table.
type isolations map[string]*isolation

// isolated gives the route tables that may go to the proxies: without what they
// refused of them and what can be seen to be refused. The caller holds s.publishing.
func (s *Server) isolated(gateway types.NamespacedName, present *target, routes map[string]proto.Message) map[string]proto.Message {
	cases := s.isolations[gateway]
	for name, whole := range routes {
		if present != nil && present.resources[kindRoute].get(name) != nil && present.resources[kindRoute].get(name).source == whole {
			continue // looked at when it was new
		}
		table := xds.Table(whole)
		if i := cases[name]; i != nil && i.whole != whole {
			i.renew(whole)
		}
		if faults := invalidRules(table); len(faults) > 0 {
			if cases[name] == nil {
				cases = s.open(gateway, name, isolate(whole, nil))
			}
			cases[name].exclude(faults)
		}
	}
	maps.DeleteFunc(cases, func(name string, i *isolation) bool { return routes[name] == nil || i.clean() })
	return s.replaced(gateway, routes)
}

// replaced gives the route tables with those that are under isolation in place.
func (s *Server) replaced(gateway types.NamespacedName, routes map[string]proto.Message) map[string]proto.Message {
	cases := s.isolations[gateway]
	var away []Isolated
	searching := false
	if len(cases) > 0 {
		routes = maps.Clone(routes)
		for name, i := range cases {
			routes[name] = i.table()
			searching = searching || !i.settled()
			for rule, message := range i.away() {
				away = append(away, Isolated{Rule: rule, Message: message, Searching: i.bad[rule] == nil})
			}
		}
		slices.SortFunc(away, func(a, b Isolated) int {
			return cmp.Or(compareRules(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
		})
		away = slices.CompactFunc(away, func(a, b Isolated) bool { return a.Rule == b.Rule })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.away, gateway)
	delete(s.searching, gateway)
	if len(away) > 0 {
		s.away[gateway] = away
	}
	if searching {
		s.searching[gateway] = true
	}
	return routes
}

func (s *Server) open(gateway types.NamespacedName, name string, i *isolation) isolations {
	if s.isolations[gateway] == nil {
		s.isolations[gateway] = isolations{}
	}
	s.isolations[gateway][name] = i
	return s.isolations[gateway]
}

// progressed is called after the account of a proxy of the gateway changed.
func (s *Server) progressed(gateway types.NamespacedName, now *progress) {
	s.mu.Lock()
	searching := s.searching[gateway]
	s.mu.Unlock()
	s.pace.acknowledged.reached(gateway, s.State(gateway).Answered, time.Now())
	if searching || slices.ContainsFunc(now.refused, func(n Nack) bool { return n.TypeURL == typeURLs[kindRoute] }) {
		// Not here: whoever publishes may be the one that changed the account.
		go s.review(gateway)
	}
	s.notify(gateway)
}

// review looks at what the proxies answered to their route tables, and brings the
// searches for refused rules one step further.
func (s *Server) review(gateway types.NamespacedName) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	present := s.targets[gateway]
	streams := slices.Collect(maps.Keys(s.streams[gateway]))
	s.mu.Unlock()
	if present == nil {
		return
	}
	moved := false
	for name := range concerned(s.isolations[gateway], streams) {
		want := present.resources[kindRoute].get(name)
		if want == nil {
			continue
		}
		i := s.isolations[gateway][name]
		a := answerOf(streams, want)
		switch {
		case a.refused && i == nil && xds.Table(want.source) != nil:
			i = isolate(want.source, a.former)
			s.open(gateway, name, i)
			i.refused(a.message)
		case a.refused && i != nil && !i.settled():
			i.refused(a.message)
		case a.accepted && i != nil && !i.settled():
			i.accepted()
		default:
			continue
		}
		moved = true
	}
	if !moved {
		return
	}
	var messages [kinds]map[string]proto.Message
	for k, resources := range present.resources {
		messages[k] = resources.sources()
	}
	messages[kindRoute] = s.replaced(gateway, messages[kindRoute])
	s.replace(gateway, present, messages)
	s.notify(gateway)
}

// concerned are the route tables that are under isolation or that a proxy refuses.
func concerned(cases isolations, streams []*stream) map[string]bool {
	names := map[string]bool{}
	for name := range cases {
		names[name] = true
	}
	for _, st := range streams {
		for _, nack := range st.progress.Load().refused {
			if nack.TypeURL == typeURLs[kindRoute] {
				names[nack.Resource] = true
			}
		}
	}
	return names
}

// answer is what all proxies said to one content.
type answer struct {
	refused, accepted bool
	message           string
	// former is what the refusing proxy has instead, if that is known.
	former *routev3.RouteConfiguration
}

// answerOf asks the streams: one refusal is a refusal, and an acceptance is one of all.
func answerOf(streams []*stream, want *resource) answer {
	out := answer{}
	waiting := false
	for _, st := range streams {
		st.mu.Lock()
		sub := &st.session.types[want.kind]
		held := sub.held[want.name]
		refusal, isRefused := sub.refused[want.name]
		switch {
		case !sub.seen:
		case isRefused && refusal.resource.standsFor(want):
			out.refused, out.message = true, refusal.message
			if held != nil && !held.opaque {
				out.former = xds.Table(held.source)
			}
		case held.standsFor(want):
			out.accepted = true
		default:
			waiting = true
		}
		st.mu.Unlock()
	}
	out.accepted = out.accepted && !out.refused && !waiting
	return out
}
