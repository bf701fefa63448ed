// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// BenchmarkWeightChange measures a change of one weight under release among many routes
// at rest: from the call of Publish until the proxy acknowledged, what Translate takes
// before, and how long Publish compares what did not change.
func BenchmarkWeightChange(b *testing.B) {
	for _, routes := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			r := newRig(b)
			port := FreePort(b)
			backend := NewBackend(b, "web")
			all := make([]*graph.Route, routes)
			for i := range all {
				service := fmt.Sprintf("service-%d", i%1000)
				all[i] = graphtest.Route(fmt.Sprintf("route-%d", i), []string{fmt.Sprintf("host-%d.example.com", i)},
					graphtest.Rule("/", graphtest.Backend(service, 90), graphtest.Backend("canary", 10)))
				if i < 1000 {
					r.endpoints(service, backend)
				}
			}
			r.endpoints("canary", backend)
			all[0].Running = true
			g := graphtest.Graph(graphtest.HTTP("http", port, "", all...))
			r.publish(g)
			var acks, translations, publications []time.Duration
			weight := int32(0)
			for b.Loop() {
				weight = (weight + 1) % 100
				all[0].Rules[0].Backends[0].Weight, all[0].Rules[0].Backends[1].Weight = 100-weight, weight
				start := time.Now()
				snap := xds.Translate(g, graphtest.GatewayKey)
				translated := time.Now()
				before := r.Server.State(graphtest.GatewayKey).Acked
				acked := make(chan time.Time)
				go func() {
					for r.Server.State(graphtest.GatewayKey).Acked <= before {
						<-r.notified
					}
					acked <- time.Now()
				}()
				r.Server.Publish(snap)
				publications = append(publications, time.Since(translated))
				translations = append(translations, translated.Sub(start))
				acks = append(acks, (<-acked).Sub(translated))
			}
			for name, times := range map[string][]time.Duration{"translate": translations, "publish": publications, "ack": acks} {
				slices.Sort(times)
				b.ReportMetric(milliseconds(times[len(times)/2]), name+"-p50-ms")
				b.ReportMetric(milliseconds(times[len(times)*99/100]), name+"-p99-ms")
			}
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
