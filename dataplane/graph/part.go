// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"maps"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Selection names nodes of a graph.
type Selection struct {
	// Routes are HTTPRoutes and GRPCRoutes.
	Routes  map[RouteKey]bool
	Parents map[ParentKey]bool
}

// NewSelection names nothing.
func NewSelection() *Selection {
	return &Selection{Routes: map[RouteKey]bool{}, Parents: map[ParentKey]bool{}}
}

// Add names what has to tell of a change in its status: the route, and the objects with the
// listeners that have a route more or less.
func (s *Selection) Add(c Change) {
	s.Routes[c.Key()] = true
	if !c.Moved() {
		return
	}
	for _, a := range slices.Concat(c.Was.Attachments(), c.Is.Attachments()) {
		kind, key := a.Listener.Owner()
		s.Parents[ParentKey{gwv1.Kind(kind), key}] = true
	}
}

// Split parts a selection in one with at most n routes, and the rest.
func (s *Selection) Split(n int) (first, rest *Selection) {
	if len(s.Routes) <= n {
		return s, NewSelection()
	}
	first, rest = &Selection{Routes: make(map[RouteKey]bool, n), Parents: s.Parents}, NewSelection()
	for key := range s.Routes {
		if len(first.Routes) < n {
			first.Routes[key] = true
		} else {
			rest.Routes[key] = true
		}
	}
	return first, rest
}

// Join adds what is selected in another one. Nothing is added to a selection that is nil, which means all.
func (s *Selection) Join(other *Selection) {
	if s == nil || other == nil {
		return
	}
	maps.Copy(s.Routes, other.Routes)
	maps.Copy(s.Parents, other.Parents)
}

// Empty tells whether nothing is selected.
func (s *Selection) Empty() bool { return s == nil || len(s.Routes)+len(s.Parents) == 0 }

// Part gives the nodes of the graph that are selected, in its order, and nothing else.
func (b *Builder) Part(s *Selection) *Graph {
	g := &Graph{}
	if len(s.Parents) > 0 {
		for _, gw := range b.graph.Gateways {
			if s.Parents[ParentKey{KindGateway, gw.Key}] {
				g.Gateways = append(g.Gateways, gw)
			}
		}
		for _, set := range b.graph.ListenerSets {
			if s.Parents[ParentKey{KindListenerSet, set.Key}] {
				g.ListenerSets = append(g.ListenerSets, set)
			}
		}
	}
	for key := range s.Routes {
		if node := b.nodes[key]; node != nil {
			g.Routes = append(g.Routes, node)
		}
	}
	slices.SortFunc(g.Routes, compareRoutes)
	return g
}

// Refresh brings the graph of the last Build up to date for a Gateway or a ListenerSet that may differ from
// what it was, in its status only. It gives false, and does nothing, if something else may differ.
func (b *Builder) Refresh(r Resources, key ParentKey, was client.Object) bool {
	is := r.Parent(key)
	if b.graph == nil || was == nil || is == nil || was.GetUID() != is.GetUID() || !sameSpec(was, is) || !maps.Equal(was.GetLabels(), is.GetLabels()) {
		return false
	}
	if gw := b.parents.gateways[key.NamespacedName]; key.Kind == KindGateway && gw != nil {
		gw.Source = r.Gateways[key.NamespacedName]
	}
	if set := b.parents.sets[key.NamespacedName]; key.Kind == KindListenerSet && set != nil {
		set.Source = r.ListenerSets[key.NamespacedName]
	}
	return true
}
