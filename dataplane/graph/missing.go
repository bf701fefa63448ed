// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import "k8s.io/apimachinery/pkg/types"

// MissingServices lists the Services that routes of the graph refer to and that are not
// among the resources it was built from, sorted. A reference that is not permitted
// does not count: nobody may learn by it whether the Service exists.
func MissingServices(routes []*Route, r Resources) []types.NamespacedName {
	missing := map[types.NamespacedName]bool{}
	look := func(b *Backend) {
		key := types.NamespacedName{Namespace: b.Cluster.Namespace, Name: b.Cluster.Service}
		if key.Name != "" && r.Services[key] == nil && hasReason(b.Problems, backendNotFound("", key).Reason) {
			missing[key] = true
		}
	}
	for _, route := range routes {
		for _, rule := range route.Rules {
			for _, b := range rule.Backends {
				look(b)
			}
			for _, m := range rule.Mirrors {
				look(m.Backend)
			}
		}
	}
	return sortedKeys(missing)
}

func hasReason(problems []Problem, reason string) bool {
	for _, p := range problems {
		if p.Reason == reason {
			return true
		}
	}
	return false
}
