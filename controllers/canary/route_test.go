// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

var pair = backendPair{namespace: "shop", stable: "checkout", canary: "checkout-canary"}

func routeOf(t *testing.T, rules string) *unstructured.Unstructured {
	t.Helper()
	route := &unstructured.Unstructured{}
	body, err := yaml.YAMLToJSON([]byte("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {rules: " + rules + "}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := route.UnmarshalJSON(body); err != nil {
		t.Fatal(err)
	}
	return route
}

// with gives the route as the edit makes it, annotation included.
func with(t *testing.T, route *unstructured.Unstructured, e edit) *unstructured.Unstructured {
	t.Helper()
	out := route.DeepCopy()
	rules, _, _ := unstructured.NestedSlice(out.Object, "spec", "rules")
	for i, refs := range e.refs {
		rules[i].(map[string]any)["backendRefs"] = refs
	}
	if err := unstructured.SetNestedSlice(out.Object, rules, "spec", "rules"); err != nil {
		t.Fatal(err)
	}
	out.SetAnnotations(nil)
	if e.record != nil {
		raw, err := json.Marshal(map[string]any{"checkout": e.record})
		if err != nil {
			t.Fatal(err)
		}
		out.SetAnnotations(map[string]string{v1beta1.AnnotationRelease: string(raw)})
	}
	return out
}

func annotated(route *unstructured.Unstructured) *routeRecord {
	return recordOf[routeRecord](route, "checkout")
}

func TestShift(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		percent     int32
		want        []string
	}{
		{"gives the canary its percents of a rule with one backend", `[{backendRefs: [{name: checkout, port: 80}]}]`, 5, []string{"checkout=95 checkout-canary=5"}},
		{"does so whatever the only backend's weight was", `[{backendRefs: [{name: checkout, port: 80, weight: 7}]}]`, 5, []string{"checkout=95 checkout-canary=5"}},
		{"keeps the share of other backends exactly", `[{backendRefs: [{name: checkout, port: 80, weight: 90}, {name: legacy, port: 80, weight: 10}]}]`, 25, []string{"checkout=675 checkout-canary=225 legacy=100"}},
		{"leaves rules alone that do not name the Service", `[{backendRefs: [{name: other, port: 80}]}, {filters: [{type: RequestRedirect}]}]`, 25, []string{"other=<nil>", ""}},
		{"does not take a Service of another namespace for its own", `[{backendRefs: [{name: checkout, namespace: bank, port: 80}]}]`, 25, []string{"checkout=<nil>"}},
		{"does not take another kind for the Service", `[{backendRefs: [{name: checkout, group: example.com, kind: Bucket}]}]`, 25, []string{"checkout=<nil>"}},
		{"splits each of several ports", `[{backendRefs: [{name: checkout, port: 80}, {name: checkout, port: 81, weight: 3}]}]`, 50, []string{"checkout=50 checkout-canary=50 checkout=150 checkout-canary=150"}},
		{"stays within the largest weight of the API, and rounds the canary down", `[{backendRefs: [{name: checkout, port: 80, weight: 999999}, {name: legacy, port: 80, weight: 2}]}]`, 5, []string{"checkout=950000 checkout-canary=49999 legacy=2"}},
		{"leaves a rule without traffic without traffic", `[{backendRefs: [{name: checkout, port: 80, weight: 0}]}]`, 50, []string{"checkout=0 checkout-canary=0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			route := routeOf(t, c.rules)
			shifted := with(t, route, shift(route, pair, nil, c.percent, nil))
			if got := weightsOf(shifted); !cmp.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			back := with(t, shifted, restore(shifted, pair, annotated(shifted)))
			if diff := cmp.Diff(route.Object, back.Object); diff != "" {
				t.Errorf("not restored:\n%s", diff)
			}
		})
	}
}

