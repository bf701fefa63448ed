// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package explain turns a graph into answers: what is wrong with its objects, and why a
// route is attached or not. It judges nothing by itself: the problems are the graph's own, and
// so the sentences are those that stand in the objects' conditions.
package explain

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
)

// Finding is one thing that is wrong.
type Finding struct {
	// Object is the kind and namespace/name, Part what of it: a listener, a parent,
	// or empty.
	Object string `json:"object"`
	Part   string `json:"part,omitempty"`
	// Reason is that of the condition, or empty where no condition would be written.
	Reason string `json:"reason,omitempty"`
	// Message says which field is wrong and what to write instead.
	Message string `json:"message"`
	// Warning is true when everything is served as written nonetheless.
	Warning bool `json:"warning,omitempty"`
}

// Failed tells whether any finding is more than a warning.
func Failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return !f.Warning })
}

// String is the finding on one line.
func (f Finding) String() string {
	text := f.Object
	if f.Part != "" {
		text += ", " + f.Part
	}
	text += ": " + f.Message
	if f.Reason != "" {
		text += " (" + f.Reason + ")"
	}
	if f.Warning {
		text = "Warning: " + text
	}
	return text
}

// Problems lists all that is wrong in a graph, in its order, and what of the world is not
// in it: policies and XBackends that no route leads to, and routes that name none of its Gateways.
func Problems(w *world.World, g *graph.Graph) []Finding {
	// These conditions tell of what is asked for, and served.
	served := []string{string(gwv1.ListenerConditionOverlappingTLSConfig), string(gwv1.GatewayConditionInsecureFrontendValidationMode)}
	var out []Finding
	seen := map[Finding]bool{}
	add := func(object, part string, problems []graph.Problem) {
		for _, p := range problems {
			f := Finding{
				Object: object, Part: part, Reason: p.Reason, Message: p.Message,
				Warning: slices.Contains(served, p.Condition),
			}
			if !seen[f] {
				seen[f] = true
				out = append(out, f)
			}
		}
	}
	for _, c := range g.Classes {
		add("GatewayClass "+c.Source.Name, "", c.Problems)
	}
	for _, gw := range g.Gateways {
		name := "Gateway " + gw.Key.String()
		add(name, "", gw.Problems)
		for _, l := range gw.Listeners {
			of := name
			if l.Set != nil {
				of = "ListenerSet " + l.Set.Key.String()
			}
			add(of, fmt.Sprintf("listener %s", l.Name), l.Problems)
		}
	}
	for _, set := range g.ListenerSets {
		add("ListenerSet "+set.Key.String(), "", set.Problems)
	}
	for _, r := range g.Routes {
		name := routeName(r)
		for _, p := range r.Parents {
			add(name, "parent "+refText(r.Key.Namespace, p.Ref), p.Problems)
		}
		add(name, "", ruleProblems(r))
		add(name, "", routeProblems(r))
	}
	for _, b := range backends(g) {
		add(b.kind+" "+b.key.String(), "", b.problems)
	}
	out = append(out, idle(w, g)...)
	for _, route := range w.Routes() {
		if graphRoute(g, route.Kind, route.Key) != nil {
			continue
		}
		for _, ref := range route.ParentRefs {
			out = append(out, Finding{
				Object: string(route.Kind) + " " + route.Key.String(), Part: "parent " + refText(route.Key.Namespace, ref),
				Message: missingParent(w, route, ref),
			})
		}
		if len(route.ParentRefs) == 0 {
			message := "spec.parentRefs is empty: name the Gateway that shall serve the route"
			if route.AsksForDefaults {
				message = "spec.useDefaultGateways is All, but no Gateway has spec.defaultScope: All: give it to one, or name a Gateway in spec.parentRefs"
			}
			out = append(out, Finding{Object: string(route.Kind) + " " + route.Key.String(), Message: message})
		}
	}
	return out
}

func routeName(r *graph.Route) string { return string(r.Kind) + " " + r.Key.String() }

// ruleProblems are those of rules, backends and mirrors.
func ruleProblems(r *graph.Route) []graph.Problem {
	var out []graph.Problem
	for _, rule := range r.Rules {
		out = append(out, rule.Problems...)
		for _, b := range rule.Backends {
			out = append(out, b.Problems...)
		}
		for _, m := range rule.Mirrors {
			out = append(out, m.Problems...)
		}
	}
	return out
}

// routeProblems are those of the route whole, without the sums of what its rules
// say already.
func routeProblems(r *graph.Route) []graph.Problem {
	rules := ruleProblems(r)
	return slices.DeleteFunc(slices.Clone(r.Problems), func(p graph.Problem) bool {
		return slices.ContainsFunc(rules, func(of graph.Problem) bool { return strings.Contains(p.Message, of.Message) })
	})
}

