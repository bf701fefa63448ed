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

// splitting is what else than the weight decides which version gets a request.
type splitting struct {
	// otherWays is true when a rule or a route sends requests to one of the versions alone, or to
	// both without being the release's: the versions may be asked for different things.
	otherWays bool
	// sticky is true when sessions are kept, so that requests of one client do not fall at random.
	sticky bool
}

func (s splitting) with(o splitting) splitting {
	return splitting{s.otherWays || o.otherWays, s.sticky || o.sticky}
}

// splitting says by which ways requests may reach the two Services.
func (r *reconciler) splitting(ctx context.Context, w *world) (splitting, error) {
	pair, s := w.pair(), splitting{}
	for _, route := range append(w.routes, w.others...) {
		s = s.with(splits(route, pair))
	}
	for _, kind := range r.kinds() {
		for _, service := range []string{pair.stable, pair.canary} {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(routeKind(kind + "List"))
			if err := r.client.List(ctx, list, client.MatchingFields{indexForeign: pair.namespace + "/" + service}); err != nil {
				return splitting{}, fmt.Errorf("looking for %ss of other namespaces: %w", kind, err)
			}
			s.otherWays = s.otherWays || len(list.Items) > 0
		}
	}
	return s, nil
}

// splits says it of one route.
func splits(route *unstructured.Unstructured, pair backendPair) splitting {
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	s := splitting{}
	for i, refs := range backendRefs(route) {
		stable, canary := names(refs, pair.namespace, pair.stable), names(refs, pair.namespace, pair.canary)
		rule, _ := rules[i].(map[string]any)
		_, sticky := rule["sessionPersistence"]
		s = s.with(splitting{otherWays: stable != canary, sticky: stable && sticky})
	}
	return s
}
