// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/dataplane/graph"
)

// The API's limits on entries in a status.
const (
	maxXBackendAncestors = 32
	maxPolicyAncestors   = 16
)

// ancestry is the part of a status that is the same for all objects with ancestors.
type ancestry struct {
	namespace  string
	generation int64
	gateways   []*graph.Gateway
	problems   []graph.Problem
	controller string
	now        metav1.Time
	limit      int
}

// ancestor is one entry, as both kinds of statuses have it.
type ancestor struct {
	ref        gwv1.ParentReference
	controller gwv1.GatewayController
	conditions []metav1.Condition
}

// renew keeps the entries of other controllers where they stand, renews ours, and drops
// those of ours whose Gateway the object no longer concerns. Where the list is full the last
// Gateways by name are left out.
func (a ancestry) renew(old []ancestor) []ancestor {
	var out []ancestor
	done := map[types.NamespacedName]bool{}
	for _, entry := range old {
		if string(entry.controller) != a.controller {
			out = append(out, entry)
			continue
		}
		key := types.NamespacedName{Namespace: a.namespace, Name: string(entry.ref.Name)}
		if entry.ref.Namespace != nil {
			key.Namespace = string(*entry.ref.Namespace)
		}
		ours := slices.ContainsFunc(a.gateways, func(gw *graph.Gateway) bool { return gw.Key == key })
		if ours && !done[key] {
			done[key] = true
			out = append(out, a.entry(key, entry.conditions))
		}
	}
	for _, gw := range a.gateways {
		if !done[gw.Key] && len(out) < a.limit {
			out = append(out, a.entry(gw.Key, nil))
		}
	}
	return out
}

func (a ancestry) entry(gateway types.NamespacedName, existing []metav1.Condition) ancestor {
	c := newConditions(existing, a.generation, a.now)
	c.judge(string(gwv1.PolicyConditionAccepted), string(gwv1.PolicyReasonAccepted), a.problems)
	group, kind, namespace := gwv1.Group(gwv1.GroupName), gwv1.Kind("Gateway"), gwv1.Namespace(gateway.Namespace)
	return ancestor{
		ref:        gwv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gwv1.ObjectName(gateway.Name)},
		controller: gwv1.GatewayController(a.controller),
		conditions: c.list,
	}
}

func xbackendStatus(x *graph.XBackend, controllerName string, now metav1.Time) []gwxv1alpha1.BackendAncestorStatus {
	var old []ancestor
	for _, e := range x.Source.DeepCopy().Status.Ancestors {
		old = append(old, ancestor{e.AncestorRef, e.ControllerName, e.Conditions})
	}
	a := ancestry{x.Key.Namespace, x.Source.Generation, x.Ancestors, x.Problems, controllerName, now, maxXBackendAncestors}
	var out []gwxv1alpha1.BackendAncestorStatus
	for _, e := range a.renew(old) {
		out = append(out, gwxv1alpha1.BackendAncestorStatus{AncestorRef: e.ref, ControllerName: e.controller, Conditions: e.conditions})
	}
	return out
}

func trafficPolicyStatus(p *graph.TrafficPolicy, controllerName string, now metav1.Time) []gwv1.PolicyAncestorStatus {
	var old []ancestor
	for _, e := range p.Source.DeepCopy().Status.Ancestors {
		old = append(old, ancestor{e.AncestorRef, e.ControllerName, e.Conditions})
	}
	a := ancestry{p.Key.Namespace, p.Source.Generation, p.Ancestors, p.Problems, controllerName, now, maxPolicyAncestors}
	out := []gwv1.PolicyAncestorStatus{}
	for _, e := range a.renew(old) {
		out = append(out, gwv1.PolicyAncestorStatus{AncestorRef: e.ref, ControllerName: e.controller, Conditions: e.conditions})
	}
	return out
}
