// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// TestRoutesComeGoAndMoveInTheGraph renews a graph by one route, and compares it with one that is made anew.
func TestRoutesComeGoAndMoveInTheGraph(t *testing.T) {
	key := types.NamespacedName{Namespace: "shop", Name: "web"}
	route := func(version, parent string) *gwv1.HTTPRoute {
		return &gwv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "u", ResourceVersion: version, Generation: 1},
			Spec:       gwv1.HTTPRouteSpec{CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: gwv1.ObjectName(parent)}}}},
		}
	}
	ours := route("2", "other")
	ours.Status.Parents = []gwv1.RouteParentStatus{{ControllerName: "headgate.dev/test"}}
	again := ours.DeepCopy()
	again.ResourceVersion = "3"
	hosts := route("2", "edge")
	hosts.Spec.Hostnames, hosts.Generation = []gwv1.Hostname{"a.example.com"}, 2
	rules := route("2", "edge")
	rules.Generation = 2
	younger := route("2", "edge")
	younger.UID, younger.CreationTimestamp = "v", metav1.Unix(1e9, 0)
	for name, row := range map[string]struct {
		was, is *gwv1.HTTPRoute
		// told are the changes that are told of, moved those among them of where routes attach.
		told, moved int
	}{
		"a route of another Gateway changed":                           {route("1", "other"), route("2", "other"), 0, 0},
		"a route of another Gateway came":                              {nil, route("2", "other"), 0, 0},
		"a route of another Gateway went":                              {route("1", "other"), nil, 0, 0},
		"a route of another Gateway came to ours":                      {route("1", "other"), route("2", "edge"), 1, 1},
		"a route of ours went to another Gateway":                      {route("1", "edge"), route("2", "other"), 1, 1},
		"a route of ours came":                                         {nil, route("2", "edge"), 1, 1},
		"a route of ours went":                                         {route("1", "edge"), nil, 1, 1},
		"a route of another has a status of ours":                      {route("1", "other"), ours, 1, 1},
		"a route of another has a status of ours no more":              {ours, route("3", "other"), 1, 1},
		"a route of another has another status of ours":                {ours, again, 0, 0},
		"a route of ours has another version":                          {route("1", "edge"), route("2", "edge"), 0, 0},
		"a route of ours has other rules":                              {route("1", "edge"), rules, 1, 0},
		"a route of ours has other hostnames":                          {route("1", "edge"), hosts, 1, 1},
		"a route of ours was made anew under its name, and is younger": {route("1", "edge"), younger, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			res := graph.NewResources("headgate.dev/test")
			res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/test"}}
			res.Gateways[types.NamespacedName{Namespace: "shop", Name: "edge"}] = &gwv1.Gateway{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "edge"},
				Spec:       gwv1.GatewaySpec{GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}}},
			}
			if row.was != nil {
				res.HTTPRoutes[key] = row.was
			}
			between := route("1", "edge")
			between.Name, between.UID, between.CreationTimestamp = "xylophones", "x", metav1.Unix(1e8, 0)
			res.HTTPRoutes[types.NamespacedName{Namespace: "shop", Name: between.Name}] = between
			b := graph.Builder{}
			g := b.Build(res)
			delete(res.HTTPRoutes, key)
			if row.is != nil {
				res.HTTPRoutes[key] = row.is
			}
			changed, ok := b.Renew(res, []graph.RouteKey{{Kind: graph.KindHTTPRoute, NamespacedName: key}})
			moved := 0
			for _, c := range changed {
				if c.Moved() {
					moved++
				}
			}
			if !ok || len(changed) != row.told || moved != row.moved {
				t.Errorf("renewed %v, told of %d changes, of which %d moved", ok, len(changed), moved)
			}
			if got, want := linked(g), linked(graph.Build(res)); !slices.Equal(got, want) {
				t.Errorf("the graph has %v, want %v", got, want)
			}
		})
	}
}

// linked tells what routes a graph has, where they attach, and in what order.
func linked(g *graph.Graph) []string {
	var out []string
	for _, route := range g.Routes {
		out = append(out, fmt.Sprintf("%s %s of %d parents", route.Key, route.Source.GetResourceVersion(), len(route.Parents)))
		for _, a := range route.Attachments() {
			if !slices.Contains(a.Listener.Attachments, a) {
				out = append(out, "which is not linked")
			}
		}
	}
	for _, gw := range g.Gateways {
		for _, l := range gw.Listeners {
			for _, a := range l.Attachments {
				out = append(out, fmt.Sprintf("%s on %s as %q with version %s", a.Route.Key, l.ID(), a.Hostnames, a.Route.Source.GetResourceVersion()))
			}
		}
	}
	return out
}
