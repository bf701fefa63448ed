// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

// outline is the graph as text, without the pointers that make a circle of it.
func outline(g *graph.Graph) []string {
	out := problems(g)
	for _, gw := range g.Gateways {
		for _, l := range gw.Listeners {
			out = append(out, "listener "+gw.Key.String()+" "+l.ID())
			for _, a := range l.Attachments {
				out = append(out, append([]string{"attachment " + a.Route.Key.String()}, a.Hostnames...)...)
			}
		}
	}
	for _, r := range g.Routes {
		out = append(out, "route "+string(r.Kind)+" "+r.Key.String())
		for _, rule := range r.Rules {
			for _, b := range rule.Backends {
				out = append(out, "backend "+b.Cluster.Name())
			}
		}
	}
	return out
}

func TestTheOrderOfObjectsDoesNotMatter(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		want := graph.Build(c.Resources)
		for range 5 {
			got := graph.Build(goldens.Shuffled(c.Resources))
			if diff := cmp.Diff(outline(want), outline(got)); diff != "" {
				t.Errorf("%s: the graph depends on the order:\n%s", c.Name, diff)
			}
		}
	}
}

func TestArgumentsAreNotModified(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		before := goldens.Shuffled(c.Resources)
		deepCopy(before.Gateways, (*gwv1.Gateway).DeepCopy)
		deepCopy(before.ListenerSets, (*gwv1.ListenerSet).DeepCopy)
		deepCopy(before.HTTPRoutes, (*gwv1.HTTPRoute).DeepCopy)
		deepCopy(before.GRPCRoutes, (*gwv1.GRPCRoute).DeepCopy)
		deepCopy(before.Services, (*corev1.Service).DeepCopy)
		deepCopy(before.Secrets, (*corev1.Secret).DeepCopy)
		graph.Build(c.Resources)
		if diff := cmp.Diff(before, c.Resources, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: Build changed its argument:\n%s", c.Name, diff)
		}
	}
}

func deepCopy[K comparable, T any](m map[K]*T, f func(*T) *T) {
	for k, v := range m {
		m[k] = f(v)
	}
}

// FuzzBuild feeds arbitrary objects: nothing may panic, two builds agree, and
// what the translation relies on holds.
func FuzzBuild(f *testing.F) {
	for seed := range int64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		r := goldens.Arbitrary(seed)
		g := graph.Build(r)
		if diff := cmp.Diff(outline(g), outline(graph.Build(r))); diff != "" {
			t.Errorf("two builds of the same objects differ:\n%s", diff)
		}
		graph.Wanted(r)
		for _, gw := range g.Gateways {
			for _, l := range gw.Listeners {
				if l.Valid && (l.Port < 1 || l.Port > 65535 || l.Protocol == gwv1.HTTPSProtocolType && len(l.Certificates) == 0) {
					t.Errorf("listener %s is valid with port %d and %d certificates", l.Name, l.Port, len(l.Certificates))
				}
				for _, a := range l.Attachments {
					if len(a.Hostnames) == 0 || !slices.IsSorted(a.Hostnames) {
						t.Errorf("an attachment has hostnames %q", a.Hostnames)
					}
				}
			}
		}
		for _, route := range g.Routes {
			for _, rule := range route.Rules {
				if len(rule.Matches) == 0 && !route.L4() {
					t.Errorf("rule %d of %s matches nothing", rule.Index, route.Key)
				}
				if rule.Valid != (len(rule.Problems) == 0) {
					t.Errorf("rule %d of %s: valid %v with %d problems", rule.Index, route.Key, rule.Valid, len(rule.Problems))
				}
				for _, b := range rule.Backends {
					if b.Weight < 0 || b.Valid && b.Cluster.Port < 1 {
						t.Errorf("a valid backend has weight %d and port %d", b.Weight, b.Cluster.Port)
					}
				}
			}
		}
	})
}
