// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/status"
)

// noteLimit is how long the note of an event may be, in bytes.
const noteLimit = 1024

// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// tell writes an event on each route of which the proxies refuse a rule, once for
// each thing that they say about it.
func (r *reconciler) tell(p status.Programmed) {
	refused := map[status.ObjectKey][]string{}
	for _, state := range p {
		for key, problems := range state.Refused {
			for _, problem := range problems {
				if !slices.Contains(refused[key], problem.Message) { // other Gateways say the same
					refused[key] = append(refused[key], problem.Message)
				}
			}
		}
	}
	still := map[string]bool{}
	for _, route := range r.graph.Routes {
		for _, message := range refused[status.ObjectKey{Kind: string(route.Kind), NamespacedName: route.Key}] {
			id := string(route.Source.GetUID()) + "/" + message
			still[id] = true
			if !r.told[id] {
				r.events.Eventf(route.Source, nil, corev1.EventTypeWarning, v1beta1.ReasonRuleRefused, "Configure", "%s", shorten(message, noteLimit))
			}
		}
	}
	r.told = still
}

// shorten cuts a text to at most limit bytes, between two characters.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "..."
}
