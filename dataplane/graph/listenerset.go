// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ListenerSet adds listeners to a Gateway of ours (GEP-1713).
type ListenerSet struct {
	Key     types.NamespacedName
	Source  *gwv1.ListenerSet
	Gateway *Gateway
	// Listeners is empty when the Gateway does not allow the set; else they are among the
	// Gateway's Listeners too.
	Listeners []*Listener
	// Valid is true when the Gateway allows the set and at least one of its listeners
	// can be served.
	Valid    bool
	Problems []Problem
}

// parentOfSet is the Gateway that a ListenerSet names, and whether it names a Gateway at all.
func parentOfSet(set *gwv1.ListenerSet) (types.NamespacedName, bool) {
	ref := set.Spec.ParentRef
	if deref(ref.Group, gwv1.GroupName) != gwv1.GroupName || deref(ref.Kind, "Gateway") != "Gateway" {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(set.Namespace))), Name: string(ref.Name)}, true
}

// addListenerSets makes the sets of our Gateways, each after those that go before
// it on its Gateway: the older one, then the one whose namespace/name comes first.
func (g *Graph) addListenerSets(r Resources, gateways map[types.NamespacedName]*Gateway, refs references) map[types.NamespacedName]*ListenerSet {
	sources := make([]*gwv1.ListenerSet, 0, len(r.ListenerSets))
	for _, src := range r.ListenerSets {
		if src != nil {
			sources = append(sources, src)
		}
	}
	slices.SortFunc(sources, func(a, b *gwv1.ListenerSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), compareKeys(keyOf(a), keyOf(b)))
	})
	sets := map[types.NamespacedName]*ListenerSet{}
	for _, src := range sources {
		key, ok := parentOfSet(src)
		gw := gateways[key]
		if !ok || gw == nil {
			continue
		}
		set := buildListenerSet(src, gw, r.Namespaces[src.Namespace], refs)
		sets[set.Key] = set
		g.ListenerSets = append(g.ListenerSets, set)
	}
	slices.SortFunc(g.ListenerSets, func(a, b *ListenerSet) int { return compareKeys(a.Key, b.Key) })
	return sets
}

// buildListenerSet makes one set and adds its listeners to those of the Gateway,
// which has all that go before.
func buildListenerSet(src *gwv1.ListenerSet, gw *Gateway, namespace *corev1.Namespace, refs references) *ListenerSet {
	set := &ListenerSet{Key: keyOf(src), Source: src, Gateway: gw}
	if why, ok := allowsSet(gw, src.Namespace, namespace); !ok {
		set.Problems = append(set.Problems, setNotAllowed(gw, src.Namespace, why))
		return set
	}
	listeners := make([]gwv1.Listener, 0, len(src.Spec.Listeners))
	for _, l := range src.Spec.Listeners {
		listeners = append(listeners, gwv1.Listener(l))
	}
	ports := portNumbers(listeners)
	for _, l := range listeners {
		set.Listeners = append(set.Listeners, buildListener(gw, set, l, ports[Transport(l.Protocol)], refs))
	}
	// What yields to a listener that goes before the set takes nothing from the others of the set.
	var rest []*Listener
	for _, l := range set.Listeners {
		if l.yield(gw.Listeners); l.Accepted() {
			rest = append(rest, l)
		}
	}
	markConflicts(rest)
	gw.Listeners = append(gw.Listeners, set.Listeners...)
	if !gw.Valid {
		set.Problems = append(set.Problems, setParentNotAccepted(gw))
	}
	if p, ok := notValidListeners(set.Listeners); ok {
		set.Problems = append(set.Problems, p)
	}
	set.Valid = gw.Valid && slices.ContainsFunc(set.Listeners, func(l *Listener) bool { return l.Valid })
	return set
}

// notValidListeners sums up the listeners of a set that are not served. A set is not accepted
// when none is, be it only because references do not resolve.
func notValidListeners(listeners []*Listener) (Problem, bool) {
	var names []string
	for _, l := range listeners {
		if !l.Valid {
			names = append(names, string(l.Name))
		}
	}
	if len(names) == 0 && len(listeners) > 0 {
		return Problem{}, false
	}
	return setListenersNotValid(names, len(names) == len(listeners)), true
}

