// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"testing"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			routes := make([]*graph.Route, n)
			for i := range routes {
				routes[i] = graphtest.Route(fmt.Sprintf("route-%d", i), []string{fmt.Sprintf("host-%d.example.com", i)},
					graphtest.Rule("/", graphtest.Backend(fmt.Sprintf("service-%d", i%1000), 90), graphtest.Backend("canary", 10)))
			}
			g := graphtest.Graph(graphtest.HTTP("http", 80, "", routes...))
			b.ReportAllocs()
			for b.Loop() {
				xds.Translate(g, graphtest.GatewayKey)
			}
		})
	}
}
