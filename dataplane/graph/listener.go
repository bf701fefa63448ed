// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Accepted tells whether the listener is one that can be served as written: its
// protocol, port and values are supported and nothing conflicts with it.
// Whether its references resolve is part of Valid only.
func (l *Listener) Accepted() bool {
	return !Has(l.Problems, string(gwv1.ListenerConditionAccepted)) && !Has(l.Problems, string(gwv1.ListenerConditionConflicted))
}

// allowedRoutes is allowedRoutes of a listener, read.
type allowedRoutes struct {
	// from is the listener's namespace for Same and "" for a selector.
	from     string
	selector labels.Selector
	kinds    map[RouteKind]bool
}

func (a allowedRoutes) allows(kind RouteKind, namespace string, namespaceLabels map[string]string) bool {
	if !a.kinds[kind] {
		return false
	}
	if a.selector == nil {
		return namespace == a.from
	}
	return a.selector.Matches(labels.Set(namespaceLabels))
}

// Owner is the object in which the listener stands: its namespace is the one of
// allowedRoutes Same, of certificates, and of ReferenceGrants.
func (l *Listener) Owner() (kind string, key types.NamespacedName) {
	if l.Set != nil {
		return "ListenerSet", l.Set.Key
	}
	return "Gateway", l.Gateway.Key
}

// ID tells a listener from all others of its Gateway: the names in a ListenerSet need
// not differ from those in the Gateway.
func (l *Listener) ID() string {
	if l.Set != nil {
		return l.Set.Key.String() + "/" + string(l.Name)
	}
	return string(l.Name)
}

func buildListener(gw *Gateway, set *ListenerSet, src gwv1.Listener, ports map[int32]bool, refs references) *Listener {
	l := &Listener{
		Gateway: gw, Set: set, Name: src.Name, Source: src, Port: src.Port, Protocol: src.Protocol,
		Hostname:       hostnameOf(src),
		SupportedKinds: []gwv1.RouteGroupKind{},
	}
	if len(routeKinds(src)) == 0 {
		l.Problems = append(l.Problems, protocolUnsupported(src.Protocol))
		return l
	}
	l.Problems = append(l.Problems, portProblems(src.Port, ports)...)
	if l.Hostname != "" && !validHostname(l.Hostname) {
		l.Problems = append(l.Problems, listenerValueUnsupported(
			"hostname is %q: write a DNS name such as shop.example.com or *.example.com", l.Hostname))
	}
	if f := src.Filters; f != nil && len(f.Requests) > 0 {
		l.Problems = append(l.Problems, listenerValueUnsupported(
			"filters.requests[0] is of type %s, which is not supported in a listener: remove it, and write an ExternalAuth filter into the rules of HTTPRoutes", f.Requests[0].Type))
	}
	l.readAllowedRoutes(src.AllowedRoutes)
	if terminates(src) {
		var problems []Problem
		l.Certificates, problems = readCertificates(l, src.TLS, refs)
		l.Problems = append(l.Problems, problems...)
		l.ClientValidation, problems = readClientValidation(gw.Source, src.Port, refs)
		l.Problems = append(l.Problems, problems...)
	} else {
		l.Problems = append(l.Problems, tlsProblems(src)...)
	}
	l.Valid = l.Accepted() && len(l.SupportedKinds) > 0 && (!terminates(src) || len(l.Certificates) > 0)
	return l
}

// readAllowedRoutes fills what may attach. Without kinds it is every kind that the
// protocol can carry; unknown kinds are left out.
func (l *Listener) readAllowedRoutes(src *gwv1.AllowedRoutes) {
	_, owner := l.Owner()
	l.allowed = allowedRoutes{from: owner.Namespace, kinds: map[RouteKind]bool{}}
	if src == nil {
		src = &gwv1.AllowedRoutes{}
	}
	possible := routeKinds(l.Source)
	if len(src.Kinds) == 0 {
		for _, kind := range possible {
			l.allowed.kinds[kind] = true
		}
	}
	for _, k := range src.Kinds {
		kind, group := RouteKind(k.Kind), deref(k.Group, gwv1.GroupName)
		if group != gwv1.GroupName || !slices.Contains(possible, kind) {
			l.Problems = append(l.Problems, routeKindInvalid(string(group), string(kind), possible))
			continue
		}
		l.allowed.kinds[kind] = true
	}
	for _, kind := range slices.Sorted(maps.Keys(l.allowed.kinds)) {
		group := gwv1.Group(gwv1.GroupName)
		l.SupportedKinds = append(l.SupportedKinds, gwv1.RouteGroupKind{Group: &group, Kind: gwv1.Kind(kind)})
	}
	l.readNamespaces(src.Namespaces)
}

