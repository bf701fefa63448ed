// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
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
func (r *reconciler) gateways(ctx context.Context, w *world, now time.Time) []types.NamespacedName {
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
				if gateway := r.gatewayOf(ctx, key, now); gateway != nil {
					out = append(out, *gateway)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(out)
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
// server at most once a minute: a watch of all ListenerSets for this alone would cost more. Where
// it cannot be read what was known stays, or nothing: then less is measured, but taking traffic back
// must not depend on it.
func (r *reconciler) gatewayOf(ctx context.Context, key types.NamespacedName, now time.Time) *types.NamespacedName {
	known := parentGateway{}
	if old, ok := r.listenerSets.Load(key); ok {
		known = old.(parentGateway)
		if now.Sub(known.at) < listenerSetMemory {
			return known.gateway
		}
	}
	set := &unstructured.Unstructured{}
	set.SetGroupVersionKind(routeKind("ListenerSet"))
	found := parentGateway{at: now}
	err := r.live.Get(ctx, key, set)
	switch {
	case meta.IsNoMatchError(err), err != nil && ignoreMissing(err) == nil:
	case err != nil:
		ctrl.LoggerFrom(ctx).Error(err, "reading a ListenerSet, to know whose proxies to listen to", "listenerSet", key)
		return known.gateway
	default:
		ref, _, _ := unstructured.NestedMap(set.Object, "spec", "parentRef")
		if gateway, kind := parentOf(ref, key.Namespace); kind == "Gateway" {
			found.gateway = &gateway
		}
	}
	r.listenerSets.Store(key, found)
	return found.gateway
}
