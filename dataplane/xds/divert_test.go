// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func svc(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

var canaryAway = xds.Diversions{svc("canary"): svc("stable")}

// served gives, for each rule of a Snapshot in its path's order, the share of each cluster as
// Envoy computes it from the route table and the runtime keys.
func served(t *testing.T, snap xds.Snapshot) []map[string]float64 {
	t.Helper()
	values := map[string]any{}
	for _, m := range snap.Runtimes {
		for key, value := range m.(*runtimev3.Runtime).Layer.Fields {
			values[key] = value.AsInterface()
		}
	}
	byRule := map[string]map[string]float64{}
	rules := 0
	for _, host := range table(t, snap, "http-80/*").VirtualHosts {
		left := map[string]float64{}
		for _, route := range host.Routes {
			path := route.GetMatch().GetPathSeparatedPrefix()
			if byRule[path] == nil {
				byRule[path], left[path] = map[string]float64{}, 1
				rules++
			}
			if weighted := route.GetRoute().GetWeightedClusters(); weighted != nil {
				weights, sum := map[string]float64{}, 0.0
				for _, c := range weighted.Clusters {
					w := float64(c.Weight.GetValue())
					if v, ok := values[weighted.RuntimeKeyPrefix+"."+c.Name].(float64); ok {
						w = v
					}
					weights[c.Name] += w
					sum += w
				}
				for name, w := range weights {
					byRule[path][name] += w / sum
				}
				continue
			}
			upTo := 1.0
			if f := route.GetMatch().GetRuntimeFraction(); f != nil {
				upTo = float64(f.DefaultValue.Numerator) / 1e6
				if v, ok := values[f.RuntimeKey].(map[string]any); ok {
					upTo = v["numerator"].(float64) / 1e6
				}
			}
			before := 1 - left[path]
			if upTo > before+1e-9 {
				byRule[path][route.GetRoute().GetCluster()] += upTo - before
				left[path] = 1 - upTo
			}
		}
	}
	out := make([]map[string]float64, 0, rules)
	for i := range rules {
		out = append(out, byRule["/"+strconv.Itoa(i)])
	}
	return out
}

// diverted is the Snapshot with diverted runtimes.
func diverted(snap xds.Snapshot, d xds.Diversions) xds.Snapshot {
	snap.Runtimes = maps.Clone(snap.Runtimes)
	for name, m := range snap.Runtimes {
		snap.Runtimes[name] = xds.Divert(m.(*runtimev3.Runtime), d)
	}
	return snap
}

// rules is a running route whose rules match /0, /1 and so on.
func rules(of ...[]*graph.Backend) *graph.Listener {
	route := graphtest.Route("check.out", nil)
	for i, backends := range of {
		rule := graphtest.Rule("/"+strconv.Itoa(i), backends...)
		rule.Index = i
		route.Rules = append(route.Rules, rule)
	}
	route.Running = true
	return graphtest.HTTP("http", 80, "", route)
}

func rewriting(b *graph.Backend) *graph.Backend {
	b.Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Full: true, Value: "/v2"}}
	return b
}

func at(b *graph.Backend, port int32, protocol graph.UpstreamProtocol) *graph.Backend {
	b.Cluster.Port, b.Cluster.Protocol = port, protocol
	return b
}