// yield marks a listener of a set that conflicts with one that goes before it, of
// the Gateway itself or of an earlier set: the later one alone loses.
func (l *Listener) yield(before []*Listener) {
	if !l.Accepted() {
		return
	}
	for _, winner := range before {
		if !winner.Accepted() {
			continue
		}
		switch {
		case Transport(winner.Protocol) != Transport(l.Protocol):
		case winner.Port != l.Port && ProxyPort(winner.Port) == ProxyPort(l.Port):
			l.Problems = append(l.Problems, portTaken(l.Port, winner.Port))
		case winner.Port != l.Port:
		default:
			switch clash(l, winner) {
			case clashProtocol:
				l.Problems = append(l.Problems, yieldsProtocol(l, winner))
			case clashHostname:
				l.Problems = append(l.Problems, yieldsHostname(l, winner))
			case clashOverlap:
				l.overlaps(winner)
				winner.overlaps(l)
			}
		}
		if !l.Accepted() {
			l.Valid = false
			return
		}
	}
}

// allowsSet tells whether the Gateway's allowedListeners take sets of a namespace, and
// if not, what they take. Without allowedListeners that is none.
func allowsSet(gw *Gateway, name string, namespace *corev1.Namespace) (takes string, ok bool) {
	from, selector := gwv1.NamespacesFromNone, (*metav1.LabelSelector)(nil)
	if allowed := gw.Source.Spec.AllowedListeners; allowed != nil && allowed.Namespaces != nil {
		from, selector = deref(allowed.Namespaces.From, from), allowed.Namespaces.Selector
	}
	switch from {
	case gwv1.NamespacesFromAll:
		return "", true
	case gwv1.NamespacesFromSame:
		return "of its own namespace only", name == gw.Key.Namespace
	case gwv1.NamespacesFromSelector:
		s, err := readSelector(selector)
		if err != nil {
			return "of no namespace, for its selector cannot be read: " + err.Error(), false
		}
		var has map[string]string
		if namespace != nil {
			has = namespace.Labels
		}
		return "of namespaces with the labels " + metav1.FormatLabelSelector(selector), s.Matches(labels.Set(has))
	}
	return "of no namespace", false
}

func setNotAllowed(gw *Gateway, namespace, takes string) Problem {
	return problem(gwv1.ListenerSetConditionAccepted, gwv1.ListenerSetReasonNotAllowed,
		"Gateway %s takes ListenerSets %s, not of %q: change its spec.allowedListeners.namespaces, or name another Gateway", gw.Key, takes, namespace)
}

func setParentNotAccepted(gw *Gateway) Problem {
	return problem(gwv1.ListenerSetConditionAccepted, gwv1.ListenerSetReasonParentNotAccepted,
		"Gateway %s is not accepted: see its status", gw.Key)
}

func setListenersNotValid(names []string, all bool) Problem {
	p := listenersNotValid(names, all)
	p.Reason = string(gwv1.ListenerSetReasonListenersNotValid)
	return p
}

// describe names a listener for the owner of another one.
func (l *Listener) describe() string {
	kind, key := l.Owner()
	return string(l.Name) + " of " + kind + " " + key.String()
}

func yieldsProtocol(l, winner *Listener) Problem {
	return problem(gwv1.ListenerConditionConflicted, gwv1.ListenerReasonProtocolConflict,
		"port %d serves protocol %s for listener %s, which goes before: write another port", l.Port, winner.Protocol, winner.describe())
}

func yieldsHostname(l, winner *Listener) Problem {
	return problem(gwv1.ListenerConditionConflicted, gwv1.ListenerReasonHostnameConflict,
		"%s on port %d is served by listener %s, which goes before: write another hostname or port", hostText(l.Hostname), l.Port, winner.describe())
}

// setWantedSecrets are the Secrets that the listeners of allowed sets refer to.
func setWantedSecrets(r Resources, want func(owner, namespace string, tls *gwv1.ListenerTLSConfig)) {
	for _, set := range r.ListenerSets {
		key, ok := parentOfSet(set)
		gw := r.Gateways[key]
		if !ok || gw == nil {
			continue
		}
		class := r.GatewayClasses[string(gw.Spec.GatewayClassName)]
		if class == nil || string(class.Spec.ControllerName) != r.ControllerName {
			continue
		}
		if _, allowed := allowsSet(&Gateway{Key: key, Source: gw}, set.Namespace, r.Namespaces[set.Namespace]); !allowed {
			continue
		}
		for _, l := range set.Spec.Listeners {
			want("ListenerSet", set.Namespace, l.TLS)
		}
	}
}
