// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

func classStatus(c *graph.Class, now metav1.Time) gwv1.GatewayClassStatus {
	status := *c.Source.Status.DeepCopy()
	conditions := newConditions(status.Conditions, c.Source.Generation, now)
	conditions.judge(string(gwv1.GatewayClassConditionStatusAccepted), string(gwv1.GatewayClassReasonAccepted), c.Problems)
	supported := string(gwv1.GatewayClassConditionStatusSupportedVersion)
	if c.VersionKnown {
		conditions.judge(supported, string(gwv1.GatewayClassReasonSupportedVersion), c.Problems)
	} else {
		conditions.list = removeCondition(conditions.list, supported)
	}
	status.Conditions = conditions.list
	status.SupportedFeatures = nil
	for _, name := range SupportedFeatures(c.Experimental) {
		status.SupportedFeatures = append(status.SupportedFeatures, gwv1.SupportedFeature{Name: gwv1.FeatureName(name)})
	}
	return status
}

func gatewayStatus(gw *graph.Gateway, state State, now metav1.Time) gwv1.GatewayStatus {
	status := *gw.Source.Status.DeepCopy()
	conditions := newConditions(status.Conditions, gw.Source.Generation, now)
	setGatewayAccepted(conditions, gw)
	setGatewayResolvedRefs(conditions, gw)
	setDefaultGateway(conditions, gw)
	programmed := string(gwv1.GatewayConditionProgrammed)
	if reason, message := whyNotProgrammed(gw, state, conditions.isTrue(programmed)); reason != "" {
		conditions.set(programmed, metav1.ConditionFalse, string(reason), message)
	} else {
		conditions.set(programmed, metav1.ConditionTrue, string(gwv1.GatewayReasonProgrammed), "")
	}
	setOrRemove(conditions, string(gwv1.GatewayConditionInsecureFrontendValidationMode), gw.Problems)
	served := conditions.isTrue(programmed)
	status.Conditions = conditions.list
	status.Addresses = statusAddresses(gw, state)
	old := status.Listeners
	status.Listeners = nil
	for _, l := range gw.Own() {
		status.Listeners = append(status.Listeners, listenerStatus(l, old, served, now))
	}
	status.AttachedListenerSets = attachedSets(gw, status.AttachedListenerSets)
	return status
}

func setGatewayAccepted(c *conditions, gw *graph.Gateway) {
	accepted := string(gwv1.GatewayConditionAccepted)
	reason, message, found := sumUp(accepted, gw.Problems)
	switch {
	case !found:
		c.set(accepted, metav1.ConditionTrue, string(gwv1.GatewayReasonAccepted), "")
	case gw.Valid && slices.ContainsFunc(gw.Listeners, (*graph.Listener).Accepted):
		// Some listeners are not served; the Gateway is, for the others.
		c.set(accepted, metav1.ConditionTrue, reason, message)
	default:
		c.set(accepted, metav1.ConditionFalse, reason, message)
	}
}

func setGatewayResolvedRefs(c *conditions, gw *graph.Gateway) {
	resolved := string(gwv1.GatewayConditionResolvedRefs)
	var names []string
	for _, l := range gw.Own() {
		if graph.Has(l.Problems, string(gwv1.ListenerConditionResolvedRefs)) {
			names = append(names, string(l.Name))
		}
	}
	if reason, message, found := sumUp(resolved, gw.Problems); found {
		c.set(resolved, metav1.ConditionFalse, reason, message)
		return
	}
	if len(names) > 0 {
		c.set(resolved, metav1.ConditionFalse, string(gwv1.GatewayReasonListenersNotResolved),
			fmt.Sprintf("references of the listeners %s do not resolve: see their conditions", strings.Join(names, ", ")))
		return
	}
	c.set(resolved, metav1.ConditionTrue, string(gwv1.GatewayReasonResolvedRefs), "")
}

// whyNotProgrammed gives the first reason why the Gateway does not serve its
// present generation, or "". What was confirmed once stays so: a restart of
// Headgate, which forgets who acknowledged what, is no news about the proxies.
func whyNotProgrammed(gw *graph.Gateway, state State, confirmed bool) (gwv1.GatewayConditionReason, string) {
	switch {
	case !gw.Valid:
		return gwv1.GatewayReasonInvalid, "the Gateway is not accepted: proxies that it has keep what they serve"
	case !slices.ContainsFunc(gw.Listeners, func(l *graph.Listener) bool { return l.Valid }):
		return gwv1.GatewayReasonInvalid, "no listener can be served: see their conditions"
	case state.Problem != "":
		return gwv1.GatewayReasonNoResources, state.Problem
	case state.Refusal != "":
		return gwv1.GatewayReasonInvalid, state.Refusal
	case len(missingAddresses(gw, state)) > 0 && len(state.Addresses) > 0:
		return gwv1.GatewayReasonAddressNotUsable, fmt.Sprintf("spec.addresses asks for %s, but the load balancer assigned %s",
			strings.Join(missingAddresses(gw, state), ", "), strings.Join(state.Addresses, ", "))
	case len(missingAddresses(gw, state)) > 0:
		return gwv1.GatewayReasonAddressNotUsable, fmt.Sprintf("spec.addresses asks for %s, which the load balancer has not assigned",
			strings.Join(missingAddresses(gw, state), ", "))
	case len(state.Addresses) == 0:
		return gwv1.GatewayReasonAddressNotAssigned, "the Gateway's Service has no load balancer address yet"
	case state.Ready == 0:
		return gwv1.GatewayReasonPending, "no proxy is ready yet"
	case !confirmed && !state.acknowledged(ObjectKey{Kind: "Gateway", NamespacedName: gw.Key}):
		return gwv1.GatewayReasonPending, "waiting until every connected proxy has acknowledged the configuration"
	}
	return "", ""
}

