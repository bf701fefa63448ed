// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=listenersets,verbs=get

// listenerSetMemory is how long it is remembered to which Gateway a ListenerSet belongs.
const listenerSetMemory = time.Minute

// parentGateway is the Gateway of a ListenerSet as it was read at a time; nil where there is none.
type parentGateway struct {
	gateway *types.NamespacedName
	at      time.Time
}

// gateways are the Gateways that the release's routes belong to, in order and once each.
func (r *reconciler) gateways(ctx context.Context, w *world, now time.Time) ([]types.NamespacedName, error) {
	var out []types.NamespacedName
	for _, route := range w.routes {
		refs, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
		for _, each := range refs {
			ref, _ := each.(map[string]any)
			key, kind := parentOf(ref, route.GetNamespace())
			switch kind {
			case "Gateway":
				out = append(out, key)
			case "ListenerSet":
				gateway, err := r.gatewayOf(ctx, key, now)
				if err != nil {
					return nil, err
				}
				if gateway != nil {
					out = append(out, *gateway)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(out), nil
}

// parentOf is what a parentRef names, and its kind; "" for one of another group.
func parentOf(ref map[string]any, namespace string) (types.NamespacedName, string) {
	text := func(field, otherwise string) string {
		s, _ := ref[field].(string)
		return cmp.Or(s, otherwise)
	}
	if text("group", gatewayGroup) != gatewayGroup {
		return types.NamespacedName{}, ""
	}
	return types.NamespacedName{Namespace: text("namespace", namespace), Name: text("name", "")}, text("kind", "Gateway")
}

// gatewayOf is the Gateway that a ListenerSet belongs to; nil for none. It is read from the API
// server at most once a minute: a watch of all ListenerSets for this alone would cost more.
func (r *reconciler) gatewayOf(ctx context.Context, key types.NamespacedName, now time.Time) (*types.NamespacedName, error) {
	if known, ok := r.listenerSets.Load(key); ok && now.Sub(known.(parentGateway).at) < listenerSetMemory {
		return known.(parentGateway).gateway, nil
	}
	set := &unstructured.Unstructured{}
	set.SetGroupVersionKind(routeKind("ListenerSet"))
	found := parentGateway{at: now}
	err := r.live.Get(ctx, key, set)
	switch {
	case meta.IsNoMatchError(err), err != nil && ignoreMissing(err) == nil:
	case err != nil:
		return nil, fmt.Errorf("reading ListenerSet %s: %w", key, err)
	default:
		ref, _, _ := unstructured.NestedMap(set.Object, "spec", "parentRef")
		if gateway, kind := parentOf(ref, key.Namespace); kind == "Gateway" {
			found.gateway = &gateway
		}
	}
	r.listenerSets.Store(key, found)
	return found.gateway, nil
}
