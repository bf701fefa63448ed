// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// indexForeign finds the routes that name a Service of another namespace, by
// "<namespace>/<name>".
const indexForeign = "headgate.foreignBackend"

// foreignBackends are the values of indexForeign for a route.
func foreignBackends(o client.Object) []string {
	route, ok := o.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	var out []string
	for _, refs := range backendRefs(route) {
		for _, r := range refs {
			ref, _ := r.(map[string]any)
			name, _ := ref["name"].(string)
			ns, _ := ref["namespace"].(string)
			if ns != "" && ns != route.GetNamespace() && isService(ref, ns, name) {
				out = append(out, ns+"/"+name)
			}
		}
	}
	return out
}

// mixed says whether requests may reach the two Services by other ways than by the weight
// of the release, or not at random.
func (r *reconciler) mixed(ctx context.Context, w *world) (bool, error) {
	pair := w.pair()
	for _, route := range append(w.routes, w.others...) {
		if mixes(route, pair) {
			return true, nil
		}
	}
	for _, kind := range r.kinds() {
		for _, service := range []string{pair.stable, pair.canary} {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(routeKind(kind + "List"))
			if err := r.client.List(ctx, list, client.MatchingFields{indexForeign: pair.namespace + "/" + service}); err != nil {
				return false, fmt.Errorf("looking for %ss of other namespaces: %w", kind, err)
			}
			if len(list.Items) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// mixes is true for a route with a rule that sends requests to one of the pair alone, or keeps
// sessions, so that requests of one client do not fall at random.
func mixes(route *unstructured.Unstructured, pair backendPair) bool {
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	for i, refs := range backendRefs(route) {
		stable, canary := names(refs, pair.namespace, pair.stable), names(refs, pair.namespace, pair.canary)
		rule, _ := rules[i].(map[string]any)
		_, sticky := rule["sessionPersistence"]
		if stable != canary || stable && sticky {
			return true
		}
	}
	return false
}
