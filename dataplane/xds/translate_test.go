// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func translate(listeners ...*graph.Listener) xds.Snapshot {
	return xds.Translate(graphtest.Graph(listeners...), graphtest.GatewayKey)
}

func table(t *testing.T, snap xds.Snapshot, name string) *routev3.RouteConfiguration {
	t.Helper()
	scope, ok := snap.Routes[name].(*routev3.ScopedRouteConfiguration)
	if !ok {
		t.Fatalf("no scope %q among %d", name, len(snap.Routes))
	}
	return scope.RouteConfiguration
}

func wire(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// differing lists the resources, of all types, whose bytes differ.
func differing(t *testing.T, a, b xds.Snapshot) []string {
	t.Helper()
	var names []string
	compare := func(kind string, a, b map[string]proto.Message) {
		for name := range a {
			if b[name] == nil || !bytes.Equal(wire(t, a[name]), wire(t, b[name])) {
				names = append(names, kind+" "+name)
			}
		}
		for name := range b {
			if a[name] == nil {
				names = append(names, kind+" "+name)
			}
		}
	}
	compare("listener", a.Listeners, b.Listeners)
	compare("route", a.Routes, b.Routes)
	compare("cluster", a.Clusters, b.Clusters)
	compare("secret", a.Secrets, b.Secrets)
	compare("runtime", a.Runtimes, b.Runtimes)
	compare("filter", a.Filters, b.Filters)
	compare("mix", a.Mixes, b.Mixes)
	slices.Sort(names)
	return names
}

func released(weights ...int32) *graph.Listener {
	backends := []*graph.Backend{}
	for i, w := range weights {
		backends = append(backends, graphtest.Backend([]string{"stable", "canary", "other"}[i], w))
	}
	again := []*graph.Backend{}
	for _, b := range backends {
		clone := *b
		again = append(again, &clone)
	}
	route := graphtest.Route("checkout", nil, graphtest.Rule("/", backends...), graphtest.Rule("/api", again...))
	route.Running = true
	return graphtest.HTTP("http", 80, "", route)
}

func TestAWeightUnderReleaseIsOneRuntimeResource(t *testing.T) {
	before, after := translate(released(95, 5)), translate(released(0, 100))
	changed := differing(t, before, after)
	if len(changed) != 1 || !strings.HasPrefix(changed[0], "runtime ") {
		t.Fatalf("changed %v, want one runtime resource", changed)
	}
	runtime := after.Runtimes[strings.TrimPrefix(changed[0], "runtime ")].(*runtimev3.Runtime)
	if n := len(runtime.Layer.Fields); n != 4 {
		t.Errorf("it has %d keys, want those of both rules: 4", n)
	}
	for key, value := range runtime.Layer.Fields {
		want := 0.0
		if strings.HasSuffix(key, ".shop/canary/80") {
			want = 100
		}
		if value.GetNumberValue() != want {
			t.Errorf("%s is %v, want %v", key, value.GetNumberValue(), want)
		}
	}
	if size := proto.Size(runtime); size > 2000 {
		t.Errorf("it has %d bytes, want at most 2,000", size)
	}
}

func TestTheKeysOfARunningRouteAreTheOnesEnvoyReads(t *testing.T) {
	snap := translate(released(95, 5))
	keys := map[string]bool{}
	for _, m := range snap.Runtimes {
		for key := range m.(*runtimev3.Runtime).Layer.Fields {
			keys[key] = true
		}
	}
	for _, host := range table(t, snap, "http-80/*").VirtualHosts {
		for _, route := range host.Routes {
			weighted := route.GetRoute().GetWeightedClusters()
			for i, c := range weighted.GetClusters() {
				// Envoy composes them so: config/route/v3, WeightedCluster.runtime_key_prefix.
				key := weighted.RuntimeKeyPrefix + "." + c.Name
				if !keys[key] {
					t.Errorf("no runtime key %s", key)
				}
				if want := uint32(1 - min(i, 1)); c.Weight.Value != want {
					t.Errorf("the baseline of %s is %d, want %d: all to the first", c.Name, c.Weight.Value, want)
				}
			}
		}
	}
}

func TestOtherBackendsMeanOtherKeys(t *testing.T) {
	before, after := translate(released(0, 100)), translate(released(0, 100, 7))
	for name, m := range before.Runtimes {
		for key := range m.(*runtimev3.Runtime).Layer.Fields {
			if _, same := after.Runtimes[name].(*runtimev3.Runtime).Layer.Fields[key]; same {
				t.Errorf("the key %s means two things: the old route table would read the new weights", key)
			}
		}
	}
}

func TestARouteAtRestHasItsWeightsInTheTable(t *testing.T) {
	l := released(95, 5)
	l.Attachments[0].Route.Running = false
	snap := translate(l)
	weighted := table(t, snap, "http-80/*").VirtualHosts[0].Routes[0].GetRoute().GetWeightedClusters()
	if weighted.RuntimeKeyPrefix != "" || weighted.Clusters[0].Weight.Value != 95 || weighted.Clusters[1].Weight.Value != 5 {
		t.Errorf("got %v", weighted)
	}
	for name, m := range snap.Runtimes {
		if n := len(m.(*runtimev3.Runtime).Layer.Fields); n != 0 {
			t.Errorf("%s has %d keys, want none", name, n)
		}
	}
}

func TestEveryLayerOfTheBootstrapIsPublished(t *testing.T) {
	snap := translate(graphtest.HTTP("http", 80, ""))
	for _, name := range xds.RuntimeLayers() {
		if snap.Runtimes[name] == nil {
			t.Errorf("no %s: a proxy would wait for it", name)
		}
	}
}

// TestSnapshots writes down what every shared case becomes, and checks what holds for all.
func TestSnapshots(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			g := graph.Build(c.Resources)
			for _, gw := range g.Gateways {
				snap := xds.Translate(g, gw.Key)
				checkSnapshot(t, snap)
				if changed := differing(t, snap, xds.Translate(graph.Build(c.Resources), gw.Key)); len(changed) > 0 {
					t.Errorf("a second translation differs in %v", changed)
				}
			}
			c.Compare(t, "snapshot.yaml", snapshotsYAML(t, c, g))
		})
	}
}

