// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Rule names a rule of a route as the names of its Envoy routes begin with it.
type Rule struct {
	Kind  graph.RouteKind
	Route types.NamespacedName
	Index int
}

// String is "HTTPRoute/namespace/name/index".
func (r Rule) String() string {
	return string(r.Kind) + "/" + r.Route.String() + "/" + strconv.Itoa(r.Index)
}

// RuleOf gives the rule that an Envoy route is made of; not ok for those that
// are made of a listener.
func RuleOf(envoyRoute string) (rule Rule, ok bool) {
	parts := strings.Split(envoyRoute, "/")
	if len(parts) < 5 { // kind, namespace, name, rule, match
		return Rule{}, false
	}
	index, err := strconv.Atoi(parts[3])
	if err != nil {
		return Rule{}, false
	}
	return Rule{Kind: graph.RouteKind(parts[0]), Route: types.NamespacedName{Namespace: parts[1], Name: parts[2]}, Index: index}, true
}

// Table gives the route table in a message of Snapshot.Routes, nil when it has none.
func Table(message proto.Message) *routev3.RouteConfiguration {
	switch m := message.(type) {
	case *routev3.RouteConfiguration:
		return m
	case *routev3.ScopedRouteConfiguration:
		return m.GetRouteConfiguration()
	}
	return nil
}

// WithTable gives a message of Snapshot.Routes with another route table in it.
func WithTable(message proto.Message, table *routev3.RouteConfiguration) proto.Message {
	if scope, is := message.(*routev3.ScopedRouteConfiguration); is {
		out := proto.Clone(scope).(*routev3.ScopedRouteConfiguration)
		out.RouteConfiguration = table
		return out
	}
	return table
}
