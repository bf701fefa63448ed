// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	corev1 "k8s.io/api/core/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// anyStatus tells whether a route carries a status that we wrote. It stays in the
// graph after its last parent of ours is gone, so that the status goes too.
func anyStatus(parents []gwv1.RouteParentStatus, controllerName string) bool {
	for _, p := range parents {
		if string(p.ControllerName) == controllerName {
			return true
		}
	}
	return false
}

// add links a route with the listeners of its parents that take it.
func (g *Graph) add(route *Route, parents []*Parent, namespaces map[string]*corev1.Namespace) {
	var labels map[string]string
	if ns := namespaces[route.Key.Namespace]; ns != nil {
		labels = ns.Labels
	}
	attached := map[*Listener]*Attachment{}
	for _, p := range parents {
		p.attach(route, labels, attached)
	}
	route.Parents = parents
	route.passThrough()
	g.Routes = append(g.Routes, route)
}

// attach finds the listeners of the parent that take the route. Listeners that
// are not valid take it too: attaching does not depend on whether a listener works. Two
// parentRefs that reach one listener share its attachment.
func (p *Parent) attach(route *Route, namespaceLabels map[string]string, attached map[*Listener]*Attachment) {
	for _, l := range p.listeners() {
		c := Candidate{Listener: l, Named: names(p.Ref, l)}
		if c.Named {
			var hosts []string
			if hosts, c.Refusal = l.takes(route, namespaceLabels); c.Refusal == nil {
				a := attached[l]
				if a == nil {
					a = &Attachment{Route: route, Listener: l, Hostnames: hosts}
					attached[l] = a
					l.Attachments = append(l.Attachments, a)
				}
				p.Attachments = append(p.Attachments, a)
			}
		}
		p.Candidates = append(p.Candidates, c)
	}
	p.Accepted = len(p.Attachments) > 0
	if !p.Accepted {
		p.Problems = append(p.Problems, p.refusal())
	}
}

// listeners are those that a parentRef may mean: a Gateway's own, or a set's. Who names a
// Gateway does not mean the listeners of its sets.
func (p *Parent) listeners() []*Listener {
	if p.Set != nil {
		return p.Set.Listeners
	}
	return p.Gateway.Own()
}

// names tells whether a parentRef of the listener's owner means the listener.
func names(ref gwv1.ParentReference, l *Listener) bool {
	return (ref.SectionName == nil || *ref.SectionName == l.Name) && (ref.Port == nil || *ref.Port == l.Port)
}

// takes gives the hostnames under which a listener serves a route, or the first
// reason why it does not.
func (l *Listener) takes(route *Route, namespaceLabels map[string]string) ([]string, *Problem) {
	refuse := func(p Problem) ([]string, *Problem) { return nil, &p }
	switch {
	case !l.allowed.kinds[route.Kind]:
		return refuse(kindNotAllowed(l, route.Kind))
	case !l.allowed.allows(route.Kind, route.Key.Namespace, namespaceLabels):
		return refuse(namespaceNotAllowed(l, route.Key.Namespace))
	case route.noHost:
		return refuse(noValidHostname(l))
	}
	hosts := intersect(l.Hostname, route.Hostnames)
	if len(hosts) == 0 {
		return refuse(hostnameNotServed(l, route.Hostnames))
	}
	return hosts, nil
}

// refusal sums up why no listener took the route: the reason is that of the
// listener where the route came furthest, the sentence is what each one says.
func (p *Parent) refusal() Problem {
	var refusals []Problem
	for _, c := range p.Candidates {
		if c.Refusal != nil {
			refusals = append(refusals, *c.Refusal)
		}
	}
	if len(refusals) == 0 {
		return noMatchingParent(p)
	}
	return refusedByListeners(p, refusals)
}
