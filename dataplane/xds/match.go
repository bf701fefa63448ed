// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// routeMatch gives the Envoy form of a match.
func routeMatch(m graph.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	setPath(out, m.Path)
	if m.Method != "" {
		out.Headers = append(out.Headers, headerMatcher(":method", exactly(m.Method)))
	}
	for _, h := range m.Headers {
		name := strings.ToLower(h.Name)
		if name == "host" {
			name = ":authority" // Envoy knows the Host header by its HTTP/2 name only
		}
		out.Headers = append(out.Headers, headerMatcher(name, stringMatcher(h.StringMatch)))
	}
	for _, q := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name: q.Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{
				StringMatch: stringMatcher(q.StringMatch),
			},
		})
	}
	return out
}

// setPath gives a path match. A prefix of the Gateway API matches whole path
// elements, with or without a slash at its end.
func setPath(out *routev3.RouteMatch, path graph.StringMatch) {
	switch path.Type {
	case graph.MatchExact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: path.Value}
		return
	case graph.MatchRegex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(path.Value)}
		return
	}
	if prefix := trimPrefix(path.Value); prefix != "" {
		out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: prefix}
		return
	}
	out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
}

// trimPrefix is a path prefix without slashes at its end: /a/ and /a match the same
// paths. The prefix / becomes empty.
func trimPrefix(prefix string) string { return strings.TrimRight(prefix, "/") }

func headerMatcher(name string, match *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: match},
	}
}

func stringMatcher(m graph.StringMatch) *matcherv3.StringMatcher {
	switch m.Type {
	case graph.MatchRegex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(m.Value)}}
	case graph.MatchPrefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: m.Value}}
	}
	return exactly(m.Value)
}

func exactly(value string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}

// regex matches the whole string, in RE2 syntax.
func regex(expression string) *matcherv3.RegexMatcher {
	return &matcherv3.RegexMatcher{Regex: expression}
}

// expressible tells whether Envoy would take the match. Build makes a rule with a match
// that it would not take invalid; such a rule still answers 500 where its
// other matches stand, and only the broken match has to be left out.
func expressible(m graph.Match) bool {
	all := []graph.StringMatch{m.Path}
	for _, n := range m.Headers {
		all = append(all, n.StringMatch)
	}
	for _, n := range m.Query {
		all = append(all, n.StringMatch)
	}
	for _, s := range all {
		if s.Type != graph.MatchRegex {
			continue
		}
		if !graph.ValidRegex(s.Value) {
			return false
		}
	}
	return routeMatch(m).ValidateAll() == nil
}

// fraction matches the given part of a million of the requests. All routes of one
// request see the same random number, so consecutive routes with growing fractions
// split the requests exactly.
func fraction(parts uint32, runtimeKey string) *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{
		DefaultValue: &typev3.FractionalPercent{Numerator: parts, Denominator: typev3.FractionalPercent_MILLION},
		RuntimeKey:   runtimeKey,
	}
}
