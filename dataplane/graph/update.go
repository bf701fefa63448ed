// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// RouteKey names a route of any kind.
type RouteKey struct {
	Kind RouteKind
	types.NamespacedName
}

// Renew brings the graph of the last Build up to date for resources of which it is known that nothing
// differs from those of the time before but HTTPRoutes and GRPCRoutes that the keys name: nothing else is
// looked at. Those that attach as they did get their nodes renewed in place, and the ones that are new in
// content are given; all other nodes are the same. Routes that are not
// ours, before and now, need nothing. It gives false, and leaves the graph as it is, where
// Build has to make another one.
func (b *Builder) Renew(r Resources, keys []RouteKey) (changed []*Route, ok bool) {
	if b.graph == nil {
		return nil, false
	}
	var differ []RouteKey
	for _, key := range keys {
		src, was := r.route(key), b.sources[key]
		switch {
		case src == nil:
			return nil, false
		case b.nodes[key] == nil && !b.ours(src, r.ControllerName):
			b.sources[key] = identityOf(src)
			continue
		case was == nil:
			return nil, false
		}
		if was != identityOf(src) && !slices.Contains(differ, key) {
			differ = append(differ, key)
		}
	}
	return b.update(r, differ)
}

// ours tells whether a route has a parent or a status of ours, and so a place in the graph.
func (b *Builder) ours(route client.Object, controllerName string) bool {
	switch src := route.(type) {
	case *gwv1.HTTPRoute:
		return len(b.parents.of(src.Namespace, src.Spec.CommonRouteSpec)) > 0 || anyStatus(src.Status.Parents, controllerName)
	case *gwv1.GRPCRoute:
		return len(b.parents.of(src.Namespace, src.Spec.CommonRouteSpec)) > 0 || anyStatus(src.Status.Parents, controllerName)
	}
	return true
}

// Part gives the HTTPRoutes and GRPCRoutes of the graph that the keys name, in its order, and nothing else.
func (b *Builder) Part(keys map[RouteKey]bool) *Graph {
	g := &Graph{}
	for key := range keys {
		if node := b.nodes[key]; node != nil {
			g.Routes = append(g.Routes, node)
		}
	}
	slices.SortFunc(g.Routes, func(a, b *Route) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), compareKeys(a.Key, b.Key)) })
	return g
}

// route gives an HTTPRoute or GRPCRoute, or nil.
func (r Resources) route(key RouteKey) client.Object {
	switch key.Kind {
	case KindHTTPRoute:
		if src := r.HTTPRoutes[key.NamespacedName]; src != nil {
			return src
		}
	case KindGRPCRoute:
		if src := r.GRPCRoutes[key.NamespacedName]; src != nil {
			return src
		}
	}
	return nil
}

// policed tells whether there are policies, which say in their status which routes they concern.
func policed(r Resources) bool {
	return len(r.BackendTLSPolicies)+len(r.XBackends)+len(r.XBackendTrafficPolicies) > 0
}

// update renews the nodes of some routes, or gives false and leaves the graph as it is.
func (b *Builder) update(r Resources, keys []RouteKey) (changed []*Route, ok bool) {
	fresh := make([]*Route, len(keys))
	for i, key := range keys {
		if fresh[i] = b.renewed(r, key); fresh[i] == nil || policed(r) && !sendsAlike(b.nodes[key], fresh[i]) {
			return nil, false
		}
	}
	for i, key := range keys {
		node := b.nodes[key]
		news := !sameSpec(node.Source, fresh[i].Source)
		remembered := clipped(*fresh[i])
		remembered.Parents = nil
		b.sources[key] = identityOf(fresh[i].Source)
		b.routes[builtKey{key.Kind, key.NamespacedName}] = built{b.sources[key], remembered}
		*node = *fresh[i]
		if news {
			changed = append(changed, node)
		}
	}
	return changed, true
}

// renewed makes a route anew for the place that it has in the graph, or gives nil.
func (b *Builder) renewed(r Resources, key RouteKey) *Route {
	node := b.nodes[key]
	if node == nil || len(node.Parents) == 0 {
		return nil
	}
	var fresh *Route
	switch was := node.Source.(type) {
	case *gwv1.HTTPRoute:
		is := r.HTTPRoutes[key.NamespacedName]
		if is == nil || !attachesAlike(was, is, was.Spec.CommonRouteSpec, is.Spec.CommonRouteSpec, was.Spec.Hostnames, is.Spec.Hostnames) {
			return nil
		}
		fresh = buildHTTPRoute(is, b.refs)
	case *gwv1.GRPCRoute:
		is := r.GRPCRoutes[key.NamespacedName]
		if is == nil || !attachesAlike(was, is, was.Spec.CommonRouteSpec, is.Spec.CommonRouteSpec, was.Spec.Hostnames, is.Spec.Hostnames) {
			return nil
		}
		fresh = buildGRPCRoute(is, b.refs)
	default:
		return nil
	}
	if sameSpec(node.Source, fresh.Source) {
		source := fresh.Source
		*fresh = *node
		fresh.Source = source
	}
	fresh.Parents = node.Parents
	return fresh
}

// sendsAlike tells whether two forms of a route refer to the same objects, as far as policies of those
// name the route's Gateways.
func sendsAlike(was, is *Route) bool {
	return slices.Equal(was.services(), is.services()) && slices.Equal(was.upstreams(), is.upstreams())
}

// sameSpec tells whether two forms of an object differ in nothing that a node is made from, but
// in its status.
func sameSpec(was, is client.Object) bool {
	return is.GetGeneration() > 0 && was.GetGeneration() == is.GetGeneration() && maps.Equal(was.GetAnnotations(), is.GetAnnotations())
}

// attachesAlike tells whether all that decides where a route attaches, and in what order, is the same.
func attachesAlike(was, is client.Object, wasSpec, isSpec gwv1.CommonRouteSpec, wasHosts, isHosts []gwv1.Hostname) bool {
	before, after := was.GetCreationTimestamp(), is.GetCreationTimestamp()
	return was.GetUID() == is.GetUID() && before.Equal(&after) && reflect.DeepEqual(wasSpec, isSpec) && reflect.DeepEqual(wasHosts, isHosts)
}
