// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// reasonParentNotProgrammed is named in the description of the condition, without a constant.
const reasonParentNotProgrammed = "ParentNotProgrammed"

func listenerSetStatus(set *graph.ListenerSet, state State, now metav1.Time) gwv1.ListenerSetStatus {
	status := *set.Source.Status.DeepCopy()
	c := newConditions(status.Conditions, set.Source.Generation, now)
	accepted := string(gwv1.ListenerSetConditionAccepted)
	switch reason, message, found := sumUp(accepted, set.Problems); {
	case !found:
		c.set(accepted, metav1.ConditionTrue, string(gwv1.ListenerSetReasonAccepted), "")
	case set.Valid: // some listeners are not served; the set is, for the others
		c.set(accepted, metav1.ConditionTrue, reason, message)
	default:
		c.set(accepted, metav1.ConditionFalse, reason, message)
	}
	setListenerSetProgrammed(c, set, state)
	status.Conditions = c.list
	old := status.Listeners
	status.Listeners = nil
	for _, l := range set.Listeners {
		status.Listeners = append(status.Listeners, listenerEntryStatus(l, old, c.isTrue(string(gwv1.ListenerSetConditionProgrammed)), now))
	}
	return status
}

// setListenerSetProgrammed says whether the proxies of the Gateway have confirmed the
// set's present generation. Once they have, it stays so while the Gateway is programmed.
func setListenerSetProgrammed(c *conditions, set *graph.ListenerSet, state State) {
	programmed := string(gwv1.ListenerSetConditionProgrammed)
	say := func(status metav1.ConditionStatus, reason, message string) {
		c.set(programmed, status, reason, message)
	}
	reason, message, _ := sumUp(string(gwv1.ListenerSetConditionAccepted), set.Problems)
	confirmed := c.isTrue(programmed) || state.acknowledged(ObjectKey{Kind: "ListenerSet", NamespacedName: set.Key})
	switch why, sentence := whyNotProgrammed(set.Gateway, state, true); {
	case !set.Valid:
		say(metav1.ConditionFalse, reason, message)
	case why != "":
		say(metav1.ConditionFalse, reasonParentNotProgrammed, fmt.Sprintf("Gateway %s is not programmed: %s", set.Gateway.Key, sentence))
	case !confirmed:
		say(metav1.ConditionFalse, string(gwv1.ListenerSetReasonPending), "waiting until every connected proxy has acknowledged the listeners")
	default:
		say(metav1.ConditionTrue, string(gwv1.ListenerSetReasonProgrammed), "")
	}
}

func listenerEntryStatus(l *graph.Listener, old []gwv1.ListenerEntryStatus, setProgrammed bool, now metav1.Time) gwv1.ListenerEntryStatus {
	var existing []metav1.Condition
	for _, o := range old {
		if o.Name == l.Name {
			existing = o.Conditions
		}
	}
	c := newConditions(existing, l.Set.Source.Generation, now)
	setListenerConditions(c, l, setProgrammed)
	return gwv1.ListenerEntryStatus{
		Name: l.Name, SupportedKinds: l.SupportedKinds, AttachedRoutes: int32(len(l.Attachments)), Conditions: c.list,
	}
}

// attachedSets counts the accepted sets of a Gateway. A Gateway that never had one
// says nothing: older definitions of the kind do not have the field.
func attachedSets(gw *graph.Gateway, before *int32) *int32 {
	var n int32
	seen := map[*graph.ListenerSet]bool{}
	for _, l := range gw.Listeners {
		if l.Set != nil && l.Set.Valid && !seen[l.Set] {
			seen[l.Set] = true
			n++
		}
	}
	if n == 0 && before == nil {
		return nil
	}
	return &n
}

// conditionDefaultGateway is set on Gateways with a default scope (GEP-3793).
const conditionDefaultGateway = "DefaultGateway"

func setDefaultGateway(c *conditions, gw *graph.Gateway) {
	scope := gw.Source.Spec.DefaultScope
	if scope != gwv1.GatewayDefaultScopeAll {
		c.list = removeCondition(c.list, conditionDefaultGateway)
		return
	}
	c.set(conditionDefaultGateway, metav1.ConditionTrue, conditionDefaultGateway,
		fmt.Sprintf("routes with useDefaultGateways: %s attach without naming the Gateway, where its listeners allow them", scope))
}
