// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
)

// behind is an object that stands behind routes, with what the graph says of it.
type behind struct {
	kind     string
	key      types.NamespacedName
	problems []graph.Problem
}

// backends are the policies of backends and the XBackends of the graph: those that a route
// of one of its Gateways sends to.
func backends(g *graph.Graph) []behind {
	var out []behind
	for _, p := range g.Policies {
		out = append(out, behind{"BackendTLSPolicy", p.Key, p.Problems})
	}
	for _, x := range g.XBackends {
		out = append(out, behind{"XBackend", x.Key, x.Problems})
	}
	for _, p := range g.TrafficPolicies {
		out = append(out, behind{"XBackendTrafficPolicy", p.Key, p.Problems})
	}
	return out
}

// idle lists what has no effect: a policy whose Service is missing is at fault, for what it
// should protect is somewhere else; whatever else no route sends to is only told.
func idle(w *world.World, g *graph.Graph) []Finding {
	effective := map[string]bool{}
	for _, b := range backends(g) {
		effective[b.kind+" "+b.key.String()] = true
	}
	var out []Finding
	add := func(kind string, key types.NamespacedName, message string, warning bool) {
		if object := kind + " " + key.String(); !effective[object] {
			out = append(out, Finding{Object: object, Message: message, Warning: warning})
		}
	}
	for _, key := range sorted(w.Resources.BackendTLSPolicies) {
		message, warning := "no route sends to what spec.targetRefs names: it has no effect", true
		for i, ref := range w.Resources.BackendTLSPolicies[key].Spec.TargetRefs {
			service := types.NamespacedName{Namespace: key.Namespace, Name: string(ref.Name)}
			if isService(ref.LocalPolicyTargetReference) && w.Resources.Services[service] == nil {
				message, warning = fmt.Sprintf("spec.targetRefs[%d]: Service %s does not exist: correct the name, or create it", i, service), false
				break
			}
		}
		add("BackendTLSPolicy", key, message, warning)
	}
	for _, key := range sorted(w.Resources.XBackends) {
		add("XBackend", key, "no route sends to it: it was not checked", true)
	}
	for _, key := range sorted(w.Resources.XBackendTrafficPolicies) {
		add("XBackendTrafficPolicy", key, "no route sends to what spec.targetRefs names: it has no effect", true)
	}
	return out
}

func isService(ref gwv1.LocalPolicyTargetReference) bool {
	return ref.Group == "" && ref.Kind == "Service"
}

func sorted[T any](objects map[types.NamespacedName]T) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(objects), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}
