// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// RouteKey names a route of any kind.
type RouteKey struct {
	Kind RouteKind
	types.NamespacedName
}

func compareRouteKeys(a, b RouteKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), compareKeys(a.NamespacedName, b.NamespacedName))
}

// Change is what Renew did to a route.
type Change struct {
	// Was is the node before, nil when the route was not in the graph; Is is the node now, nil when the route is
	// not in the graph any more. They are one where the route attaches as it did: then the node was
	// renewed in place.
	Was, Is *Route
}

// Key names the route.
func (c Change) Key() RouteKey {
	route := cmp.Or(c.Is, c.Was)
	return RouteKey{route.Kind, route.Key}
}

// Moved tells whether the route came, went, or may attach elsewhere.
func (c Change) Moved() bool { return c.Was != c.Is }

// Attachments are the route's places on listeners, each once.
func (r *Route) Attachments() []*Attachment {
	if r == nil {
		return nil
	}
	var all []*Attachment
	for _, p := range r.Parents {
		for _, a := range p.Attachments {
			if !slices.Contains(all, a) { // parents that reach one listener share it
				all = append(all, a)
			}
		}
	}
	return all
}

// Renew brings the graph of the last Build up to date for resources of which it is known that nothing
// differs from those of the time before but HTTPRoutes and GRPCRoutes that the keys name: nothing else is
// looked at. It gives those that are new in content or moved, by kind and name; all other nodes are the same.
// Routes that are not ours, before and now, need nothing. It gives false, and leaves the graph as it is,
// where Build has to make another one: where a policy may concern other routes than before.
func (b *Builder) Renew(r Resources, keys []RouteKey) (changed []Change, ok bool) {
	if b.graph == nil {
		return nil, false
	}
	keys = slices.Compact(slices.SortedFunc(slices.Values(keys), compareRouteKeys))
	keys = slices.DeleteFunc(keys, func(key RouteKey) bool {
		src := r.route(key)
		return src != nil && b.sources[key] == identityOf(src)
	})
	renewals := make([]Change, len(keys))
	for i, key := range keys {
		if renewals[i] = b.renewed(r, key); b.governed(renewals[i]) {
			return nil, false
		}
	}
	for i, key := range keys {
		if c, news := b.adopt(r, key, renewals[i]); news {
			changed = append(changed, c)
		}
	}
	return changed, true
}

// renewed makes a route anew, outside of the graph. A route that attaches as it did has its place there.
func (b *Builder) renewed(r Resources, key RouteKey) Change {
	src, c := r.route(key), Change{Was: b.nodes[key]}
	switch {
	case src == nil, c.Was == nil && !b.ours(src, r.ControllerName):
	case c.Was != nil && attachesAlike(c.Was.Source, src) && (len(c.Was.Parents) > 0 || b.ours(src, r.ControllerName)):
		c.Is = b.made(src, c.Was)
		c.Is.Parents = c.Was.Parents
	case b.ours(src, r.ControllerName):
		c.Is = b.made(src, nil)
	}
	return c
}

// made is the node of a route. It takes over the contents of the node before where the routes differ
// in their status only.
func (b *Builder) made(src client.Object, before *Route) *Route {
	if before != nil && sameSpec(before.Source, src) {
		is := *before
		is.Source = src
		return &is
	}
	switch src := src.(type) {
	case *gwv1.HTTPRoute:
		return buildHTTPRoute(src, b.refs)
	case *gwv1.GRPCRoute:
		return buildGRPCRoute(src, b.refs)
	}
	return nil
}

// adopt puts a renewed route in its place in the graph, and tells whether that is news to anybody.
func (b *Builder) adopt(r Resources, key RouteKey, c Change) (Change, bool) {
	src := r.route(key)
	delete(b.sources, key)
	if src != nil {
		b.sources[key] = identityOf(src)
	}
	if c.Is == nil {
		delete(b.nodes, key)
		delete(b.routes, builtKey{key.Kind, key.NamespacedName})
		if c.Was != nil {
			b.graph.remove(c.Was)
		}
		return c, c.Was != nil
	}
	remembered := clipped(*c.Is)
	remembered.Parents = nil
	b.routes[builtKey{key.Kind, key.NamespacedName}] = built{b.sources[key], remembered}
	if c.Was != nil && attachesAlike(c.Was.Source, src) {
		news := !sameSpec(c.Was.Source, src)
		*c.Was = *c.Is
		return Change{c.Was, c.Was}, news
	}
	if c.Was != nil {
		b.graph.remove(c.Was)
	}
	b.nodes[key] = c.Is
	spec, _ := attaching(src)
	b.graph.insert(c.Is, b.parents.of(key.Namespace, spec), r.Namespaces)
	return c, true
}