func (l *Listener) readNamespaces(src *gwv1.RouteNamespaces) {
	if src == nil {
		return
	}
	switch from := deref(src.From, gwv1.NamespacesFromSame); from {
	case gwv1.NamespacesFromSame:
	case gwv1.NamespacesFromAll:
		l.allowed.selector = labels.Everything()
	case gwv1.NamespacesFromNone:
		l.allowed.selector = labels.Nothing()
	case gwv1.NamespacesFromSelector:
		selector, err := readSelector(src.Selector)
		if err != nil {
			l.Problems = append(l.Problems, listenerValueUnsupported("allowedRoutes.namespaces.selector cannot be read: %v", err))
			selector = labels.Nothing()
		}
		l.allowed.selector = selector
	default:
		l.Problems = append(l.Problems, listenerValueUnsupported("allowedRoutes.namespaces.from is %q: write All, Same or Selector", from))
		l.allowed.selector = labels.Nothing()
	}
}

// readSelector reads a selector; nil selects nothing. Labels are looked at in order of their
// keys: equal selectors give equal errors.
func readSelector(src *metav1.LabelSelector) (labels.Selector, error) {
	if src == nil {
		return labels.Nothing(), nil
	}
	ordered := &metav1.LabelSelector{}
	for _, key := range slices.Sorted(maps.Keys(src.MatchLabels)) {
		ordered.MatchExpressions = append(ordered.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{src.MatchLabels[key]},
		})
	}
	ordered.MatchExpressions = append(ordered.MatchExpressions, src.MatchExpressions...)
	return metav1.LabelSelectorAsSelector(ordered)
}

// How two listeners of a port get in each other's way.
type clashKind int

const (
	noClash clashKind = iota
	clashProtocol
	clashHostname
	// clashOverlap harms neither, but clients may see the certificate of the other.
	clashOverlap
)

func clash(a, b *Listener) clashKind {
	switch {
	case !samePort(a, b):
		return noClash
	case !sharePort(a.Protocol, b.Protocol):
		return clashProtocol
	case a.Hostname == b.Hostname:
		return clashHostname
	case a.Protocol == gwv1.HTTPSProtocolType && b.Protocol == a.Protocol && (covers(a.Hostname, b.Hostname) || covers(b.Hostname, a.Hostname)):
		return clashOverlap
	}
	return noClash
}

// overlaps says that other has hostnames of the listener's, and is said once.
func (l *Listener) overlaps(other *Listener) {
	if !Has(l.Problems, string(gwv1.ListenerConditionOverlappingTLSConfig)) {
		l.Problems = append(l.Problems, overlappingHostnames(l.Hostname, other.Name, other.Hostname))
	}
}

// markConflicts finds listeners that cannot be told apart. All of them lose: the
// Gateway API forbids to pick a winner among the listeners of one object.
func markConflicts(listeners []*Listener) {
	for _, l := range listeners {
		if Has(l.Problems, string(gwv1.ListenerConditionAccepted)) {
			continue
		}
		var protocols, hosts []string
		for _, other := range listeners {
			if Has(other.Problems, string(gwv1.ListenerConditionAccepted)) {
				continue
			}
			if other == l {
				protocols = append(protocols, string(l.Name))
			}
			switch clash(l, other) {
			case clashProtocol:
				protocols = append(protocols, string(other.Name))
			case clashHostname:
				hosts = append(hosts, string(other.Name)) // l itself too
			case clashOverlap:
				l.overlaps(other)
			}
		}
		if len(protocols) > 1 {
			l.Problems = append(l.Problems, protocolConflict(l.Port, protocols))
			l.Valid = false
		}
		if len(hosts) > 1 {
			l.Problems = append(l.Problems, hostnameConflict(l.Port, l.Hostname, hosts))
			l.Valid = false
		}
	}
}
