// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ParentKey is what a parentRef names: a Gateway or a ListenerSet.
type ParentKey struct {
	Kind gwv1.Kind
	types.NamespacedName
}

// The kinds of parents.
const (
	KindGateway     gwv1.Kind = "Gateway"
	KindListenerSet gwv1.Kind = "ListenerSet"
)

// Parent gives a Gateway or a ListenerSet, or nil.
func (r Resources) Parent(key ParentKey) client.Object {
	switch key.Kind {
	case KindGateway:
		if src := r.Gateways[key.NamespacedName]; src != nil {
			return src
		}
	case KindListenerSet:
		if src := r.ListenerSets[key.NamespacedName]; src != nil {
			return src
		}
	}
	return nil
}

// ParentOf is what a parentRef of a route in the namespace names, and whether
// that is of a kind that we know.
func ParentOf(namespace string, ref gwv1.ParentReference) (ParentKey, bool) {
	kind := deref(ref.Kind, KindGateway)
	if deref(ref.Group, gwv1.GroupName) != gwv1.GroupName || kind != KindGateway && kind != KindListenerSet {
		return ParentKey{}, false
	}
	return ParentKey{kind, types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}}, true
}

// parents is all that routes may name as their parent, and is ours.
type parents struct {
	gateways map[types.NamespacedName]*Gateway
	sets     map[types.NamespacedName]*ListenerSet
	// defaults are the Gateways with defaultScope All, by name (GEP-3793).
	defaults []*Gateway
}

func newParents(gateways []*Gateway, byKey map[types.NamespacedName]*Gateway, sets map[types.NamespacedName]*ListenerSet) parents {
	p := parents{gateways: byKey, sets: sets}
	for _, gw := range gateways {
		if gw.Source.Spec.DefaultScope == gwv1.GatewayDefaultScopeAll {
			p.defaults = append(p.defaults, gw)
		}
	}
	return p
}

// of gives the parents that a route's spec names, in the order written, and after them
// the default Gateways when it asks for those. A default Gateway that the route names
// itself is no parent twice.
func (p parents) of(namespace string, spec gwv1.CommonRouteSpec) []*Parent {
	var out []*Parent
	named := map[*Gateway]bool{}
	for _, ref := range spec.ParentRefs {
		key, ok := ParentOf(namespace, ref)
		if !ok {
			continue
		}
		if gw := p.gateways[key.NamespacedName]; key.Kind == KindGateway && gw != nil {
			named[gw] = true
			out = append(out, &Parent{Ref: ref, Gateway: gw})
		}
		if set := p.sets[key.NamespacedName]; key.Kind == KindListenerSet && set != nil {
			out = append(out, &Parent{Ref: ref, Gateway: set.Gateway, Set: set})
		}
	}
	if spec.UseDefaultGateways != gwv1.GatewayDefaultScopeAll {
		return out
	}
	for _, gw := range p.defaults {
		if !named[gw] {
			out = append(out, &Parent{Ref: refTo(gw), Gateway: gw, Default: true})
		}
	}
	return out
}

// refTo is the reference under which a route's status shows a default Gateway.
func refTo(gw *Gateway) gwv1.ParentReference {
	group, namespace := gwv1.Group(gwv1.GroupName), gwv1.Namespace(gw.Key.Namespace)
	return gwv1.ParentReference{Group: &group, Kind: new(KindGateway), Namespace: &namespace, Name: gwv1.ObjectName(gw.Key.Name)}
}
