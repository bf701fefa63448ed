// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// routeStatus gives the route with the parents it should have, and whether
// that is news.
func routeStatus(r *graph.Route, p Programmed, controllerName string, now metav1.Time) (client.Object, bool) {
	written := statusOf(r.Source)
	if written == nil {
		return r.Source, false
	}
	parents := routeParents(r, written.Parents, p, controllerName, now)
	if equality.Semantic.DeepEqual(written.Parents, parents) {
		return r.Source, false
	}
	desired, _ := r.Source.DeepCopyObject().(client.Object) // a copy of an object is one
	statusOf(desired).Parents = parents
	return desired, true
}

// statusOf is what all kinds of routes have in common in their status.
func statusOf(route client.Object) *gwv1.RouteStatus {
	switch src := route.(type) {
	case *gwv1.HTTPRoute:
		return &src.Status.RouteStatus
	case *gwv1.GRPCRoute:
		return &src.Status.RouteStatus
	case *gwv1.TLSRoute:
		return &src.Status.RouteStatus
	case *gwv1.TCPRoute:
		return &src.Status.RouteStatus
	case *gwv1.UDPRoute:
		return &src.Status.RouteStatus
	}
	return nil
}

// maxParents is the API's limit on entries in a route's status.
const maxParents = 32

// routeParents keeps the entries of other controllers where they stand, renews
// ours, and drops those of ours whose parentRef is gone.
func routeParents(r *graph.Route, old []gwv1.RouteParentStatus, p Programmed, controllerName string, now metav1.Time) []gwv1.RouteParentStatus {
	parents := []gwv1.RouteParentStatus{}
	done := make([]bool, len(r.Parents))
	for _, entry := range old {
		if string(entry.ControllerName) != controllerName {
			parents = append(parents, *entry.DeepCopy())
			continue
		}
		i := slices.IndexFunc(r.Parents, func(parent *graph.Parent) bool { return sameRef(r, parent.Ref, entry.ParentRef) })
		if i < 0 || done[i] {
			continue
		}
		done[i] = true
		parents = append(parents, parentStatus(r, r.Parents[i], entry.Conditions, p, controllerName, now))
	}
	for i, parent := range r.Parents {
		if !done[i] && len(parents) < maxParents {
			parents = append(parents, parentStatus(r, parent, nil, p, controllerName, now))
		}
	}
	return parents
}

// sameRef compares references as the API does: defaults filled in.
func sameRef(r *graph.Route, a, b gwv1.ParentReference) bool {
	keyA, okA := graph.ParentOf(r.Key.Namespace, a)
	keyB, okB := graph.ParentOf(r.Key.Namespace, b)
	return okA && okB && keyA == keyB &&
		equality.Semantic.DeepEqual(a.SectionName, b.SectionName) && equality.Semantic.DeepEqual(a.Port, b.Port)
}

func parentStatus(r *graph.Route, parent *graph.Parent, existing []metav1.Condition, p Programmed, controllerName string, now metav1.Time) gwv1.RouteParentStatus {
	accepted := string(gwv1.RouteConditionAccepted)
	c := newConditions(existing, r.Source.GetGeneration(), now)
	c.judge(accepted, string(gwv1.RouteReasonAccepted), parent.Problems, r.Problems)
	c.judge(string(gwv1.RouteConditionResolvedRefs), string(gwv1.RouteReasonResolvedRefs), referenceProblems(r))
	state := p[parent.Gateway.Key]
	if c.isTrue(accepted) {
		refused := state.Refused[ObjectKey{Kind: string(r.Kind), NamespacedName: r.Key}]
		setOrRemove(c, string(gwv1.RouteConditionPartiallyInvalid), slices.Concat(r.Problems, refused))
	} else { // it must not stand on a route that is not accepted
		c.list = removeCondition(c.list, string(gwv1.RouteConditionPartiallyInvalid))
	}
	setRouteProgrammed(c, r, parent, state)
	return gwv1.RouteParentStatus{
		ParentRef: *parent.Ref.DeepCopy(), ControllerName: gwv1.GatewayController(controllerName), Conditions: c.list,
	}
}

func referenceProblems(r *graph.Route) []graph.Problem {
	var problems []graph.Problem
	for _, rule := range r.Rules {
		problems = append(problems, rule.Problems...)
		for _, b := range rule.Backends {
			problems = append(problems, b.Problems...)
		}
		for _, m := range rule.Mirrors {
			problems = append(problems, m.Problems...)
		}
	}
	return problems
}

// Reasons of v1beta1.RouteConditionProgrammed.
const (
	reasonProgrammed = "Programmed"
	reasonPending    = "Pending"
	reasonInvalid    = "Invalid"
)

// olderRoute is the route that gets the traffic on every listener of the parent that takes
// r, instead of r; nil when r gets some.
func olderRoute(parent *graph.Parent) *graph.Route {
	var older *graph.Route
	for _, a := range parent.Attachments {
		if older = a.OlderRoute(); older == nil {
			return nil
		}
	}
	return older
}

// setRouteProgrammed says whether the proxies of the parent have confirmed the
// route's present generation. Once they have, it stays so for that generation.
func setRouteProgrammed(c *conditions, r *graph.Route, parent *graph.Parent, state State) {
	set := func(status metav1.ConditionStatus, reason, message string) {
		c.set(v1beta1.RouteConditionProgrammed, status, reason, message)
	}
	key := ObjectKey{Kind: string(r.Kind), NamespacedName: r.Key}
	served := slices.ContainsFunc(parent.Attachments, func(a *graph.Attachment) bool { return a.Listener.Valid })
	switch {
	case !c.isTrue(string(gwv1.RouteConditionAccepted)):
		set(metav1.ConditionFalse, reasonInvalid, "the route is not accepted")
	case !parent.Gateway.Valid || !served:
		set(metav1.ConditionFalse, reasonPending, fmt.Sprintf("Gateway %s has no valid listener for the route: see its status", parent.Gateway.Key))
	case len(state.Refused[key]) > 0:
		_, message, _ := sumUp(string(gwv1.RouteConditionPartiallyInvalid), state.Refused[key])
		set(metav1.ConditionFalse, v1beta1.ReasonRuleRefused, message)
	case olderRoute(parent) != nil:
		set(metav1.ConditionFalse, reasonPending, fmt.Sprintf("%s %s is older and gets all of the traffic: delete it, or give the routes listeners of their own",
			r.Kind, olderRoute(parent).Key))
	case c.isTrue(v1beta1.RouteConditionProgrammed),
		state.acknowledged(key):
		set(metav1.ConditionTrue, reasonProgrammed, "")
	case state.Harmed[key] != "":
		set(metav1.ConditionFalse, reasonPending, state.Harmed[key])
	case state.Acked == 0 && state.Answered == 0:
		set(metav1.ConditionFalse, reasonPending, fmt.Sprintf("no proxy of Gateway %s has confirmed a configuration yet", parent.Gateway.Key))
	default:
		set(metav1.ConditionFalse, reasonPending, "waiting until every connected proxy has acknowledged the route")
	}
}
