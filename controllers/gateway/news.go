// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"headgate.dev/headgate/dataplane/graph"
)

// news is what the watches told since the last pass: which routes differ, or that
// something else may, so that everything has to be read.
type news struct {
	mu     sync.Mutex
	routes map[graph.RouteKey]bool
	other  bool
}

func newNews() *news { return &news{routes: map[graph.RouteKey]bool{}, other: true} }

// anything says that something else than a route may differ.
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

// take gives the routes that differ, once. It gives false when that may not be all, and when there is
// nothing: then the pass has another reason.
func (n *news) take() ([]graph.RouteKey, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := make([]graph.RouteKey, 0, len(n.routes))
	for key := range n.routes {
		keys = append(keys, key)
	}
	only := !n.other && len(keys) > 0
	clear(n.routes)
	n.other = false
	return keys, only
}

// watching takes note of every event of a kind, also of those that later predicates keep from
// waking the reconciler: what it read before is then not what there is.
func (n *news) watching(kind graph.RouteKind) predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool {
		if kind == "" {
			n.anything()
		} else {
			n.route(graph.RouteKey{Kind: kind, NamespacedName: client.ObjectKeyFromObject(o)})
		}
		return true
	})
}
