// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"reflect"
	"slices"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
)

// Answer says why a route is attached or not.
type Answer struct {
	Route   string   `json:"route"`
	Parents []Parent `json:"parents"`
	// Rules has one gate per rule, and before them what concerns the route whole.
	Rules []Gate `json:"rules"`
}

// Gate is one condition on the way of a route to its requests.
type Gate struct {
	Passed bool `json:"passed"`
	// Text says what was checked; when it failed, what to write instead.
	Text string `json:"text"`
}

// Parent is a parentRef and what became of it.
type Parent struct {
	Ref       string     `json:"ref"`
	Gates     []Gate     `json:"gates"`
	Listeners []Listener `json:"listeners,omitempty"`
	// Attached is true when at least one listener took the route.
	Attached bool `json:"attached"`
}

// Listener is a listener of the parent and what became of the route there.
type Listener struct {
	Name string `json:"name"`
	// Meant is false when sectionName or port of the parentRef mean another.
	Meant    bool   `json:"meant"`
	Attached bool   `json:"attached"`
	Gates    []Gate `json:"gates,omitempty"`
}

// Why explains a route of the world.
func Why(w *world.World, g *graph.Graph, route world.Route) Answer {
	a := Answer{Route: route.Kind + " " + route.Key.String()}
	node := graphRoute(g, route.Kind, route.Key)
	for _, ref := range route.ParentRefs {
		p := Parent{Ref: refText(route.Key.Namespace, ref), Gates: parentGates(w, route.Key.Namespace, ref)}
		if at := parentOf(node, ref); at != nil {
			p.fill(w, route, at)
		} else if passed(p.Gates) {
			p.Gates = append(p.Gates, Gate{false, notServed(route.Kind)})
		}
		a.Parents = append(a.Parents, p)
	}
	if node != nil {
		for _, at := range node.Parents {
			if at.Default {
				p := Parent{Ref: refText(route.Key.Namespace, at.Ref) + " (a default Gateway)"}
				p.fill(w, route, at)
				a.Parents = append(a.Parents, p)
			}
		}
		a.Rules = ruleGates(node)
	}
	return a
}

func parentOf(r *graph.Route, ref gwv1.ParentReference) *graph.Parent {
	if r == nil {
		return nil
	}
	for _, p := range r.Parents {
		if !p.Default && reflect.DeepEqual(p.Ref, ref) {
			return p
		}
	}
	return nil
}

func (p *Parent) fill(w *world.World, route world.Route, at *graph.Parent) {
	for _, problem := range at.Gateway.Problems {
		// The sum of the listeners' problems is told by each of them below.
		if at.Gateway.Valid && problem.Reason == string(gwv1.GatewayReasonListenersNotValid) {
			continue
		}
		p.Gates = append(p.Gates, Gate{false, "the Gateway is not accepted: " + problem.Message})
	}
	if at.Set != nil {
		p.Gates = append(p.Gates, gates(at.Set.Problems)...)
	}
	p.Attached = at.Accepted
	named := false
	for _, c := range at.Candidates {
		named = named || c.Named
		p.Listeners = append(p.Listeners, listenerOf(c))
	}
	if !named {
		p.Gates = append(p.Gates, gates(at.Problems)...)
	}
	if !p.Attached {
		return
	}
	switch status, message := programmed(route, at.Ref, w.Resources.ControllerName, v1beta1.RouteConditionProgrammed); status {
	case "":
	case "True":
		p.Gates = append(p.Gates, Gate{true, "every connected proxy has confirmed the route"})
	default:
		p.Gates = append(p.Gates, Gate{false, "the proxies have not confirmed the route: " + message})
	}
}

func listenerOf(c graph.Candidate) Listener {
	l := c.Listener
	host := l.Hostname
	if host == "" {
		host = "every host"
	}
	out := Listener{Name: fmt.Sprintf("%s (%s, port %d, %s)", l.Name, l.Protocol, l.Port, host), Meant: c.Named}
	if !c.Named {
		return out
	}
	out.Attached = c.Refusal == nil
	if c.Refusal != nil {
		out.Gates = append(out.Gates, Gate{false, c.Refusal.Message})
	} else {
		out.Gates = append(out.Gates, Gate{true, "it allows the route's kind and namespace, and serves its hostnames"})
	}
	if !l.Valid {
		for _, gate := range gates(l.Problems) {
			out.Gates = append(out.Gates, Gate{false, "the listener is not served: " + gate.Text})
		}
	}
	return out
}

func gates(problems []graph.Problem) []Gate {
	var out []Gate
	for _, p := range problems {
		out = append(out, Gate{false, p.Message})
	}
	return out
}

func passed(list []Gate) bool {
	return !slices.ContainsFunc(list, func(g Gate) bool { return !g.Passed })
}

func ruleGates(r *graph.Route) []Gate {
	out := gates(routeProblems(r))
	for _, rule := range r.Rules {
		part := &graph.Route{Rules: []*graph.Rule{rule}}
		problems := gates(ruleProblems(part))
		if len(problems) == 0 {
			out = append(out, Gate{true, fmt.Sprintf("spec.rules[%d] is valid, and its backends resolve", rule.Index)})
		}
		out = append(out, problems...)
	}
	return out
}
