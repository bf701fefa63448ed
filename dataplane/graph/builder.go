// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Builder builds one graph after the other, and takes over what was made of a route when
// neither the route changed nor anything that routes may refer to. The rules of such a route
// are then the same by pointer. Its graphs equal those of Build; they must not be modified. Each
// is good until the next Build, and is what Renew renews.
type Builder struct {
	referents map[referent]any
	routes    map[builtKey]built

	// graph is that of the last time, nodes are its routes, and refs what they refer to.
	graph *Graph
	nodes map[RouteKey]*Route
	refs  references
	// parents is what routes may have for their parents.
	parents parents
	// targets are the objects that policies are for, and XBackends, by name.
	targets map[types.NamespacedName]bool
	// sources are the HTTPRoutes and GRPCRoutes, in the graph or not.
	sources map[RouteKey]any
}

type builtKey struct {
	kind RouteKind
	key  types.NamespacedName
}

type built struct {
	source any
	route  Route
}

// referent is an object, or another value, in a field of Resources.
type referent struct {
	field int
	key   any
}

// Build is like the function of that name.
func (b *Builder) Build(r Resources) *Graph {
	now := referentsOf(r)
	if !reflect.DeepEqual(now, b.referents) {
		b.routes = nil
	}
	b.referents = now
	fresh := map[builtKey]built{}
	b.refs = referencesIn(r)
	b.graph, b.parents = build(r, &b.refs, func(kind RouteKind, src client.Object, build func() *Route) *Route {
		key := builtKey{kind, keyOf(src)}
		old, ok := b.routes[key]
		if is := identityOf(src); !ok || old.source != is {
			old = built{is, clipped(*build())}
		}
		fresh[key] = old
		route := old.route
		route.Source = src
		return &route
	})
	b.routes, b.targets = fresh, b.refs.targets()
	b.sources = make(map[RouteKey]any, len(r.HTTPRoutes)+len(r.GRPCRoutes))
	for key, src := range r.HTTPRoutes {
		if src != nil {
			b.sources[RouteKey{KindHTTPRoute, key}] = identityOf(src)
		}
	}
	for key, src := range r.GRPCRoutes {
		if src != nil {
			b.sources[RouteKey{KindGRPCRoute, key}] = identityOf(src)
		}
	}
	b.nodes = make(map[RouteKey]*Route, len(fresh))
	for _, route := range b.graph.Routes {
		b.nodes[RouteKey{route.Kind, route.Key}] = route
	}
	return b.graph
}

// clipped makes sure that appending to a copy of the route leaves the others alone.
func clipped(r Route) Route {
	r.Hostnames, r.Rules, r.Problems = slices.Clip(r.Hostnames), slices.Clip(r.Rules), slices.Clip(r.Problems)
	return r
}

// referentsOf gives all that a route may refer to, by what tells its contents apart: of
// every field of Resources but the routes themselves and what they attach to, so that
// a new kind of referent cannot be forgotten here.
func referentsOf(r Resources) map[referent]any {
	out := map[referent]any{}
	value := reflect.ValueOf(r)
	for i := range value.NumField() {
		switch value.Type().Field(i).Name {
		case "HTTPRoutes", "GRPCRoutes", "TLSRoutes", "TCPRoutes", "UDPRoutes", "Gateways", "ListenerSets", "Namespaces":
			continue
		}
		field := value.Field(i)
		if field.Kind() != reflect.Map {
			out[referent{i, nil}] = field.Interface()
			continue
		}
		for entries := field.MapRange(); entries.Next(); {
			content := entries.Value().Interface()
			if object, ok := content.(client.Object); ok && !entries.Value().IsNil() {
				content = identityOf(object)
			}
			out[referent{i, entries.Key().Interface()}] = content
		}
	}
	return out
}

// identity tells one content of an object from all others.
type identity struct {
	uid     types.UID
	version string
}

// identityOf gives the identity of an object, or the object itself, by pointer, when it does
// not come from an API server.
func identityOf(o client.Object) any {
	if o.GetUID() == "" || o.GetResourceVersion() == "" {
		return pointer{reflect.ValueOf(o).Pointer(), o}
	}
	return identity{o.GetUID(), o.GetResourceVersion()}
}

// pointer is an object that is only itself. It is kept, so that its address is not used again.
type pointer struct {
	address uintptr
	object  client.Object
}
