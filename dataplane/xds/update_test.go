// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

// edit changes a route of the resources somehow, and names it. The former object stays.
func edit(r *rand.Rand, res *graph.Resources, version int) (graph.RouteKey, bool) {
	byName := func(a, b types.NamespacedName) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}
	if len(res.GRPCRoutes) > 0 && r.IntN(4) == 0 {
		key := slices.SortedFunc(maps.Keys(res.GRPCRoutes), byName)[r.IntN(len(res.GRPCRoutes))]
		route := res.GRPCRoutes[key].DeepCopy()
		route.ResourceVersion = fmt.Sprint(version)
		route.Generation++
		if n := len(route.Spec.Rules); n > 0 && n < 4 && r.IntN(2) == 0 {
			route.Spec.Rules = append(route.Spec.Rules, *route.Spec.Rules[r.IntN(n)].DeepCopy())
		} else {
			route.Spec.Rules = nil
		}
		res.GRPCRoutes = maps.Clone(res.GRPCRoutes)
		res.GRPCRoutes[key] = route
		return graph.RouteKey{Kind: graph.KindGRPCRoute, NamespacedName: key}, true
	}
	if len(res.HTTPRoutes) == 0 {
		return graph.RouteKey{}, false
	}
	keys := slices.SortedFunc(maps.Keys(res.HTTPRoutes), byName)
	key := keys[r.IntN(len(keys))]
	route := res.HTTPRoutes[key].DeepCopy()
	route.ResourceVersion = fmt.Sprint(version)
	route.Generation++
	other := res.HTTPRoutes[keys[r.IntN(len(keys))]]
	switch r.IntN(6) {
	case 0: // another's rules: other matches, filters and backends
		route.Spec.Rules = other.DeepCopy().Spec.Rules
	case 1:
		if len(route.Spec.Rules) < 4 {
			route.Spec.Rules = append(route.Spec.Rules, other.DeepCopy().Spec.Rules[:min(1, len(other.Spec.Rules))]...)
		}
	case 2:
		route.Annotations = map[string]string{v1beta1.AnnotationRelease: "shop/web"}
	case 3:
		route.Annotations = nil
	case 4: // attaches otherwise
		route.Spec.Hostnames = append([]gwv1.Hostname{"*.example.com"}, other.Spec.Hostnames[:min(1, len(other.Spec.Hostnames))]...)
	default:
		for i := range route.Spec.Rules {
			for j := range route.Spec.Rules[i].BackendRefs {
				route.Spec.Rules[i].BackendRefs[j].Weight = new(r.Int32N(100))
			}
		}
	}
	res.HTTPRoutes = maps.Clone(res.HTTPRoutes)
	res.HTTPRoutes[key] = route
	return graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key}, true
}

// brought brings a Snapshot up to date, and tells whether the difference alone was enough.
func brought(tr *xds.Translator, g *graph.Graph, gateway types.NamespacedName, changed []graph.Change, renewed bool, before xds.Snapshot) (xds.Snapshot, bool) {
	if renewed {
		if d, ok := tr.Update(gateway, changed); ok {
			return d.Apply(before), true
		}
	}
	return tr.Translate(g, gateway), false
}

// TestAnUpdateEqualsWhatIsMadeAnew changes routes one to three at a time, and compares with
// a graph and a translation that remember nothing.
func TestAnUpdateEqualsWhatIsMadeAnew(t *testing.T) {
	updates, builds := 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 9))
		worlds := []graph.Resources{goldens.Arbitrary(int64(seed)), manyRoutes(12)}
		for _, c := range goldens.Cases(t) {
			worlds = append(worlds, c.Resources)
		}
		res := worlds[r.IntN(len(worlds))]
		if seed%2 == 0 { // policies keep a graph from being renewed for other backends
			res.BackendTLSPolicies, res.XBackends, res.XBackendTrafficPolicies = nil, nil, nil
		}
		builder, translator := graph.Builder{}, xds.Translator{}
		g := builder.Build(res)
		snaps := map[types.NamespacedName]xds.Snapshot{}
		for step := range 12 {
			var keys []graph.RouteKey
			for range 1 + r.IntN(3) {
				if key, ok := edit(r, &res, 1000*(step+1)+len(keys)); ok && !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
			var changed []graph.Change
			ok := r.IntN(4) > 0 // else something else asks for the whole
			if ok {
				changed, ok = builder.Renew(res, keys)
			}
			if !ok {
				g = builder.Build(res)
			}
			if ok {
				updates++
			} else {
				builds++
			}
			fresh := graph.Build(res)
			for i, route := range fresh.Routes {
				if got := g.Routes[i]; got.Key != route.Key || !reflect.DeepEqual(got.Rules, route.Rules) || !reflect.DeepEqual(got.Problems, route.Problems) || got.Source != route.Source {
					t.Fatalf("seed %d, step %d: route %s differs", seed, step, route.Key)
				}
			}
			for _, gw := range fresh.Gateways {
				is, _ := brought(&translator, g, gw.Key, changed, ok, snaps[gw.Key])
				snaps[gw.Key] = is
				want := xds.Translate(fresh, gw.Key)
				if differing := differing(t, is, want); len(differing) > 0 {
					t.Fatalf("seed %d, step %d: of Gateway %s differ %v", seed, step, gw.Key, differing)
				}
				if !maps.Equal(is.ClusterKeys, want.ClusterKeys) {
					t.Fatalf("seed %d, step %d: of Gateway %s the upstreams differ", seed, step, gw.Key)
				}
			}
		}
	}
	if updates < 50 || builds < 50 {
		t.Errorf("%d updates and %d builds are too few to say anything", updates, builds)
	}
}

// TestAnUpdateOfOneRouteIsTheWorkOfOneRoute counts what is made anew.
func TestAnUpdateOfOneRouteIsTheWorkOfOneRoute(t *testing.T) {
	res := manyRoutes(300)
	gateway := types.NamespacedName{Namespace: "shop", Name: "edge"}
	builder, translator := graph.Builder{}, xds.Translator{}
	before := translator.Translate(builder.Build(res), gateway)
	changeRoute(res, 2)
	route := graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: types.NamespacedName{Namespace: "shop", Name: "r0"}}
	changed, ok := builder.Renew(res, []graph.RouteKey{route})
	if !ok || len(changed) != 1 {
		t.Fatalf("an update of one route: %v, %d routes", ok, len(changed))
	}
	delta, ok := translator.Update(gateway, changed)
	if !ok {
		t.Fatal("the whole has to be translated for one route")
	}
	if got, want := slices.Sorted(maps.Keys(delta.Routes)), []string{"http-80/h0.example.com"}; !slices.Equal(got, want) {
		t.Errorf("made anew were %v, want %v", got, want)
	}
	if n := len(delta.Clusters) + len(delta.ClusterKeys) + len(delta.Runtimes) + len(delta.Gone); n > 0 {
		t.Errorf("%d other things were made anew", n)
	}
	if after := delta.Apply(before); after.Routes["http-80/h0.example.com"] != delta.Routes["http-80/h0.example.com"] || len(after.Routes) != len(before.Routes) {
		t.Errorf("with the difference there are %d scopes, before were %d", len(after.Routes), len(before.Routes))
	}
}