func TestTheOrderOfRoutesInTheGraphDoesNotMatterBeyondPrecedence(t *testing.T) {
	rules := func(r *rand.Rand) *graph.Listener {
		var routes []*graph.Route
		for _, name := range []string{"a", "b", "c", "d"} {
			routes = append(routes, graphtest.Route(name, []string{name + ".example.com"}, graphtest.Rule("/", graphtest.Backend(name, 1))))
		}
		r.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		return graphtest.HTTP("http", 80, "", routes...)
	}
	want := translate(rules(rand.New(rand.NewPCG(0, 0))))
	for seed := range uint64(20) {
		if changed := differing(t, want, translate(rules(rand.New(rand.NewPCG(seed, 0))))); len(changed) > 0 {
			t.Fatalf("seed %d: %v", seed, changed)
		}
	}
}

// TestARouteAddedIsOneScope counts what a proxy has to be sent: it must not depend on how
// many other routes there are.
func TestARouteAddedIsOneScope(t *testing.T) {
	var routes []*graph.Route
	add := func() {
		name := fmt.Sprintf("r%d", len(routes))
		routes = append(routes, graphtest.Route(name, []string{name + ".example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1))))
	}
	for range 200 {
		add()
	}
	before := translate(graphtest.HTTP("http", 80, "", routes...))
	add()
	after := translate(graphtest.HTTP("http", 80, "", routes...))
	if got, want := differing(t, before, after), []string{"route http-80/r200.example.com"}; !slices.Equal(got, want) {
		t.Errorf("adding one route changes %v, want %v", got, want)
	}
	if size := proto.Size(after.Routes["http-80/r200.example.com"]); size > 2000 {
		t.Errorf("it has %d bytes, want at most 2,000", size)
	}
}
