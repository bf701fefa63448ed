// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// routeRecord is what AnnotationRelease keeps on a route for one Canary: enough
// to tell Headgate's numbers from the user's and to bring the latter back.
type routeRecord struct {
	Service string           `json:"service"`
	Canary  string           `json:"canary"`
	Percent int32            `json:"percent"`
	Rules   []ruleRecord     `json:"rules"`
	Closed  *rollout.Closing `json:"closed,omitempty"`
}

// ruleRecord is one rule: its backends without the canary's, their weights as
// the user wrote them (null where there was none), and what was written instead:
// for the Service, the sum of its weight and the canary's.
type ruleRecord struct {
	Backends []string `json:"backends"`
	Original []*int64 `json:"original"`
	Written  []int64  `json:"written"`
}

// backendPair are the two Services of a release, and their namespace.
type backendPair struct{ namespace, stable, canary string }

// edit is what a route's rules become: by index, the new backendRefs.
type edit struct {
	refs   map[int][]any
	record *routeRecord
}

// shift gives the edit that makes every rule naming the Service give percent of
// its share to the canary. It starts from the object as it is: what the user
// changed in the meantime is kept.
func shift(route *unstructured.Unstructured, pair backendPair, old *routeRecord, percent int32, closed *rollout.Closing) edit {
	e := edit{refs: map[int][]any{}, record: &routeRecord{Service: pair.stable, Canary: pair.canary, Percent: percent, Closed: closed}}
	used := map[int]bool{}
	for i, refs := range backendRefs(route) {
		original, ok := unshifted(refs, pair, old, i, used)
		if !ok {
			continue
		}
		next, record := shifted(original, pair, percent)
		e.refs[i] = next
		e.record.Rules = append(e.record.Rules, record)
	}
	return e
}

// restore gives the edit that brings the user's rules back.
func restore(route *unstructured.Unstructured, pair backendPair, old *routeRecord) edit {
	e := edit{refs: map[int][]any{}}
	used := map[int]bool{}
	for i, refs := range backendRefs(route) {
		if original, ok := unshifted(refs, pair, old, i, used); ok && names(refs, pair.namespace, pair.canary) {
			e.refs[i] = original
		}
	}
	return e
}

// carries says whether the route is exactly what shift would make of it.
func carries(route *unstructured.Unstructured, pair backendPair, record *routeRecord) bool {
	if record == nil {
		return false
	}
	want := shift(route, pair, record, record.Percent, record.Closed)
	all := backendRefs(route)
	for i, refs := range want.refs {
		if !sameJSON(refs, all[i]) {
			return false
		}
	}
	return len(want.refs) > 0 && sameJSON(want.record, record)
}

func backendRefs(route *unstructured.Unstructured) [][]any {
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	out := make([][]any, len(rules))
	for i, rule := range rules {
		if m, ok := rule.(map[string]any); ok {
			out[i], _ = m["backendRefs"].([]any)
		}
	}
	return out
}

// isService is true for a reference to a Service of the route's own namespace.
func isService(ref map[string]any, namespace, name string) bool {
	group, _ := ref["group"].(string)
	kind, given := ref["kind"].(string)
	ns, elsewhere := ref["namespace"].(string)
	return ref["name"] == name && group == "" && (!given || kind == "Service") && (!elsewhere || ns == namespace)
}

func names(refs []any, namespace, service string) bool {
	return slices.ContainsFunc(refs, func(r any) bool {
		ref, ok := r.(map[string]any)
		return ok && isService(ref, namespace, service)
	})
}

// sends says whether a rule gives requests to the canary.
func sends(refs []any, pair backendPair) bool {
	return slices.ContainsFunc(refs, func(r any) bool {
		ref, ok := r.(map[string]any)
		return ok && isService(ref, pair.namespace, pair.canary) && weight(ref) > 0
	})
}

// unshifted gives the backends of a rule as the user wants them, without the
// canary's. It is false for a rule that does not name the Service.
func unshifted(refs []any, pair backendPair, old *routeRecord, index int, used map[int]bool) (original []any, ok bool) {
	var kept []map[string]any
	shares := map[string]int64{} // of the canary, by port
	for _, r := range refs {
		ref, isMap := r.(map[string]any)
		if !isMap {
			return nil, false
		}
		if isService(ref, pair.namespace, pair.canary) {
			shares[port(ref)] += weight(ref)
			continue
		}
		kept = append(kept, runtime.DeepCopyJSON(ref))
		ok = ok || isService(ref, pair.namespace, pair.stable)
	}
	if !ok {
		return nil, false
	}
	if names(refs, pair.namespace, pair.canary) {
		unscale(kept, shares, pair, recorded(kept, pair, old, index, used))
	}
	for _, ref := range kept {
		original = append(original, ref)
	}
	return original, true
}