// missingAddresses are those that were asked for and not assigned.
func missingAddresses(gw *graph.Gateway, state State) []string {
	var missing []string
	for _, a := range gw.Addresses {
		if !slices.Contains(state.Addresses, a) {
			missing = append(missing, a)
		}
	}
	return missing
}

// statusAddresses are the assigned addresses; where some were asked for, of those.
func statusAddresses(gw *graph.Gateway, state State) []gwv1.GatewayStatusAddress {
	var out []gwv1.GatewayStatusAddress
	for _, a := range state.Addresses {
		if len(gw.Addresses) > 0 && !slices.Contains(gw.Addresses, a) {
			continue
		}
		t := gwv1.HostnameAddressType
		if _, err := netip.ParseAddr(a); err == nil {
			t = gwv1.IPAddressType
		}
		out = append(out, gwv1.GatewayStatusAddress{Type: &t, Value: a})
		if len(out) == 16 { // the API's limit
			break
		}
	}
	return out
}

func listenerStatus(l *graph.Listener, old []gwv1.ListenerStatus, gatewayProgrammed bool, now metav1.Time) gwv1.ListenerStatus {
	var existing []metav1.Condition
	for _, o := range old {
		if o.Name == l.Name {
			existing = o.Conditions
		}
	}
	c := newConditions(existing, l.Gateway.Source.Generation, now)
	setListenerConditions(c, l, gatewayProgrammed)
	return gwv1.ListenerStatus{
		Name: l.Name, SupportedKinds: l.SupportedKinds, AttachedRoutes: int32(len(l.Attachments)), Conditions: c.list,
	}
}

// setListenerConditions judges a listener, of a Gateway or a ListenerSet. Whether the
// object in which it stands is programmed is known already.
func setListenerConditions(c *conditions, l *graph.Listener, ownerProgrammed bool) {
	setListenerAccepted(c, l)
	c.judge(string(gwv1.ListenerConditionResolvedRefs), string(gwv1.ListenerReasonResolvedRefs), l.Problems)
	conflicted := string(gwv1.ListenerConditionConflicted)
	reason, message, conflict := sumUp(conflicted, l.Problems)
	if conflict {
		c.set(conflicted, metav1.ConditionTrue, reason, message)
	} else {
		c.set(conflicted, metav1.ConditionFalse, string(gwv1.ListenerReasonNoConflicts), "")
	}
	setOrRemove(c, string(gwv1.ListenerConditionOverlappingTLSConfig), l.Problems)
	programmed := string(gwv1.ListenerConditionProgrammed)
	kind, owner := l.Owner()
	switch {
	case conflict && l.Set != nil: // the reason that sets have here as well (GEP-1713)
		c.set(programmed, metav1.ConditionFalse, reason, message)
	case !l.Valid || !l.Gateway.Valid:
		c.set(programmed, metav1.ConditionFalse, string(gwv1.ListenerReasonInvalid), "the listener or its Gateway is not valid: see the other conditions")
	case !ownerProgrammed:
		c.set(programmed, metav1.ConditionFalse, string(gwv1.ListenerReasonPending), fmt.Sprintf("%s %s is not programmed yet: see its conditions", kind, owner))
	default:
		c.set(programmed, metav1.ConditionTrue, string(gwv1.ListenerReasonProgrammed), "")
	}
}

func setListenerAccepted(c *conditions, l *graph.Listener) {
	accepted := string(gwv1.ListenerConditionAccepted)
	if reason, message, found := sumUp(string(gwv1.ListenerConditionConflicted), l.Problems); found && !graph.Has(l.Problems, accepted) {
		c.set(accepted, metav1.ConditionFalse, reason, message)
		return
	}
	c.judge(accepted, string(gwv1.ListenerReasonAccepted), l.Problems)
}

// setOrRemove sets a condition that is True when something is wrong, and removes it otherwise.
func setOrRemove(c *conditions, conditionType string, problems []graph.Problem) {
	reason, message, found := sumUp(conditionType, problems)
	if !found {
		c.list = removeCondition(c.list, conditionType)
		return
	}
	c.set(conditionType, metav1.ConditionTrue, reason, message)
}
