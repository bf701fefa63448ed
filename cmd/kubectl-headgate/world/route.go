// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// Route is a route of any kind.
type Route struct {
	Kind       string
	Key        types.NamespacedName
	Source     client.Object
	ParentRefs []gwv1.ParentReference
	// AsksForDefaults is true when the route asks for the default Gateways beside those it names.
	AsksForDefaults bool
}

// Name is Kind/namespace/name, as Envoy's routes are named.
func (r Route) Name() string { return r.Kind + "/" + r.Key.String() }

// Routes are all of the world, by kind, namespace and name.
func (w *World) Routes() []Route {
	var out []Route
	for of, o := range w.objects {
		if of.group == gwv1.GroupName && strings.HasSuffix(of.kind, "Route") {
			spec := commonSpec(o)
			out = append(out, Route{
				Kind: of.kind, Key: of.NamespacedName, Source: o,
				ParentRefs: spec.ParentRefs, AsksForDefaults: spec.UseDefaultGateways == gwv1.GatewayDefaultScopeAll,
			})
		}
	}
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return out
}

// commonSpec stands at the same place in routes of every kind.
func commonSpec(o client.Object) gwv1.CommonRouteSpec {
	var route struct {
		Spec gwv1.CommonRouteSpec `json:"spec"`
	}
	data, err := json.Marshal(o)
	if err != nil || json.Unmarshal(data, &route) != nil {
		return gwv1.CommonRouteSpec{}
	}
	return route.Spec
}

// Status is that of the route, which routes of every kind have in common.
func (r Route) Status() gwv1.RouteStatus {
	var route struct {
		Status gwv1.RouteStatus `json:"status"`
	}
	data, err := json.Marshal(r.Source)
	if err != nil || json.Unmarshal(data, &route) != nil {
		return gwv1.RouteStatus{}
	}
	return route.Status
}

// Leads tells whether a parentRef of the route leads to the Gateway, by itself or
// through a ListenerSet.
func (w *World) Leads(r Route, ref gwv1.ParentReference, gateway types.NamespacedName) bool {
	parent, known := graph.ParentOf(r.Key.Namespace, ref)
	if set := w.Resources.ListenerSets[parent.NamespacedName]; known && parent.Kind == "ListenerSet" && set != nil {
		parent, known = graph.ParentOf(set.Namespace, ParentOfSet(set))
	}
	return known && parent.Kind == "Gateway" && parent.NamespacedName == gateway
}

// ParentOfSet is the parentRef of a ListenerSet in the form that routes have.
func ParentOfSet(set *gwv1.ListenerSet) gwv1.ParentReference {
	ref := set.Spec.ParentRef
	return gwv1.ParentReference{Group: ref.Group, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
}
