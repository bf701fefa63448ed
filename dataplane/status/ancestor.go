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

// ancestry is what the status of an object with ancestors is made of: a policy, or a backend.
type ancestry struct {
	namespace  string
	generation int64
	gateways   []*graph.Gateway
	problems   []graph.Problem
	// resolves tells that the object refers to others, and has a condition for it.
	resolves bool
	limit    int
}

// ancestor is one entry, in the form of policies.
type ancestor = gwv1.PolicyAncestorStatus

// renew keeps the entries of other controllers where they stand, renews ours, and drops
// those of ours whose Gateway the object no longer concerns. Where the list is full the last
// Gateways by name are left out; the object is in force for them all the same.
func (a ancestry) renew(old []ancestor, controllerName string, now metav1.Time) []ancestor {
	out := []ancestor{}
	done := map[types.NamespacedName]bool{}
	for _, entry := range old {
		if string(entry.ControllerName) != controllerName {
			out = append(out, *entry.DeepCopy())
			continue
		}
		parent, ok := graph.ParentOf(a.namespace, entry.AncestorRef)
		key := parent.NamespacedName
		ours := parent.Kind == "Gateway" && slices.ContainsFunc(a.gateways, func(gw *graph.Gateway) bool { return gw.Key == key })
		if ok && ours && !done[key] {
			done[key] = true
			out = append(out, a.entry(key, entry.Conditions, controllerName, now))
		}
	}
	for _, gw := range a.gateways {
		if !done[gw.Key] && len(out) < a.limit {
			out = append(out, a.entry(gw.Key, nil, controllerName, now))
		}
	}
	return out
}

func (a ancestry) entry(gateway types.NamespacedName, existing []metav1.Condition, controllerName string, now metav1.Time) ancestor {
	c := newConditions(existing, a.generation, now)
	c.judge(string(gwv1.PolicyConditionAccepted), string(gwv1.PolicyReasonAccepted), a.problems)
	if a.resolves {
		c.judge(string(gwv1.BackendTLSPolicyConditionResolvedRefs), string(gwv1.BackendTLSPolicyReasonResolvedRefs), a.problems)
	}
	group, kind, namespace := gwv1.Group(gwv1.GroupName), gwv1.Kind("Gateway"), gwv1.Namespace(gateway.Namespace)
	return ancestor{
		AncestorRef:    gwv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gwv1.ObjectName(gateway.Name)},
		ControllerName: gwv1.GatewayController(controllerName),
		Conditions:     c.list,
	}
}

func tlsPolicyStatus(p *graph.BackendTLSPolicy, controllerName string, now metav1.Time) []ancestor {
	a := ancestry{p.Key.Namespace, p.Source.Generation, p.Ancestors, p.Problems, true, maxPolicyAncestors}
	return a.renew(p.Source.Status.Ancestors, controllerName, now)
}

func trafficPolicyStatus(p *graph.TrafficPolicy, controllerName string, now metav1.Time) []ancestor {
	a := ancestry{p.Key.Namespace, p.Source.Generation, p.Ancestors, p.Problems, false, maxPolicyAncestors}
	return a.renew(p.Source.Status.Ancestors, controllerName, now)
}

func xbackendStatus(x *graph.XBackend, controllerName string, now metav1.Time) []gwxv1alpha1.BackendAncestorStatus {
	var old []ancestor
	for _, e := range x.Source.Status.Ancestors {
		old = append(old, ancestor{AncestorRef: e.AncestorRef, ControllerName: e.ControllerName, Conditions: e.Conditions})
	}
	a := ancestry{x.Key.Namespace, x.Source.Generation, x.Ancestors, x.Problems, false, maxXBackendAncestors}
	var out []gwxv1alpha1.BackendAncestorStatus
	for _, e := range a.renew(old, controllerName, now) {
		out = append(out, gwxv1alpha1.BackendAncestorStatus{AncestorRef: e.AncestorRef, ControllerName: e.ControllerName, Conditions: e.Conditions})
	}
	return out
}
