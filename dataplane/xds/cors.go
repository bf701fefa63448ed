// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
)

// corsFilter stands in front of every chain and does nothing for a route without a policy.
const corsFilter = "envoy.filters.http.cors"

func corsPolicy(c *graph.CORS) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:     strings.Join(c.Methods, ", "),
		AllowHeaders:     strings.Join(c.Headers, ", "),
		ExposeHeaders:    strings.Join(c.Expose, ", "),
		MaxAge:           strconv.Itoa(int(c.MaxAge)),
		AllowCredentials: boolean(c.Credentials),
		// A backend behind the filter need not know about preflights.
		ForwardNotMatchingPreflights: boolean(false),
	}
	for _, origin := range c.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, originMatchers(origin)...)
	}
	return out
}

// originMatchers cover an origin with and without the port that its scheme implies.
func originMatchers(o graph.Origin) []*matcherv3.StringMatcher {
	if o.Scheme == "" {
		return []*matcherv3.StringMatcher{originRegex(".*")}
	}
	port, implied := ":"+strconv.Itoa(int(o.Port)), o.Port == impliedPort(o.Scheme)
	suffix, wild := strings.CutPrefix(o.Host, anyHost)
	if !wild {
		matchers := []*matcherv3.StringMatcher{exactly(o.Scheme + "://" + o.Host + port)}
		if implied {
			matchers = append(matchers, exactly(o.Scheme+"://"+o.Host))
		}
		return matchers
	}
	// What stands for the asterisk must not reach beyond the host.
	host := `[^/:@\[\]]+` + regexp.QuoteMeta(suffix)
	if suffix == "" {
		host = `([^/:@\[\]]+|\[[0-9a-fA-F:.]+\])`
	}
	if implied {
		port = "(" + port + ")?"
	}
	return []*matcherv3.StringMatcher{originRegex(o.Scheme + "://" + host + port)}
}

func originRegex(expression string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(expression)}}
}

// withPreflight adds, where a rule matches one method only, a route for the questions
// that browsers ask before a request of that method: they come as OPTIONS, which the
// rule itself does not match. The CORS filter answers them all.
func withPreflight(routes []*routev3.Route, e entry) []*routev3.Route {
	if e.rule.Filters.CORS == nil || e.match.Method == "" || e.match.Method == "OPTIONS" || len(routes) == 0 {
		return routes
	}
	last := routes[len(routes)-1] // the one without a fraction
	if last.GetRoute() == nil {
		return routes
	}
	asked := e.match
	asked.Method = "OPTIONS"
	asked.Headers = append(slices.Clone(e.match.Headers),
		graph.NamedMatch{Name: "access-control-request-method", StringMatch: graph.StringMatch{Type: graph.MatchExact, Value: e.match.Method}},
		// Without an origin the filter would let the request pass, to a backend whose rule
		// does not match it.
		graph.NamedMatch{Name: "origin", StringMatch: graph.StringMatch{Type: graph.MatchRegex, Value: ".+"}},
	)
	preflight := proto.Clone(last).(*routev3.Route)
	preflight.Name += "/preflight"
	preflight.Match = routeMatch(asked)
	return append(routes, preflight)
}