// insert adds a route to a graph whose lists are in order, and keeps them so.
func (g *Graph) insert(route *Route, parents []*Parent, namespaces map[string]*corev1.Namespace) {
	g.add(route, parents, namespaces)
	sortLast(g.Routes, compareRoutes)
	for _, a := range route.Attachments() {
		sortLast(a.Listener.Attachments, func(a, b *Attachment) int { return ComparePrecedence(a.Route, b.Route) })
	}
}

// remove takes a route out of the graph. The route keeps its own links.
func (g *Graph) remove(route *Route) {
	g.Routes = without(g.Routes, route)
	for _, a := range route.Attachments() {
		a.Listener.Attachments = without(a.Listener.Attachments, a)
	}
}

// sortLast moves the last element of a list that is sorted but for that to its place.
func sortLast[T any](list []T, compare func(a, b T) int) {
	end := len(list) - 1
	last := list[end]
	at, _ := slices.BinarySearchFunc(list[:end], last, compare)
	copy(list[at+1:], list[at:end])
	list[at] = last
}

func without[T comparable](list []T, one T) []T {
	if at := slices.Index(list, one); at >= 0 {
		return slices.Delete(list, at, at+1)
	}
	return list
}

// ours tells whether a route has a parent or a status of ours, and so a place in the graph.
func (b *Builder) ours(route client.Object, controllerName string) bool {
	spec, _ := attaching(route)
	if len(b.parents.of(route.GetNamespace(), spec)) > 0 {
		return true
	}
	switch src := route.(type) {
	case *gwv1.HTTPRoute:
		return anyStatus(src.Status.Parents, controllerName)
	case *gwv1.GRPCRoute:
		return anyStatus(src.Status.Parents, controllerName)
	}
	return false
}

// governed tells whether a policy may have to tell something else in its status after a change: those
// tell which Gateways have accepted routes that send to what they are for.
func (b *Builder) governed(c Change) bool {
	if len(b.targets) == 0 {
		return false
	}
	was, is := c.Was.named(), c.Is.named()
	if c.Was != nil && c.Is != nil && attachesAlike(c.Was.Source, c.Is.Source) && slices.Equal(was, is) {
		return false
	}
	return slices.ContainsFunc(slices.Concat(was, is), func(key ClusterKey) bool {
		return b.targets[types.NamespacedName{Namespace: key.Namespace, Name: key.Service}]
	})
}

// named is all that a route names as a backend, of use or not.
func (r *Route) named() []ClusterKey {
	if r == nil {
		return nil
	}
	keys := r.upstreams()
	for _, service := range r.services() {
		keys = append(keys, ClusterKey{Namespace: service.Namespace, Service: service.Name})
	}
	return keys
}

// targets are the names of all that policies are for, and of XBackends, which are policies too.
func (r references) targets() map[types.NamespacedName]bool {
	out := map[types.NamespacedName]bool{}
	for target := range r.policies {
		out[target.service] = true
	}
	for target := range r.budgets {
		out[target.NamespacedName] = true
	}
	for key := range r.xbackends {
		out[key] = true
	}
	return out
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

// sameSpec tells whether two forms of an object differ in nothing that a node is made from, but
// in its status.
func sameSpec(was, is client.Object) bool {
	return is.GetGeneration() > 0 && was.GetGeneration() == is.GetGeneration() && maps.Equal(was.GetAnnotations(), is.GetAnnotations())
}

// attachesAlike tells whether all that decides where a route attaches, and in what order, is the same.
func attachesAlike(was, is client.Object) bool {
	before, after := was.GetCreationTimestamp(), is.GetCreationTimestamp()
	if was.GetUID() != is.GetUID() || !before.Equal(&after) {
		return false
	}
	wasSpec, wasHosts := attaching(was)
	isSpec, isHosts := attaching(is)
	return reflect.DeepEqual(wasSpec, isSpec) && reflect.DeepEqual(wasHosts, isHosts)
}

// attaching is what an HTTPRoute or a GRPCRoute says about where it attaches.
func attaching(route client.Object) (gwv1.CommonRouteSpec, []gwv1.Hostname) {
	switch src := route.(type) {
	case *gwv1.HTTPRoute:
		return src.Spec.CommonRouteSpec, src.Spec.Hostnames
	case *gwv1.GRPCRoute:
		return src.Spec.CommonRouteSpec, src.Spec.Hostnames
	}
	return gwv1.CommonRouteSpec{}, nil
}