// unscale puts the user's weights in the place of Headgate's. Where the user
// changed another backend's weight during the release, that number was meant
// beside the ones that stood there, so those become the rule's own.
func unscale(kept []map[string]any, shares map[string]int64, pair backendPair, rule *ruleRecord) {
	untouched := rule != nil
	for i, ref := range kept {
		if rule != nil && !isService(ref, pair.namespace, pair.stable) && weight(ref) != rule.Written[i] {
			untouched = false
		}
	}
	for i, ref := range kept {
		stable := isService(ref, pair.namespace, pair.stable)
		switch {
		case untouched && rule.Original[i] == nil:
			delete(ref, "weight")
		case untouched:
			ref["weight"] = *rule.Original[i]
		case rule != nil && stable:
			ref["weight"] = rule.Written[i]
		case stable && len(kept) == 1:
			delete(ref, "weight") // the only backend: any weight means all
		case stable:
			ref["weight"] = weight(ref) + shares[port(ref)]
			shares[port(ref)] = 0
		}
	}
}

// recorded finds what was recorded of a rule: at its index, or, where rules
// were added or removed, anywhere else.
func recorded(kept []map[string]any, pair backendPair, old *routeRecord, index int, used map[int]bool) *ruleRecord {
	if old == nil {
		return nil
	}
	var backends []string
	for _, ref := range kept {
		backends = append(backends, identity(ref))
	}
	fits := func(i int) bool {
		r := old.Rules[i]
		return !used[i] && slices.Equal(r.Backends, backends) && len(r.Original) == len(backends) && len(r.Written) == len(backends)
	}
	untouched := func(i int) bool {
		for k, ref := range kept {
			if !isService(ref, pair.namespace, old.Service) && weight(ref) != old.Rules[i].Written[k] {
				return false
			}
		}
		return true
	}
	take := func(i int) *ruleRecord { used[i] = true; return &old.Rules[i] }
	for _, alike := range []func(int) bool{untouched, func(int) bool { return true }} {
		if index < len(old.Rules) && fits(index) && alike(index) {
			return take(index)
		}
		for i := range old.Rules {
			if fits(i) && alike(i) {
				return take(i)
			}
		}
	}
	return nil
}

func identity(ref map[string]any) string {
	return fmt.Sprintf("%v/%v/%v/%v/%v", ref["group"], ref["kind"], ref["namespace"], ref["name"], ref["port"])
}

func port(ref map[string]any) string { return fmt.Sprint(ref["port"]) }

func weight(ref map[string]any) int64 {
	switch w := ref["weight"].(type) {
	case int64:
		return w
	case float64:
		return int64(w)
	}
	return 1
}

// shifted gives the backends with the canary beside the Service.
func shifted(original []any, pair backendPair, percent int32) (next []any, record ruleRecord) {
	weights := make([]int64, len(original))
	for i, r := range original {
		weights[i] = weight(r.(map[string]any))
	}
	factor, divisor := scaling(weights)
	for i, r := range original {
		ref := runtime.DeepCopyJSON(r.(map[string]any))
		share := weights[i] / divisor * factor
		record.Backends = append(record.Backends, identity(ref))
		record.Original = append(record.Original, nil)
		if _, given := ref["weight"]; given {
			w := weights[i]
			record.Original[i] = &w
		}
		record.Written = append(record.Written, share)
		if !isService(ref, pair.namespace, pair.stable) {
			ref["weight"] = share
			next = append(next, ref)
			continue
		}
		// Rounded down: the canary never gets more than its step.
		canary := share * int64(percent) / 100
		ref["weight"] = share - canary
		twin := runtime.DeepCopyJSON(ref)
		twin["name"], twin["weight"] = pair.canary, canary
		next = append(next, ref, twin)
	}
	return next, record
}

// maxWeight is the largest weight the Gateway API allows.
const maxWeight = 1_000_000

// scaling gives the factor by which all weights of a rule are multiplied, after
// dividing by what they have in common, so that percents are whole numbers. Only
// beyond 10,000 to 1 the factor is smaller and the canary's share is rounded
// down; the other backends keep theirs exactly in any case.
func scaling(weights []int64) (factor, divisor int64) {
	largest := int64(0)
	for _, w := range weights {
		divisor = gcd(divisor, w)
		largest = max(largest, w)
	}
	if divisor == 0 {
		return 1, 1
	}
	return max(1, min(100, maxWeight/(largest/divisor))), divisor
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// records reads the annotation of an object: one entry per Canary.
func records(o interface{ GetAnnotations() map[string]string }) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	// What cannot be read is somebody's edit; it is written anew.
	if err := json.Unmarshal([]byte(o.GetAnnotations()[v1beta1.AnnotationRelease]), &out); err != nil {
		return map[string]json.RawMessage{}
	}
	return out
}

func recordOf[T any](o interface{ GetAnnotations() map[string]string }, canary string) *T {
	raw, ok := records(o)[canary]
	if !ok {
		return nil
	}
	out := new(T)
	if json.Unmarshal(raw, out) != nil {
		return nil
	}
	return out
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
