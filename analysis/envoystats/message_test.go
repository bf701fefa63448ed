// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	clientmodel "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
)

var edge = types.NamespacedName{Namespace: "infra", Name: "edge"}

// said is one flush as a test writes it: deltas of counters by name, and histograms.
type said struct {
	at       int64
	counters map[string]float64
	times    map[string][]uint64 // counts by bounds of testBounds, and the total
}

func testBounds() []float64 { return []float64{1, 10, 100} }

func (s said) message(tb testing.TB) []byte {
	tb.Helper()
	out := &metricsv3.StreamMetricsMessage{}
	for _, name := range slices.Sorted(maps.Keys(s.counters)) {
		out.EnvoyMetrics = append(out.EnvoyMetrics, counterFamily(name, s.counters[name], s.at))
	}
	for _, name := range slices.Sorted(maps.Keys(s.times)) {
		out.EnvoyMetrics = append(out.EnvoyMetrics, timesFamily(name, s.times[name], s.at))
	}
	if len(out.EnvoyMetrics) == 0 {
		out.EnvoyMetrics = append(out.EnvoyMetrics, counterFamily("server.something", 0, s.at))
	}
	return packed(tb, out)
}

func packed(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func counterFamily(name string, delta float64, at int64) *clientmodel.MetricFamily {
	return &clientmodel.MetricFamily{
		Name: proto.String(name), Type: clientmodel.MetricType_COUNTER.Enum(),
		Metric: []*clientmodel.Metric{{TimestampMs: proto.Int64(at), Counter: &clientmodel.Counter{Value: proto.Float64(delta)}}},
	}
}

func timesFamily(name string, counts []uint64, at int64) *clientmodel.MetricFamily {
	h := &clientmodel.Histogram{SampleCount: proto.Uint64(counts[len(counts)-1])}
	for i, bound := range testBounds()[:len(counts)-1] {
		h.Bucket = append(h.Bucket, &clientmodel.Bucket{UpperBound: proto.Float64(bound), CumulativeCount: proto.Uint64(counts[i])})
	}
	return &clientmodel.MetricFamily{
		Name: proto.String(name), Type: clientmodel.MetricType_HISTOGRAM.Enum(),
		Metric: []*clientmodel.Metric{{TimestampMs: proto.Int64(at), Histogram: h}},
	}
}

// hand is a Store with a clock that the test moves, and streams that it feeds.
type hand struct {
	tb    testing.TB
	store *Store
	clock time.Time
}

func newHand(tb testing.TB) *hand {
	h := &hand{tb: tb, clock: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	h.store = New(func() time.Time { return h.clock })
	return h
}

func (h *hand) pass(d time.Duration) { h.clock = h.clock.Add(d) }

func (h *hand) open() *Tap { return open(h.store) }

func open(s *Store) *Tap {
	return s.Open(Versions{
		Gateways: []types.NamespacedName{edge},
		Stable:   []string{"shop/stable/80"}, Canary: []string{"shop/canary/80"},
	})
}

// line is one proxy's stream. Its messages are taken one by one, when the test sends them.
type line struct {
	hand     *hand
	messages chan []byte
	asked    chan bool
	ended    chan error
	behind   time.Duration // how far the proxy's clock is behind ours
}

func (h *hand) connect(node string) *line { return h.connectTo(edge, node) }

func (h *hand) connectTo(gateway types.NamespacedName, node string) *line {
	l := &line{hand: h, messages: make(chan []byte), asked: make(chan bool), ended: make(chan error, 1)}
	go func() {
		l.ended <- h.store.Serve(gateway, node, func() ([]byte, error) {
			l.asked <- true
			message, ok := <-l.messages
			if !ok {
				return nil, io.EOF
			}
			return message, nil
		})
	}()
	<-l.asked
	return l
}

// raw sends a message and returns when it was taken.
func (l *line) raw(message []byte) {
	l.messages <- message
	<-l.asked
}

// flush sends what the proxy counted until now.
func (l *line) flush(counters map[string]float64) { l.say(said{counters: counters}) }

func (l *line) say(s said) {
	l.hand.tb.Helper()
	if s.at == 0 {
		s.at = l.hand.clock.Add(-l.behind).UnixMilli()
	}
	l.raw(s.message(l.hand.tb))
}

func (l *line) disconnect() {
	l.hand.tb.Helper()
	close(l.messages)
	if err := <-l.ended; !errors.Is(err, io.EOF) {
		l.hand.tb.Errorf("the stream ended with %v", err)
	}
}

// both is a flush in which both versions had requests.
func both(stable, stableBad, canary, canaryBad float64) map[string]float64 {
	return map[string]float64{
		"cluster.shop/stable/80.upstream_rq_2xx": stable - stableBad,
		"cluster.shop/stable/80.upstream_rq_5xx": stableBad,
		"cluster.shop/canary/80.upstream_rq_2xx": canary - canaryBad,
		"cluster.shop/canary/80.upstream_rq_5xx": canaryBad,
	}
}

func TestTheTestsOwnMessagesAreEnvoys(t *testing.T) {
	m := &metricsv3.StreamMetricsMessage{}
	if err := proto.Unmarshal(said{at: 7, counters: both(3, 1, 2, 1)}.message(t), m); err != nil {
		t.Fatal(err)
	}
	if len(m.EnvoyMetrics) != 4 || !strings.HasPrefix(m.EnvoyMetrics[0].GetName(), "cluster.shop/canary/80.") {
		t.Errorf("%v", m)
	}
}
