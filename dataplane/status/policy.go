// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// maxAncestors is the API's limit on entries in a policy's status.
const maxAncestors = 16

// policyAncestors keeps the entries of other controllers where they stand, renews ours,
// and drops those of ours whose Gateway the policy no longer concerns. Where the list is
// full the last Gateways by name are left out; the policy is in force for them all the same.
func policyAncestors(p *graph.BackendTLSPolicy, controllerName string, now metav1.Time) []gwv1.PolicyAncestorStatus {
	ancestors := []gwv1.PolicyAncestorStatus{}
	done := map[types.NamespacedName]bool{}
	for _, entry := range p.Source.Status.Ancestors {
		if string(entry.ControllerName) != controllerName {
			ancestors = append(ancestors, *entry.DeepCopy())
			continue
		}
		parent, ok := graph.ParentOf(p.Key.Namespace, entry.AncestorRef)
		key := parent.NamespacedName
		ours := parent.Kind == "Gateway" && slices.ContainsFunc(p.Ancestors, func(gw *graph.Gateway) bool { return gw.Key == key })
		if ok && ours && !done[key] {
			done[key] = true
			ancestors = append(ancestors, ancestorStatus(p, key, entry.Conditions, controllerName, now))
		}
	}
	for _, gw := range p.Ancestors {
		if !done[gw.Key] && len(ancestors) < maxAncestors {
			ancestors = append(ancestors, ancestorStatus(p, gw.Key, nil, controllerName, now))
		}
	}
	return ancestors
}

func ancestorStatus(p *graph.BackendTLSPolicy, gateway types.NamespacedName, existing []metav1.Condition, controllerName string, now metav1.Time) gwv1.PolicyAncestorStatus {
	c := newConditions(existing, p.Source.Generation, now)
	c.judge(string(gwv1.PolicyConditionAccepted), string(gwv1.PolicyReasonAccepted), p.Problems)
	c.judge(string(gwv1.BackendTLSPolicyConditionResolvedRefs), string(gwv1.BackendTLSPolicyReasonResolvedRefs), p.Problems)
	group, kind, namespace := gwv1.Group(gwv1.GroupName), gwv1.Kind("Gateway"), gwv1.Namespace(gateway.Namespace)
	return gwv1.PolicyAncestorStatus{
		AncestorRef:    gwv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gwv1.ObjectName(gateway.Name)},
		ControllerName: gwv1.GatewayController(controllerName),
		Conditions:     c.list,
	}
}
