// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// mirrorPolicies gives the Envoy form of a rule's mirrors. What is not valid, or gets
// no request, is left out. Fractions of a million, as everywhere: they would else
// depend on the weights of the backends (see million).
func mirrorPolicies(mirrors []*graph.Mirror) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	for _, m := range mirrors {
		if !mirrored(m) {
			continue
		}
		out = append(out, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         m.Cluster.Name(),
			RuntimeFraction: fraction(m.PerMillion, ""),
			// A copy is a copy: the backend sees the host as the client wrote it.
			DisableShadowHostSuffixAppend: true,
		})
	}
	return out
}

func mirrored(m *graph.Mirror) bool { return m.Valid && m.PerMillion > 0 }
