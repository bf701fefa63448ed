// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Build makes the graph of everything that is ours: the classes that name our
// controller, their Gateways with their ListenerSets, and the routes that name one of those. It first
// makes each node from its object and what that refers to, and only then links
// them, so that a node depends on nothing else.
func Build(r Resources) *Graph {
	refs := referencesIn(r)
	g, _ := build(r, &refs, func(_ RouteKind, _ client.Object, build func() *Route) *Route { return build() })
	return g
}

// referencesIn is what the nodes of the resources may refer to, but for the policies.
func referencesIn(r Resources) references {
	return references{
		services: r.Services, secrets: r.Secrets, grants: grantsByNamespace(r.ReferenceGrants), proxies: r.ProxyConfigs,
		configMaps: r.ConfigMaps, trustBundles: r.ClusterTrustBundles, denied: r.Denied, system: r.SystemAuthorities,
		externalNames: r.ExternalNames,
	}
}

// build makes the graph, and completes what its nodes refer to. The node of an HTTPRoute or a
// GRPCRoute it gets by way of made. It gives what routes may have for their parents, too.
func build(r Resources, complete *references, made func(RouteKind, client.Object, func() *Route) *Route) (*Graph, parents) {
	refs := *complete
	var policies []*BackendTLSPolicy
	policies, refs.policies = buildPolicies(r.BackendTLSPolicies, refs)
	var trafficPolicies []*TrafficPolicy
	trafficPolicies, refs.budgets = buildTrafficPolicies(r.XBackendTrafficPolicies)
	refs.xbackends = buildXBackends(r.XBackends, refs)
	*complete = refs
	g := &Graph{}
	classes := map[string]*Class{}
	for _, name := range slices.Sorted(maps.Keys(r.GatewayClasses)) {
		if src := r.GatewayClasses[name]; src != nil && string(src.Spec.ControllerName) == r.ControllerName {
			classes[name] = buildClass(src, r.ProxyConfigs, r.Definitions)
			g.Classes = append(g.Classes, classes[name])
		}
	}
	gateways := map[types.NamespacedName]*Gateway{}
	for _, key := range sortedKeys(r.Gateways) {
		src := r.Gateways[key]
		if src == nil || classes[string(src.Spec.GatewayClassName)] == nil {
			continue
		}
		gateways[key] = buildGateway(src, classes[string(src.Spec.GatewayClassName)], refs)
		gateways[key].IPv6 = r.IPv6
		g.Gateways = append(g.Gateways, gateways[key])
	}
	parents := newParents(g.Gateways, gateways, g.addListenerSets(r, gateways, refs))
	for _, gw := range g.Gateways {
		gw.settle()
	}
	for _, key := range sortedKeys(r.GRPCRoutes) {
		if src := r.GRPCRoutes[key]; src != nil {
			if of := parents.of(key.Namespace, src.Spec.CommonRouteSpec); len(of) > 0 || anyStatus(src.Status.Parents, r.ControllerName) {
				g.add(made(KindGRPCRoute, src, func() *Route { return buildGRPCRoute(src, refs) }), of, r.Namespaces)
			}
		}
	}
	for _, key := range sortedKeys(r.HTTPRoutes) {
		if src := r.HTTPRoutes[key]; src != nil {
			if of := parents.of(key.Namespace, src.Spec.CommonRouteSpec); len(of) > 0 || anyStatus(src.Status.Parents, r.ControllerName) {
				g.add(made(KindHTTPRoute, src, func() *Route { return buildHTTPRoute(src, refs) }), of, r.Namespaces)
			}
		}
	}
	g.addL4(r, parents, refs)
	for _, gw := range g.Gateways {
		for _, l := range gw.Listeners {
			slices.SortFunc(l.Attachments, func(a, b *Attachment) int { return ComparePrecedence(a.Route, b.Route) })
		}
	}
	if policed(r) { // else there is no need to ask which routes they concern
		g.linkPolicies(policies, r.ControllerName)
		g.linkXBackends(refs.xbackends, r.ControllerName)
		g.linkTrafficPolicies(trafficPolicies, r.ControllerName)
	}
	return g, parents
}

// ComparePrecedence is the order of routes on a listener. It puts the older route first, then the one whose
// namespace/name comes first in the alphabet.
func ComparePrecedence(a, b *Route) int {
	ta, tb := a.Source.GetCreationTimestamp(), b.Source.GetCreationTimestamp()
	return cmp.Or(ta.Compare(tb.Time), compareKeys(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind))
}

// compareRoutes is the order of the graph's routes.
func compareRoutes(a, b *Route) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), compareKeys(a.Key, b.Key))
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func sortedKeys[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), compareKeys)
}

func keyOf(obj client.Object) types.NamespacedName { return client.ObjectKeyFromObject(obj) }

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
