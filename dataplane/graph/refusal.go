// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// What is said when a route does not attach: first of a parent whose parentRef
// means no listener, then of each listener that refuses the route.

func noMatchingParent(p *Parent) Problem {
	if p.Set != nil && len(p.Set.Listeners) == 0 {
		return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNoMatchingParent,
			"%s is not accepted by its Gateway: see its status", p.describe())
	}
	ref := p.Ref
	what := "listener"
	if ref.SectionName != nil {
		what = fmt.Sprintf("listener %q", *ref.SectionName)
	}
	if ref.Port != nil {
		what += fmt.Sprintf(" on port %d", *ref.Port)
	}
	var has []string
	for _, l := range p.listeners() {
		has = append(has, fmt.Sprintf("%q (port %d)", l.Name, l.Port))
	}
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNoMatchingParent,
		"%s has no %s: write one that it has: %s", p.describe(), what, shortened(has, ", "))
}

// refusedByListeners joins what each listener says. The reason is that of the
// listener where the route came furthest: hostnames are looked at last.
func refusedByListeners(parent *Parent, refusals []Problem) Problem {
	p := refusals[0]
	var messages []string
	for _, r := range refusals {
		messages = append(messages, r.Message)
		if r.Reason == string(gwv1.RouteReasonNoMatchingListenerHostname) {
			p.Reason = r.Reason
		}
	}
	p.Message = fmt.Sprintf("no listener of %s takes the route: %s", parent.describe(), shortened(messages, "; "))
	return p
}

// describe names the parent for the owner of a route.
func (p *Parent) describe() string {
	if p.Set != nil {
		return "ListenerSet " + p.Set.Key.String()
	}
	return "Gateway " + p.Gateway.Key.String()
}

// shortened joins what a reader will still read.
func shortened(list []string, separator string) string {
	const most = 8
	if more := len(list) - most; more > 0 {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, separator)
}

func kindNotAllowed(l *Listener, kind RouteKind) Problem {
	var kinds []string
	for _, k := range l.SupportedKinds {
		kinds = append(kinds, string(k.Kind))
	}
	takes, advice := strings.Join(kinds, " and "), ""
	switch {
	case len(kinds) == 0:
		takes, advice = "no route of any kind", "see its conditions"
	case l.Source.AllowedRoutes != nil && len(l.Source.AllowedRoutes.Kinds) > 0:
		takes, advice = takes+" only", fmt.Sprintf("add %s to its allowedRoutes.kinds, or name another listener", kind)
	default:
		takes, advice = takes+" only", fmt.Sprintf("its protocol is %s, name another listener", l.Protocol)
	}
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNotAllowedByListeners, "listener %q takes %s: %s", l.Name, takes, advice)
}

func namespaceNotAllowed(l *Listener, namespace string) Problem {
	from, selector := gwv1.NamespacesFromSame, (*metav1.LabelSelector)(nil)
	if allowed := l.Source.AllowedRoutes; allowed != nil && allowed.Namespaces != nil {
		from, selector = deref(allowed.Namespaces.From, from), allowed.Namespaces.Selector
	}
	of, advice := "no namespace", "write Same, All or Selector as its allowedRoutes.namespaces.from"
	switch from {
	case gwv1.NamespacesFromSame:
		of = fmt.Sprintf("its own namespace %q only", l.allowed.from)
		advice = "write All or Selector as its allowedRoutes.namespaces.from, or move the route there"
	case gwv1.NamespacesFromSelector:
		of = fmt.Sprintf("namespaces with the labels %q", metav1.FormatLabelSelector(selector))
		advice = "give the namespace of the route those labels, or change its allowedRoutes.namespaces.selector"
	}
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNotAllowedByListeners,
		"listener %q takes routes of %s, not of %q: %s", l.Name, of, namespace, advice)
}

func hostnameNotServed(l *Listener, hostnames []string) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNoMatchingListenerHostname,
		"listener %q serves %s, which none of spec.hostnames (%s) is: write one that it serves, or change its hostname",
		l.Name, hostText(l.Hostname), shortened(hostnames, ", "))
}

func noValidHostname(l *Listener) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonNoMatchingListenerHostname,
		"listener %q finds no valid name in spec.hostnames", l.Name)
}