func TestShiftKeepsWhatTheUserChanged(t *testing.T) {
	const before = `[{name: a, backendRefs: [{name: checkout, port: 80}, {name: legacy, port: 80, weight: 3}]}, {backendRefs: [{name: checkout, port: 80}]}]`
	for _, c := range []struct {
		name  string
		edit  func(rules []any) []any
		at10  []string
		after []string
	}{
		{
			"nothing", func(rules []any) []any { return rules },
			[]string{"checkout=90 checkout-canary=10 legacy=300", "checkout=90 checkout-canary=10"},
			[]string{"checkout=<nil> legacy=3", "checkout=<nil>"},
		},
		{
			"a rule put before the others",
			func(rules []any) []any {
				return append([]any{map[string]any{"backendRefs": []any{map[string]any{"name": "checkout", "port": int64(80), "weight": int64(2)}}}}, rules...)
			},
			[]string{"checkout=90 checkout-canary=10", "checkout=90 checkout-canary=10 legacy=300", "checkout=90 checkout-canary=10"},
			[]string{"checkout=2", "checkout=<nil> legacy=3", "checkout=<nil>"},
		},
		{
			"the weight of another backend, meant beside those that stood there",
			func(rules []any) []any {
				rules[0].(map[string]any)["backendRefs"].([]any)[2].(map[string]any)["weight"] = int64(50)
				return rules
			},
			[]string{"checkout=180 checkout-canary=20 legacy=100", "checkout=90 checkout-canary=10"},
			[]string{"checkout=100 legacy=50", "checkout=<nil>"},
		},
		{
			"the canary's weight by hand",
			func(rules []any) []any {
				rules[1].(map[string]any)["backendRefs"].([]any)[1].(map[string]any)["weight"] = int64(77)
				return rules
			},
			[]string{"checkout=90 checkout-canary=10 legacy=300", "checkout=90 checkout-canary=10"},
			[]string{"checkout=<nil> legacy=3", "checkout=<nil>"},
		},
		{
			"a rule taken away", func(rules []any) []any { return rules[1:] },
			[]string{"checkout=90 checkout-canary=10"},
			[]string{"checkout=<nil>"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			route := routeOf(t, before)
			shifted := with(t, route, shift(route, pair, nil, 5, nil))
			rules, _, _ := unstructured.NestedSlice(shifted.Object, "spec", "rules")
			if err := unstructured.SetNestedSlice(shifted.Object, c.edit(rules), "spec", "rules"); err != nil {
				t.Fatal(err)
			}
			next := with(t, shifted, shift(shifted, pair, annotated(shifted), 10, nil))
			if got := weightsOf(next); !cmp.Equal(got, c.at10) {
				t.Errorf("at 10 %%: %q, want %q", got, c.at10)
			}
			if !carries(next, pair, annotated(next)) {
				t.Error("the route is not taken for what it is")
			}
			back := with(t, next, restore(next, pair, annotated(next)))
			if got := weightsOf(back); !cmp.Equal(got, c.after) {
				t.Errorf("afterwards: %q, want %q", got, c.after)
			}
		})
	}
}

// TestShiftAndRestoreAreExact walks random routes through random weights.
func TestShiftAndRestoreAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 500 {
		var rules []any
		for range 1 + r.IntN(4) {
			var refs []any
			for range r.IntN(4) {
				ref := map[string]any{"name": []string{"checkout", "legacy", "other"}[r.IntN(3)], "port": int64(80 + r.IntN(2)), "unknown": map[string]any{"x": "y"}}
				if r.IntN(2) == 0 {
					ref["weight"] = int64(r.IntN([]int{2, 100, 1_000_001}[r.IntN(3)]))
				}
				refs = append(refs, ref)
			}
			rules = append(rules, map[string]any{"unknown": "z", "backendRefs": refs})
		}
		route := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{}, "spec": map[string]any{"rules": rules}}}
		current := route.DeepCopy()
		for range 1 + r.IntN(4) {
			percent := int32(r.IntN(101))
			current = with(t, current, shift(current, pair, annotated(current), percent, nil))
			checkShares(t, n, route, current, percent)
		}
		back := with(t, current, restore(current, pair, annotated(current)))
		if diff := cmp.Diff(route.Object["spec"], back.Object["spec"]); diff != "" {
			t.Fatalf("route %d is not restored:\n%s", n, diff)
		}
	}
}

func checkShares(t *testing.T, n int, before, after *unstructured.Unstructured, percent int32) {
	t.Helper()
	share := func(refs []any, name string) (of, total float64) {
		for _, r := range refs {
			ref := r.(map[string]any)
			w := float64(weight(ref))
			total += w
			if ref["name"] == name {
				of += w
			}
			if w < 0 || w > maxWeight {
				t.Fatalf("route %d has a weight of %v", n, w)
			}
		}
		return of, total
	}
	for i, refs := range backendRefs(before) {
		if !names(refs, "shop", "checkout") {
			continue
		}
		for _, other := range []string{"legacy", "other"} {
			a, x := share(refs, other)
			b, y := share(backendRefs(after)[i], other)
			if fmt.Sprintf("%.9f", a*y) != fmt.Sprintf("%.9f", b*x) {
				t.Fatalf("route %d: the share of %s changed from %v/%v to %v/%v", n, other, a, x, b, y)
			}
		}
		stable, _ := share(backendRefs(after)[i], "checkout")
		canary, _ := share(backendRefs(after)[i], "checkout-canary")
		if canary*100 > (stable+canary)*float64(percent)+1e-6 {
			t.Fatalf("route %d: the canary has %v of %v at %d %%", n, canary, stable+canary, percent)
		}
	}
}
