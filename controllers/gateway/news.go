// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// news is what the watches told since the last pass: which routes differ, which Gateways and
// ListenerSets do, whose proxies, or that something else may, so that everything has to be read.
type news struct {
	mu sync.Mutex
	differing
	other bool
	// awaited is true when events have asked for a pass that has not begun.
	awaited bool
}

// differing are the objects that differ, if only they do.
type differing struct {
	routes  map[graph.RouteKey]bool
	parents map[graph.ParentKey]bool
	// proxies are the Gateways with objects of their infrastructure that differ.
	proxies map[types.NamespacedName]bool
}

func nothing() differing {
	return differing{routes: map[graph.RouteKey]bool{}, parents: map[graph.ParentKey]bool{}, proxies: map[types.NamespacedName]bool{}}
}

func newNews() *news { return &news{differing: nothing(), other: true} }

// wake says that a pass was asked for.
func (n *news) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.awaited = true
}

// awaits tells whether events ask for another pass.
func (n *news) awaits() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.awaited
}

// anything says that something else may differ than can be named.
func (n *news) anything() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.other = true
}

func (n *news) route(key graph.RouteKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes[key] = true
}

func (n *news) parent(key graph.ParentKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parents[key] = true
}

// infrastructure says that an object differs that should be part of a Gateway's infrastructure.
func (n *news) infrastructure(o client.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if owner := metav1.GetControllerOf(o); owner != nil && gatewayKind(owner) {
		n.proxies[types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}] = true
		return
	}
	n.other = true
}

// gatewayKind tells whether the owner of an object is a Gateway.
func gatewayKind(owner *metav1.OwnerReference) bool {
	return owner.Kind == string(graph.KindGateway) && strings.HasPrefix(owner.APIVersion, gwv1.GroupName+"/")
}

// take gives what differs, once. It gives false when that may not be all, and when there is
// nothing: then the pass has another reason.
func (n *news) take() (differing, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all, only := n.differing, !n.other && len(n.routes)+len(n.parents)+len(n.proxies) > 0
	n.differing, n.other, n.awaited = nothing(), false, false
	return all, only
}

// watching takes note of every event of a kind, and lets it pass.
func (n *news) watching(of kind) predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		switch key := client.ObjectKeyFromObject(o); {
		case of.route != "":
			n.route(graph.RouteKey{Kind: of.route, NamespacedName: key})
		case of.parent != "":
			n.parent(graph.ParentKey{Kind: of.parent, NamespacedName: key})
		default:
			n.anything()
		}
		return true
	})
}
