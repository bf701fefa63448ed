// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/composite/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/graph"
)

// The places in every filter chain that do nothing until a route has settings for them.
const (
	// routeFilters runs whole filters for one route. It is a composite filter, because
	// most filters cannot be configured anew by a route.
	routeFilters = "headgate.route"
	// sessionFilter keeps a client on its endpoint.
	sessionFilter = "envoy.filters.http.stateful_session"
)

// perRoute is the settings of filters for one route, or for one cluster of several, by
// the filter's name.
type perRoute map[string]*anypb.Any

// settingsOf gives what the filters of a rule ask of the places in the chain, nil for
// nothing. Of a rule and a backend of it the backend's is asked last.
func settingsOf(filters ...graph.Filters) perRoute {
	out := perRoute{}
	var chain []*corev3.TypedExtensionConfig
	for _, f := range filters {
		if f.CORS != nil {
			out[corsFilter] = toAny(corsPolicy(f.CORS))
		}
		if f.Session != nil {
			out[sessionFilter] = toAny(session(f.Session))
		}
		if f.Auth != nil {
			chain = append(chain, withoutForged(f.Auth)...)
			chain = append(chain, &corev3.TypedExtensionConfig{
				Name: "envoy.filters.http.ext_authz", TypedConfig: toAny(authFilter(f.Auth)),
			})
		}
	}
	if len(chain) > 0 {
		out[routeFilters] = toAny(always(chain))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// always runs filters for every request of a route.
func always(chain []*corev3.TypedExtensionConfig) proto.Message {
	return &compositev3.CompositePerRoute{Matcher: &xdsmatcherv3.Matcher{
		OnNoMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
			Action: &xdscorev3.TypedExtensionConfig{
				Name: routeFilters,
				TypedConfig: toAny(&compositev3.ExecuteFilterAction{
					FilterChain: &compositev3.FilterChainConfiguration{TypedConfig: chain},
				}),
			},
		}},
	}}
}
