// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Routes of connections and datagrams. They have one rule without matches: what decides
// is the listener, and for a TLSRoute the server name.

func buildTLSRoute(src *gwv1.TLSRoute, refs references) *Route {
	r := newRoute(KindTLSRoute, src, src.Spec.Hostnames)
	for i, rule := range first(src.Spec.Rules) {
		r.addRule(i, deref(rule.Name, ""), rule.BackendRefs, refs)
	}
	r.settle()
	return r
}

func buildTCPRoute(src *gwv1.TCPRoute, refs references) *Route {
	r := newRoute(KindTCPRoute, src, nil)
	for i, rule := range first(src.Spec.Rules) {
		r.addRule(i, deref(rule.Name, ""), rule.BackendRefs, refs)
	}
	r.settle()
	return r
}

func buildUDPRoute(src *gwv1.UDPRoute, refs references) *Route {
	r := newRoute(KindUDPRoute, src, nil)
	for i, rule := range first(src.Spec.Rules) {
		r.addRule(i, deref(rule.Name, ""), rule.BackendRefs, refs)
	}
	r.settle()
	return r
}

// first gives the one rule that the API allows.
func first[R any](rules []R) []R { return rules[:min(len(rules), 1)] }

func (r *Route) addRule(i int, name gwv1.SectionName, backends []gwv1.BackendRef, refs references) {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := &Rule{Index: i, Name: string(name)}
	for j, ref := range backends {
		rule.Backends = append(rule.Backends, buildBackend(
			fmt.Sprintf("%s.backendRefs[%d]", field, j), r.Kind, r.Key.Namespace, ref, nil, refs))
	}
	rule.settle(field)
	r.Rules = append(r.Rules, rule)
}

// L4 tells whether the route carries connections or datagrams, not requests.
func (r *Route) L4() bool {
	return r.Kind == KindTLSRoute || r.Kind == KindTCPRoute || r.Kind == KindUDPRoute
}

// OlderRoute gives the route that gets the traffic of a TCP or UDP listener instead of the
// attached one, which is younger; nil when the attached one gets it. Such a listener has nothing to
// tell several routes apart by, and the Gateway API accepts all of them.
func (a *Attachment) OlderRoute() *Route {
	if kind := a.Route.Kind; kind != KindUDPRoute && kind != KindTCPRoute {
		return nil
	}
	for _, other := range a.Listener.Attachments {
		switch {
		case other.Route == a.Route:
			return nil
		case other.Route.Kind == a.Route.Kind:
			return other.Route
		}
	}
	return nil
}

// addL4 adds the routes of connections and datagrams.
func (g *Graph) addL4(r Resources, parents parents, refs references) {
	addRoutes(g, r, r.TCPRoutes, parents, func(src *gwv1.TCPRoute) (gwv1.CommonRouteSpec, gwv1.RouteStatus) {
		return src.Spec.CommonRouteSpec, src.Status.RouteStatus
	}, func(src *gwv1.TCPRoute) *Route { return buildTCPRoute(src, refs) })
	addRoutes(g, r, r.TLSRoutes, parents, func(src *gwv1.TLSRoute) (gwv1.CommonRouteSpec, gwv1.RouteStatus) {
		return src.Spec.CommonRouteSpec, src.Status.RouteStatus
	}, func(src *gwv1.TLSRoute) *Route { return buildTLSRoute(src, refs) })
	addRoutes(g, r, r.UDPRoutes, parents, func(src *gwv1.UDPRoute) (gwv1.CommonRouteSpec, gwv1.RouteStatus) {
		return src.Spec.CommonRouteSpec, src.Status.RouteStatus
	}, func(src *gwv1.UDPRoute) *Route { return buildUDPRoute(src, refs) })
}

func addRoutes[R interface {
	comparable
	client.Object
}](g *Graph, r Resources, routes map[types.NamespacedName]R, parents parents,
	parts func(R) (gwv1.CommonRouteSpec, gwv1.RouteStatus), build func(R) *Route,
) {
	var none R
	for _, key := range sortedKeys(routes) {
		src := routes[key]
		if src == none {
			continue
		}
		spec, status := parts(src)
		if of := parents.of(key.Namespace, spec); len(of) > 0 || anyStatus(status.Parents, r.ControllerName) {
			g.add(build(src), of, r.Namespaces)
		}
	}
}

// Outranks tells whether a, rather than b, gets the connections for host, which both serve: it
// has the more specific hostname of its own for it. Where neither has, the older one comes first.
func (a *Attachment) Outranks(b *Attachment, host string) bool {
	own, other := a.Origin(host), b.Origin(host)
	return own != "" && (other == "" || moreSpecific(own, other))
}