func TestDivert(t *testing.T) {
	b := graphtest.Backend
	for _, tt := range []struct {
		name  string
		away  xds.Diversions
		rules [][]*graph.Backend
		want  []map[string]float64
	}{
		{
			"nothing is diverted", nil,
			[][]*graph.Backend{{b("stable", 80), b("canary", 20)}},
			[]map[string]float64{{"shop/stable/80": .8, "shop/canary/80": .2}},
		},
		{
			"stable gets what the canary had", canaryAway,
			[][]*graph.Backend{{b("stable", 80), b("canary", 20)}},
			[]map[string]float64{{"shop/stable/80": 1, "shop/canary/80": 0}},
		},
		{
			"also from a canary that had everything", canaryAway,
			[][]*graph.Backend{{b("stable", 0), b("canary", 100)}},
			[]map[string]float64{{"shop/stable/80": 1, "shop/canary/80": 0}},
		},
		{
			"a third backend keeps its share", canaryAway,
			[][]*graph.Backend{{b("stable", 30), b("canary", 20), b("other", 50)}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/canary/80": 0, "shop/other/80": .5}},
		},
		{
			"without the stable Service the others keep their ratio", canaryAway,
			[][]*graph.Backend{{b("a", 10), b("canary", 60), b("b", 30)}},
			[]map[string]float64{{"shop/a/80": .25, "shop/canary/80": 0, "shop/b/80": .75}},
		},
		{
			"a rule where only the canary has weight is the user's, as is one that has nothing else", canaryAway,
			[][]*graph.Backend{{b("a", 0), b("canary", 1)}, {b("canary", 1)}},
			[]map[string]float64{{"shop/a/80": 0, "shop/canary/80": 1}, {"shop/canary/80": 1}},
		},
		{
			"every rule of a route, and no other Service of a like name", canaryAway,
			[][]*graph.Backend{{b("stable", 1), b("canary", 1)}, {b("stable", 1), b("canary-2", 1)}, {b("canary", 3), b("stable", 1)}},
			[]map[string]float64{
				{"shop/stable/80": 1, "shop/canary/80": 0}, {"shop/stable/80": .5, "shop/canary-2/80": .5}, {"shop/stable/80": 1, "shop/canary/80": 0},
			},
		},
		{
			"a canary of another namespace is another one",
			xds.Diversions{{Namespace: "other", Name: "canary"}: svc("stable")},
			[][]*graph.Backend{{b("stable", 1), b("canary", 1)}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/canary/80": .5}},
		},
		{
			"each port's share goes to the same port", canaryAway,
			[][]*graph.Backend{{b("stable", 10), b("canary", 20), at(b("stable", 30), 81, graph.UpstreamH2C), at(b("canary", 40), 81, graph.UpstreamH2C)}},
			[]map[string]float64{{"shop/stable/80": .3, "shop/canary/80": 0, "shop/stable/81/h2c": .7, "shop/canary/81/h2c": 0}},
		},
		{
			"another port of it is better than none", canaryAway,
			[][]*graph.Backend{{at(b("stable", 50), 81, ""), b("canary", 20), b("other", 30)}},
			[]map[string]float64{{"shop/stable/81": .7, "shop/canary/80": 0, "shop/other/80": .3}},
		},
		{
			"a share that is answered with 500 is a backend like others", canaryAway,
			[][]*graph.Backend{{graphtest.Missing(10), b("canary", 90)}},
			[]map[string]float64{{"invalid-0": 1, "shop/canary/80": 0}},
		},
		{
			"an XBackend of that name is no Service", canaryAway,
			[][]*graph.Backend{{b("stable", 50), {Weight: 50, Valid: true, Cluster: graph.ClusterKey{Kind: graph.UpstreamXBackend, Namespace: "shop", Service: "canary", Port: 80}}}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/canary/80/xbackend": .5}},
		},
		{
			"two canaries of one Service",
			xds.Diversions{svc("a"): svc("stable"), svc("b"): svc("stable")},
			[][]*graph.Backend{{b("stable", 10), b("a", 20), b("b", 30), b("other", 40)}},
			[]map[string]float64{{"shop/stable/80": .6, "shop/a/80": 0, "shop/b/80": 0, "shop/other/80": .4}},
		},
		{
			"a Service that is diverted itself is given nothing",
			xds.Diversions{svc("canary"): svc("stable"), svc("stable"): svc("old")},
			[][]*graph.Backend{{b("stable", 10), b("canary", 20), b("other", 30)}},
			[]map[string]float64{{"shop/stable/80": 0, "shop/canary/80": 0, "shop/other/80": 1}},
		},
		{
			"in a circle nobody is given anything, and where nobody else is, nothing is moved",
			xds.Diversions{svc("canary"): svc("stable"), svc("stable"): svc("canary")},
			[][]*graph.Backend{{b("stable", 50), b("canary", 50)}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/canary/80": .5}},
		},
		{
			"a Service to which nobody was named",
			xds.Diversions{svc("canary"): {}},
			[][]*graph.Backend{{graphtest.Missing(10), b("canary", 50), b("other", 30)}},
			[]map[string]float64{{"invalid-0": .25, "shop/canary/80": 0, "shop/other/80": .75}},
		},
		{
			"a split", canaryAway,
			[][]*graph.Backend{{b("stable", 30), rewriting(b("canary", 20)), b("other", 50)}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/other/80": .5}},
		},
		{
			"a split with the canary at the end, and with everything on it", canaryAway,
			[][]*graph.Backend{{b("other", 50), b("stable", 30), rewriting(b("canary", 20))}, {b("stable", 0), rewriting(b("canary", 100))}},
			[]map[string]float64{{"shop/stable/80": .5, "shop/other/80": .5}, {"shop/stable/80": 1}},
		},
		{
			"a split without the stable Service", canaryAway,
			[][]*graph.Backend{{b("a", 10), rewriting(b("canary", 60)), b("b", 30)}},
			[]map[string]float64{{"shop/a/80": .25, "shop/b/80": .75}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := served(t, diverted(translate(rules(tt.rules...)), tt.away))
			if diff := cmp.Diff(tt.want, got, near); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// near bears what fractions in parts of a million cannot express.
var near = cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 2e-6 })

// TestAShareOfASplitGoesToTheEntryBeforeIt: with filters of their own, one Service can stand in a rule
// several times, each followed by its canary.
func TestAShareOfASplitGoesToTheEntryBeforeIt(t *testing.T) {
	b := graphtest.Backend
	first, second := rewriting(b("stable", 10)), rewriting(b("stable", 30))
	second.Filters.Rewrite.Path.Value = "/v3"
	firstCanary, secondCanary := rewriting(b("canary", 20)), rewriting(b("canary", 40))
	secondCanary.Filters.Rewrite = second.Filters.Rewrite
	got := diverted(translate(rules([]*graph.Backend{first, firstCanary, second, secondCanary})), canaryAway)
	first.Weight, firstCanary.Weight, second.Weight, secondCanary.Weight = 30, 0, 70, 0
	want := translate(rules([]*graph.Backend{first, firstCanary, second, secondCanary}))
	if names := differing(t, want, got); len(names) > 0 {
		t.Errorf("differs in %v", names)
	}
}

// TestADiversionIsWhatTheReleaseWritesNext makes rules as a release does: each backend that
// is the stable Service is followed by the canary, which has a share of what both have.
func TestADiversionIsWhatTheReleaseWritesNext(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 500 {
		var backends []*graph.Backend
		var giveBack []func()
		for i := range 1 + r.IntN(3) {
			name := "stable"
			if i > 0 {
				name = fmt.Sprint("other-", i)
			}
			stable := at(graphtest.Backend(name, r.Int32N(1000)), 80+int32(r.IntN(2)), "")
			if r.IntN(3) == 0 {
				stable = rewriting(stable)
			}
			backends = append(backends, stable)
			if name == "stable" {
				canary := *stable
				canary.Cluster.Service = "canary"
				canary.Weight = stable.Weight * r.Int32N(101) / 100
				stable.Weight -= canary.Weight
				backends = append(backends, &canary)
				giveBack = append(giveBack, func() { stable.Weight, canary.Weight = stable.Weight+canary.Weight, 0 })
			}
		}
		got := diverted(translate(rules(backends)), canaryAway)
		for _, f := range giveBack {
			f()
		}
		if names := differing(t, translate(rules(backends)), got); len(names) > 0 {
			t.Fatalf("%v differ for %v", names, served(t, got))
		}
	}
}

// TestDivertProperties looks at any mix of backends and weights, as Envoy reads them.
func TestDivertProperties(t *testing.T) {
	names := []string{"stable", "canary", "a", "b", "c"}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 3000 {
		d := xds.Diversions{}
		for range 1 + r.IntN(2) {
			d[svc(names[r.IntN(len(names))])] = svc(names[r.IntN(len(names))])
		}
		var of [][]*graph.Backend
		for range 1 + r.IntN(3) {
			var backends []*graph.Backend
			for range 1 + r.IntN(5) {
				b := graphtest.Backend(names[r.IntN(len(names))], []int32{0, 1, 10, 100, 999}[r.IntN(5)])
				switch r.IntN(8) {
				case 0:
					b = rewriting(b)
				case 1:
					b = graphtest.Missing(b.Weight)
				case 2:
					b = at(b, 81, graph.UpstreamH2C)
				}
				backends = append(backends, b)
			}
			of = append(of, backends)
		}
		snap := translate(rules(of...))
		untouched := map[string]proto.Message{}
		for name, m := range snap.Runtimes {
			untouched[name] = proto.Clone(m)
		}
		after := diverted(snap, d)
		checkDiverted(t, d, served(t, snap), served(t, after))
		again := diverted(after, d)
		for name := range snap.Runtimes {
			if !proto.Equal(untouched[name], snap.Runtimes[name]) {
				t.Fatal("the layer that was given is changed")
			}
			if again.Runtimes[name] != after.Runtimes[name] {
				t.Fatal("what was diverted is diverted once more")
			}
			if snap.Runtimes[name] != after.Runtimes[name] && proto.Equal(snap.Runtimes[name], after.Runtimes[name]) {
				t.Fatal("an equal layer is another one")
			}
		}
		if t.Failed() {
			t.Fatalf("round %d: %v", round, d)
		}
	}
}

// checkDiverted compares what Envoy serves before and after, rule by rule.
func checkDiverted(t *testing.T, d xds.Diversions, before, after []map[string]float64) {
	t.Helper()
	away := func(cluster string) bool { _, away := d[ownerOf(cluster)]; return away }
	plain := func(cluster string) bool {
		for _, to := range d {
			if ownerOf(cluster) == to {
				return false
			}
		}
		return !away(cluster)
	}
	for i, was := range before {
		is := after[i]
		others, sum := 0.0, 0.0
		for cluster, share := range was {
			if !away(cluster) {
				others += share
			}
		}
		for _, share := range is {
			sum += share
		}
		if len(was) > 0 && math.Abs(sum-1) > 1e-5 {
			t.Errorf("rule %d: the shares add up to %v", i, sum)
		}
		for x := range was {
			if away(x) && is[x] > 0 && others > 1e-9 {
				t.Errorf("rule %d: %s still has %v of %v", i, x, is[x], was)
			}
			for y := range was {
				if plain(x) && plain(y) && math.Abs(is[x]*was[y]-is[y]*was[x]) > 1e-5 {
					t.Errorf("rule %d: %s and %s had %v and %v, and have %v and %v", i, x, y, was[x], was[y], is[x], is[y])
				}
			}
		}
	}
}

// ownerOf is what a cluster of these tests is named after.
func ownerOf(cluster string) types.NamespacedName {
	parts := strings.Split(cluster, "/")
	if len(parts) < 3 {
		return types.NamespacedName{}
	}
	return types.NamespacedName{Namespace: parts[0], Name: parts[1]}
}

// TestDivertLeavesOtherKeysAlone: the share of requests that are logged, and what nobody knows.
func TestDivertLeavesOtherKeysAlone(t *testing.T) {
	snap := translate(rules([]*graph.Backend{graphtest.Backend("stable", 1), graphtest.Backend("canary", 1)}))
	for name, m := range snap.Runtimes {
		layer := m.(*runtimev3.Runtime)
		if len(layer.Layer.Fields) == 0 {
			continue
		}
		value := slices.Collect(maps.Values(layer.Layer.Fields))[0]
		for _, key := range []string{"headgate.access_log", "shop/canary/80", "a/b/c/d/e", ""} {
			layer.Layer.Fields[key] = value
		}
		after := xds.Divert(layer, canaryAway)
		if after == layer {
			t.Fatalf("%s is not diverted", name)
		}
		for _, key := range []string{"headgate.access_log", "shop/canary/80", "a/b/c/d/e", ""} {
			if !proto.Equal(after.Layer.Fields[key], layer.Layer.Fields[key]) {
				t.Errorf("%q is changed", key)
			}
		}
	}
	if empty := (&runtimev3.Runtime{Name: "weights-0"}); xds.Divert(empty, canaryAway) != empty {
		t.Error("an empty layer is changed")
	}
}

func BenchmarkDivert(b *testing.B) {
	listener := graphtest.HTTP("http", 80, "")
	for i := range 5000 {
		route := graphtest.Route(fmt.Sprint("route-", i), []string{fmt.Sprintf("h%d.example", i)},
			graphtest.Rule("/", graphtest.Backend(fmt.Sprint("stable-", i), 80), graphtest.Backend(fmt.Sprint("canary-", i), 20)))
		route.Running = true
		listener.Attachments = append(listener.Attachments, &graph.Attachment{Route: route, Listener: listener, Hostnames: route.Hostnames})
	}
	snap := translate(listener)
	d := xds.Diversions{svc("canary-7"): svc("stable-7")}
	for b.Loop() {
		n := 0
		for _, m := range snap.Runtimes {
			if xds.Divert(m.(*runtimev3.Runtime), d) != m {
				n++
			}
		}
		if n != 1 {
			b.Fatalf("%d layers differ", n)
		}
	}
}