func graphRoute(g *graph.Graph, kind string, key types.NamespacedName) *graph.Route {
	for _, r := range g.Routes {
		if string(r.Kind) == kind && r.Key == key && len(r.Parents) > 0 {
			return r
		}
	}
	return nil
}

// missingParent says why a parentRef leads to no Gateway of ours.
func missingParent(w *world.World, route world.Route, ref gwv1.ParentReference) string {
	for _, gate := range parentGates(w, route.Key.Namespace, ref) {
		if !gate.Passed {
			return gate.Text
		}
	}
	return notServed(route.Kind)
}

func notServed(kind string) string {
	return fmt.Sprintf("this version of Headgate does not serve kind %s under this parent", kind)
}

// parentGates are the gates before the graph: the parent exists and is ours.
func parentGates(w *world.World, namespace string, ref gwv1.ParentReference) []Gate {
	kind := "Gateway"
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	key := types.NamespacedName{Namespace: namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		key.Namespace = string(*ref.Namespace)
	}
	parent := w.Find(kind, key)
	if ref.Group != nil && *ref.Group != gwv1.GroupName || parent == nil && kind != "Gateway" {
		return []Gate{{false, fmt.Sprintf("it names %s %s: write the name of a Gateway that exists", kind, key)}}
	}
	if parent == nil {
		text := fmt.Sprintf("Gateway %s does not exist", key)
		if others := gatewaysNamed(w, key.Name); len(others) > 0 {
			return []Gate{{false, fmt.Sprintf("%s, but %s does: write parentRefs[].namespace", text, strings.Join(others, " and "))}}
		}
		return []Gate{{false, text + ": correct name and namespace of the parentRef, or create it"}}
	}
	gates := []Gate{{true, fmt.Sprintf("%s %s exists", kind, key)}}
	if set, ok := parent.(*gwv1.ListenerSet); ok {
		return append(gates, parentGates(w, set.Namespace, world.ParentOfSet(set))...)
	}
	gw, ok := parent.(*gwv1.Gateway)
	if !ok {
		return gates
	}
	class := w.Resources.GatewayClasses[string(gw.Spec.GatewayClassName)]
	switch {
	case class == nil:
		gates = append(gates, Gate{false, fmt.Sprintf("its GatewayClass %q does not exist: write one of %s, or create it", gw.Spec.GatewayClassName, oursOf(w))})
	case string(class.Spec.ControllerName) != w.Resources.ControllerName:
		gates = append(gates, Gate{false, fmt.Sprintf("its GatewayClass %q belongs to the controller %s, not to Headgate: that one serves the route, or write the class %s",
			class.Name, class.Spec.ControllerName, oursOf(w))})
	default:
		gates = append(gates, Gate{true, fmt.Sprintf("its GatewayClass %q is Headgate's", class.Name)})
	}
	return gates
}

func gatewaysNamed(w *world.World, name string) []string {
	var out []string
	for key := range w.Resources.Gateways {
		if key.Name == name {
			out = append(out, key.String())
		}
	}
	slices.Sort(out)
	return out
}

// oursOf names our classes, for advice.
func oursOf(w *world.World) string {
	var out []string
	for name, class := range w.Resources.GatewayClasses {
		if string(class.Spec.ControllerName) == w.Resources.ControllerName {
			out = append(out, fmt.Sprintf("%q", name))
		}
	}
	if len(out) == 0 {
		return "that of Headgate's chart"
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// refText is a parentRef as people write it.
func refText(namespace string, ref gwv1.ParentReference) string {
	kind := "Gateway"
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	text := fmt.Sprintf("%s %s/%s", kind, namespace, ref.Name)
	if ref.SectionName != nil {
		text += fmt.Sprintf(" section %s", *ref.SectionName)
	}
	if ref.Port != nil {
		text += fmt.Sprintf(" port %d", *ref.Port)
	}
	return text
}

// programmed reads what the route's status says about a parentRef and the proxies.
func programmed(route world.Route, ref gwv1.ParentReference, controller, condition string) (status, message string) {
	for _, p := range route.Status().Parents {
		if string(p.ControllerName) != controller || refText(route.Key.Namespace, p.ParentRef) != refText(route.Key.Namespace, ref) {
			continue
		}
		for _, c := range p.Conditions {
			if c.Type == condition {
				if generation := route.Source.GetGeneration(); c.ObservedGeneration < generation {
					return "Unknown", fmt.Sprintf("the status is about generation %d, the route is at %d", c.ObservedGeneration, generation)
				}
				return string(c.Status), c.Message
			}
		}
	}
	return "", ""
}
