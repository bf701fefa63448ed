// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
)

// routesOf gives the Envoy routes of one entry: one, or one per backend or redirect form,
// and the one for preflights.
func routesOf(l *graph.Listener, host string, e entry) []*routev3.Route {
	return withPreflight(ownRoutes(l, host, e), e)
}

func ownRoutes(l *graph.Listener, host string, e entry) []*routev3.Route {
	if !e.rule.Valid && !expressible(e.match) {
		return nil
	}
	base := &routev3.Route{
		Name:  routeName(e.route) + "/" + strconv.Itoa(e.rule.Index) + "/" + strconv.Itoa(e.index),
		Match: routeMatch(e.match),
		// What is counted for the whole route, see statsTags.
		StatPrefix: routeName(e.route),
		Metadata:   nameRule(e.rule.Name),
	}
	if e.rule.Valid && e.rule.Filters.Redirect != nil {
		setHeaders(base, e.rule.Filters)
		base.TypedPerFilterConfig = settingsOf(e.rule.Filters)
		return redirectRoutes(l, host, base, e.match, e.rule.Filters.Redirect)
	}
	shares := sharesOf(e.rule)
	running := e.route.Running
	prefix := ""
	if running {
		prefix = weightPrefix(e.route, e.rule, shapeOf(e.route))
	}
	switch formOf(e.rule, shares, running) {
	case formSingle:
		setHeaders(base, e.rule.Filters, shares[0].filters)
		base.TypedPerFilterConfig = settingsOf(e.rule.Filters, shares[0].filters)
		base.Action = forward(e, &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: shares[0].cluster},
		}, e.rule.Filters.Rewrite, shares[0].filters.Rewrite)
		return []*routev3.Route{base}
	case formWeighted:
		if !ownHeaders(shares) {
			setHeaders(base, e.rule.Filters)
		}
		base.TypedPerFilterConfig = settingsOf(e.rule.Filters)
		base.Action = forward(e, &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_WeightedClusters{
				WeightedClusters: weightedClusters(e.rule.Filters, baseline(shares, running), prefix),
			},
		}, e.rule.Filters.Rewrite)
		return []*routev3.Route{base}
	case formSplit:
		return splitRoutes(e, base, baseline(shares, running), prefix)
	}
	base.Action = directResponse(500)
	return []*routev3.Route{base}
}

// splitRoutes gives one route per share. A request falls through them until the
// fraction that covers its random number; the last takes all that is left.
func splitRoutes(e entry, base *routev3.Route, shares []share, prefix string) []*routev3.Route {
	var routes []*routev3.Route
	parts := cumulative(shares)
	for i, s := range shares {
		route := proto.Clone(base).(*routev3.Route)
		route.Name += "/" + strconv.Itoa(i)
		if i < len(shares)-1 {
			key := ""
			if prefix != "" {
				key = splitKey(prefix, i, s.cluster)
			}
			route.Match.RuntimeFraction = fraction(parts[i], key)
		}
		setHeaders(route, e.rule.Filters, s.filters)
		route.TypedPerFilterConfig = settingsOf(e.rule.Filters, s.filters)
		route.Action = forward(e, &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: s.cluster},
		}, e.rule.Filters.Rewrite, s.filters.Rewrite)
		routes = append(routes, route)
	}
	return routes
}

// setHeaders applies the header modifiers of a rule and, where the route has one
// backend only, of the backend.
func setHeaders(route *routev3.Route, filters ...graph.Filters) {
	var request, response []*graph.HeaderModifier
	for _, f := range filters {
		request = append(request, f.RequestHeaders)
		response = append(response, f.ResponseHeaders)
	}
	req, resp := headerOptions(request...), headerOptions(response...)
	route.RequestHeadersToAdd, route.RequestHeadersToRemove = req.add, req.remove
	route.ResponseHeadersToAdd, route.ResponseHeadersToRemove = resp.add, resp.remove
}

// forward completes an action that forwards to clusters.
func forward(e entry, action *routev3.RouteAction, rewrites ...*graph.Rewrite) *routev3.Route_Route {
	// The share of an invalid backendRef goes to a cluster that does not exist.
	action.ClusterNotFoundResponseCode = routev3.RouteAction_INTERNAL_SERVER_ERROR
	setTimes(action, e.rule)
	action.RequestMirrorPolicies = mirrorPolicies(e.rule.Mirrors)
	setRewrite(action, e.match.Path, rewrites...)
	if quiet(e) {
		action.IdleTimeout = seconds(3600)
	}
	return &routev3.Route_Route{Route: action}
}

// quiet tells whether streams may be silent for long without being dead: gRPC, by its
// own route or to a backend that speaks HTTP/2, and WebSocket. All others end after the connection manager's five minutes.
func quiet(e entry) bool {
	if e.route.Kind == graph.KindGRPCRoute {
		return true
	}
	for _, b := range e.rule.Backends {
		if b.Cluster.Protocol == graph.UpstreamWebSocket || b.Cluster.Protocol == graph.UpstreamH2C {
			return true
		}
	}
	return false
}

func directResponse(status uint32) *routev3.Route_DirectResponse {
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}
}
