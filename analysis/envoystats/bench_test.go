// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"fmt"
	"io"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	clientmodel "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// large is a flush of a proxy with so many clusters that have all had requests, as Envoy sends it.
func large(clusters int, at int64) *metricsv3.StreamMetricsMessage {
	out := &metricsv3.StreamMetricsMessage{}
	for i := range clusters {
		name := fmt.Sprintf("cluster.shop/service-%d/80.", i)
		switch i {
		case 0:
			name = "cluster.shop/stable/80."
		case 1:
			name = "cluster.shop/canary/80."
		}
		for _, stat := range []string{"upstream_rq_completed", "upstream_rq_2xx", "upstream_rq_total", "upstream_cx_total", "upstream_cx_rx_bytes_total", "upstream_cx_tx_bytes_total", "membership_total", "membership_healthy", "upstream_rq_active", "upstream_cx_active"} {
			out.EnvoyMetrics = append(out.EnvoyMetrics, counterFamily(name+stat, 3, at))
		}
		h := &clientmodel.Histogram{SampleCount: proto.Uint64(3)}
		for bound := range 55 {
			h.Bucket = append(h.Bucket, &clientmodel.Bucket{UpperBound: proto.Float64(float64(bound)), CumulativeCount: proto.Uint64(2)})
		}
		out.EnvoyMetrics = append(out.EnvoyMetrics, &clientmodel.MetricFamily{
			Name: proto.String(name + "upstream_rq_time"), Type: clientmodel.MetricType_HISTOGRAM.Enum(),
			Metric: []*clientmodel.Metric{{TimestampMs: proto.Int64(at), Histogram: h}},
		})
	}
	return out
}

// BenchmarkServe takes one flush of a proxy with 3,000 clusters that have all had requests, of which a release
// wants two, or none.
func BenchmarkServe(b *testing.B) {
	for _, row := range []struct {
		name  string
		taken bool
	}{{"a release", true}, {"no release", false}} {
		b.Run(row.name, func(b *testing.B) {
			// Two flushes in turn, so that none comes twice.
			messages := [2][]byte{packed(b, large(3000, 1000)), packed(b, large(3000, 2000))}
			store := New(time.Now)
			var tap *Tap
			if row.taken {
				tap = open(store)
			}
			b.SetBytes(int64(len(messages[0])))
			b.ReportAllocs()
			i := 0
			_ = store.Serve(edge, "a", func() ([]byte, error) {
				if !b.Loop() {
					return nil, io.EOF
				}
				if i++; tap != nil && i%2 == 0 {
					if r := tap.Take(time.Time{}); r.Stable.Requests.N == 0 || r.Dropped > 0 {
						b.Fatalf("%+v", r)
					}
				}
				return messages[i%2], nil
			})
		})
	}
}
