// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ParentKey is the Gateway that a parentRef of a route in the namespace names,
// and whether it names a Gateway at all.
func ParentKey(namespace string, ref gwv1.ParentReference) (types.NamespacedName, bool) {
	if deref(ref.Group, gwv1.GroupName) != gwv1.GroupName || deref(ref.Kind, "Gateway") != "Gateway" {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}, true
}

func anyOurs(route client.Object, refs []gwv1.ParentReference, gateways map[types.NamespacedName]*Gateway) bool {
	for _, ref := range refs {
		if key, ok := ParentKey(route.GetNamespace(), ref); ok && gateways[key] != nil {
			return true
		}
	}
	return false
}

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

// add links a route with the listeners it attaches to.
func (g *Graph) add(route *Route, refs []gwv1.ParentReference, gateways map[types.NamespacedName]*Gateway, namespaces map[string]*corev1.Namespace) {
	var labels map[string]string
	if ns := namespaces[route.Key.Namespace]; ns != nil {
		labels = ns.Labels
	}
	attached := map[*Listener]*Attachment{}
	for _, ref := range refs {
		key, ok := ParentKey(route.Key.Namespace, ref)
		if !ok || gateways[key] == nil {
			continue
		}
		p := &Parent{Ref: ref, Gateway: gateways[key]}
		p.attach(route, labels, attached)
		route.Parents = append(route.Parents, p)
	}
	g.Routes = append(g.Routes, route)
}

// attach finds the listeners of the parent that take the route. Listeners that
// are not valid take it too: attaching does not depend on whether a listener works. Two
// parentRefs that reach one listener share its attachment.
func (p *Parent) attach(route *Route, namespaceLabels map[string]string, attached map[*Listener]*Attachment) {
	for _, l := range p.Gateway.Listeners {
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

// names tells whether a parentRef of the listener's Gateway means the listener.
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
		return noMatchingParent(p.Ref, p.Gateway)
	}
	return refusedByListeners(p.Gateway.Key, refusals)
}
