// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"math"
	"strings"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/google/go-cmp/cmp"
	clientmodel "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis/sequential"
)

func counts(n, x float64) sequential.Counts { return sequential.Counts{N: n, X: x} }

// want compares the requests of both versions.
func (h *hand) want(t *testing.T, r Reading, stable, canary sequential.Counts) {
	t.Helper()
	if r.Stable.Requests != stable || r.Canary.Requests != canary {
		t.Errorf("stable %+v, want %+v; canary %+v, want %+v; %+v", r.Stable.Requests, stable, r.Canary.Requests, canary, r)
	}
}

func TestWhichCountersAreRequests(t *testing.T) {
	const at = "cluster.shop/canary/80."
	for _, tt := range []struct {
		name     string
		counters map[string]float64
		want     sequential.Counts
	}{
		{"answers by class, of which 5xx are bad", map[string]float64{at + "upstream_rq_2xx": 5, at + "upstream_rq_3xx": 1, at + "upstream_rq_4xx": 3, at + "upstream_rq_5xx": 2}, counts(11, 2)},
		{"an upgrade, and no hint before the answer", map[string]float64{at + "upstream_rq_1xx": 7, at + "upstream_rq_101": 2, at + "upstream_rq_103": 5, at + "upstream_rq_2xx": 5}, counts(7, 0)},
		{"mirrored requests are no client's", map[string]float64{at + "upstream_rq_2xx": 5, at + "upstream_rq_5xx": 4, at + "internal.upstream_rq_2xx": 2, at + "internal.upstream_rq_5xx": 3}, counts(4, 1)},
		{"gRPC calls by code", map[string]float64{at + "grpc.total": 12, at + "grpc.2": 1, at + "grpc.4": 1, at + "grpc.12": 1, at + "grpc.13": 1, at + "grpc.14": 1, at + "grpc.15": 1}, counts(12, 6)},
		{"both in one cluster", map[string]float64{at + "upstream_rq_2xx": 5, at + "upstream_rq_5xx": 1, at + "grpc.total": 4, at + "grpc.14": 3}, counts(10, 4)},
		{"tries, and what is only counted elsewhere", map[string]float64{at + "upstream_rq_2xx": 2, at + "upstream_rq_total": 9, at + "upstream_rq_retry": 7, at + "retry.upstream_rq_5xx": 7, at + "external.upstream_rq_2xx": 2, at + "upstream_rq_completed": 2, at + "upstream_rq_timeout": 1}, counts(2, 0)},
		{"each protocol of the version", map[string]float64{at + "upstream_rq_2xx": 2, "cluster.shop/canary/80/h2c.upstream_rq_5xx": 3}, counts(5, 3)},
		{"no other port, Service, namespace or kind", map[string]float64{"cluster.shop/canary/8080.upstream_rq_2xx": 1, "cluster.shop/canary2/80.upstream_rq_2xx": 1, "cluster.shop2/canary/80.upstream_rq_2xx": 1, "cluster.shop/canary/80/xbackend.upstream_rq_2xx": 1, "cluster.shop/canary/80/xbackend/h2c.upstream_rq_2xx": 1, "cluster.shop/canary.upstream_rq_2xx": 1, "cluster.shop.upstream_rq_2xx": 1, "listener.shop/canary/80.upstream_rq_2xx": 1}, counts(0, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHand(t)
			tap, proxy := h.open(), h.connect("a")
			proxy.flush(tt.counters)
			r := tap.Take(time.Time{})
			h.want(t, r, counts(0, 0), tt.want)
			if r.Dropped != 0 {
				t.Errorf("dropped: %s", r.Why)
			}
			h.want(t, tap.Take(time.Time{}), counts(0, 0), counts(0, 0))
		})
	}
}

func TestAFlushIsInOneReadingWhole(t *testing.T) {
	h := newHand(t)
	early := h.open()
	a, b := h.connect("a"), h.connect("b")
	a.flush(both(100, 1, 10, 2))
	late := h.open()
	b.flush(both(50, 0, 5, 1))
	h.pass(time.Second)
	a.flush(both(200, 3, 20, 0))
	h.want(t, early.Take(time.Time{}), counts(350, 4), counts(35, 3))
	h.want(t, late.Take(time.Time{}), counts(250, 3), counts(25, 1))
	h.want(t, early.Take(time.Time{}), counts(0, 0), counts(0, 0))
	early.Close()
	h.pass(time.Second)
	b.flush(both(7, 0, 3, 0))
	h.want(t, early.Take(time.Time{}), counts(0, 0), counts(0, 0))
	h.want(t, late.Take(time.Time{}), counts(7, 0), counts(3, 0))
}

func TestAProxySpeaksForItsOwnGatewayOnly(t *testing.T) {
	h := newHand(t)
	tap := h.open()
	other := h.connectTo(types.NamespacedName{Namespace: "evil", Name: "edge"}, "a")
	other.flush(both(100, 100, 100, 100))
	other.raw([]byte("nonsense"))
	r := tap.Take(time.Time{})
	if diff := cmp.Diff(Reading{}, r); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyIntervalsThatBeganLateEnoughAreTaken(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	a.behind = 3 * time.Hour // its clock does not matter
	a.flush(both(1, 0, 1, 0))
	h.pass(time.Second)
	a.flush(both(10, 0, 1, 0))
	h.pass(400 * time.Millisecond)
	changed := h.clock
	h.pass(600 * time.Millisecond)
	a.flush(both(100, 0, 1, 0)) // began before the change
	h.pass(time.Second)
	a.flush(both(1000, 0, 1, 0))
	r := tap.Take(changed)
	h.want(t, r, counts(1000, 0), counts(1, 0))
	if r.Early != 3 || r.Proxies != 1 || !r.Newest.Equal(h.clock) {
		t.Errorf("%+v", r)
	}
}

func TestAFlushThatHadToWaitIsJudgedByWhenItWasMade(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	a.flush(nil)
	h.pass(time.Second)
	made := h.clock.UnixMilli()
	h.pass(3 * time.Second)
	changed := h.clock
	a.say(said{at: made, counters: both(10, 0, 1, 0)})
	h.pass(time.Second)
	a.say(said{at: made + 1000, counters: both(100, 0, 1, 0)})
	a.say(said{at: made + 2000, counters: both(100, 0, 1, 0)})
	a.flush(both(1000, 0, 1, 0)) // began at made+2000, still before the change
	h.pass(time.Second)
	a.flush(both(1, 0, 1, 0))
	r := tap.Take(changed.Add(time.Millisecond))
	h.want(t, r, counts(1, 0), counts(1, 0))
	if r.Early != 4 {
		t.Errorf("%+v", r)
	}
}

func TestWhenTheFirstFlushOfAStreamBeganIsKnownOfAProxyThatWasHereBefore(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	since := h.clock
	a.flush(both(1, 0, 1, 0)) // from before the store knew it
	h.want(t, tap.Take(since), counts(0, 0), counts(0, 0))
	h.pass(time.Second)
	a.disconnect()
	h.pass(time.Second)
	a = h.connect("a")
	a.flush(both(10, 0, 1, 0))
	r := tap.Take(since)
	h.want(t, r, counts(10, 0), counts(1, 0))
	if r.Gaps != 1 {
		t.Errorf("%+v", r)
	}
	// With two of one name nobody knows which of them this is.
	b := h.connect("a")
	h.pass(time.Second)
	b.flush(both(100, 0, 1, 0))
	h.want(t, tap.Take(since), counts(0, 0), counts(0, 0))
	h.pass(time.Second)
	a.flush(both(1000, 0, 1, 0))
	b.flush(both(2000, 0, 1, 0))
	h.want(t, tap.Take(since), counts(3000, 0), counts(2, 0))
}

func TestWhatCannotBeTrueIsRefusedWhole(t *testing.T) {
	const at = "cluster.shop/canary/80."
	with := func(name string, value float64) map[string]float64 {
		out := both(10, 1, 10, 1)
		out[name] = value
		return out
	}
	stable := counterFamily("cluster.shop/stable/80.upstream_rq_2xx", 5, 1)
	for _, tt := range []struct {
		name, why string
		message   func(at int64) []byte
	}{
		{"more bad requests than requests", "bad ones", func(now int64) []byte {
			return said{at: now, counters: map[string]float64{at + "grpc.total": 4, at + "grpc.14": 90, "cluster.shop/stable/80.upstream_rq_2xx": 5}}.message(t)
		}},
		{"more mirrored requests than requests", "requests", func(now int64) []byte {
			return said{at: now, counters: with(at+"internal.upstream_rq_2xx", 90)}.message(t)
		}},
		{"a counter that falls", "rose by -1", func(now int64) []byte { return said{at: now, counters: with(at+"upstream_rq_4xx", -1)}.message(t) }},
		{"a counter that is no number", "rose by NaN", func(now int64) []byte {
			return said{at: now, counters: with(at+"upstream_rq_4xx", math.NaN())}.message(t)
		}},
		{"a counter without end", "rose by +Inf", func(now int64) []byte {
			return said{at: now, counters: with(at+"upstream_rq_4xx", math.Inf(1))}.message(t)
		}},
		{"more than can be", "rose by", func(now int64) []byte { return said{at: now, counters: with(at+"upstream_rq_4xx", 1e30)}.message(t) }},
		{"a counter that is a histogram", "another type", func(now int64) []byte {
			return packed(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: []*clientmodel.MetricFamily{counterFamily("server.x", 1, now), timesFamily(at+"upstream_rq_2xx", []uint64{1, 1}, now)}})
		}},
		{"one counter twice", "twice", func(now int64) []byte {
			f := counterFamily("cluster.shop/stable/80.upstream_rq_2xx", 5, now)
			return packed(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: []*clientmodel.MetricFamily{f, f}})
		}},
		{"counters of two flushes", "another flush", func(now int64) []byte {
			return packed(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: []*clientmodel.MetricFamily{counterFamily("server.x", 1, now), stable}})
		}},
		{"a flush without its time", "does not say when", func(int64) []byte {
			f := proto.CloneOf(stable)
			f.Metric[0].TimestampMs = nil
			return packed(t, &metricsv3.StreamMetricsMessage{EnvoyMetrics: []*clientmodel.MetricFamily{f}})
		}},
		{"a flush that came already", "came twice", func(now int64) []byte { return said{at: now - 1000, counters: both(10, 1, 10, 1)}.message(t) }},
		{"buckets that fall", "do not add up", func(now int64) []byte {
			return said{at: now, counters: both(10, 1, 10, 1), times: map[string][]uint64{at + "upstream_rq_time": {5, 3, 7}}}.message(t)
		}},
		{"buckets above the total", "do not add up", func(now int64) []byte {
			return said{at: now, counters: both(10, 1, 10, 1), times: map[string][]uint64{at + "upstream_rq_time": {5, 8, 7}}}.message(t)
		}},
		{"more times of mirrored requests than of all", "no part", func(now int64) []byte {
			return said{at: now, times: map[string][]uint64{at + "upstream_rq_time": {1, 1, 1}, at + "internal.upstream_rq_time": {2, 2, 2}}}.message(t)
		}},
		{"no message at all", "not one of Envoy's", func(int64) []byte { return []byte{0x12, 0xff, 0x01} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHand(t)
			tap, a := h.open(), h.connect("a")
			a.flush(both(1000, 0, 100, 0))
			tap.Take(time.Time{})
			h.pass(time.Second)
			a.raw(tt.message(h.clock.UnixMilli()))
			r := tap.Take(time.Time{})
			h.want(t, r, counts(0, 0), counts(0, 0))
			if r.Dropped != 1 || !strings.Contains(r.Why, tt.why) {
				t.Errorf("dropped %d: %q, want %q", r.Dropped, r.Why, tt.why)
			}
			// The stream goes on as if that flush had not been, and what it would have told is not told later.
			h.pass(time.Second)
			a.flush(both(20, 2, 5, 1))
			r = tap.Take(time.Time{})
			h.want(t, r, counts(20, 2), counts(5, 1))
			if r.Dropped != 0 || r.Why != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestARequestCanBeSeenInTwoHalves has Envoy read the counter of bad calls a moment before the
// one of all calls, and the other way round.
func TestARequestCanBeSeenInTwoHalves(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	const at = "cluster.shop/canary/80."
	flush := func(total, bad float64, want sequential.Counts) {
		t.Helper()
		h.pass(time.Second)
		a.flush(map[string]float64{at + "grpc.total": total, at + "grpc.14": bad})
		r := tap.Take(time.Time{})
		h.want(t, r, counts(0, 0), want)
		if r.Dropped != 0 {
			t.Errorf("dropped: %s", r.Why)
		}
	}
	flush(0, 1, counts(0, 0))
	flush(1, 0, counts(1, 1))
	flush(100, 103, counts(100, 100))
	flush(100, 97, counts(100, 100))
	flush(50, 0, counts(50, 0))
	const mirrored = at + "internal.upstream_rq_2xx"
	h.pass(time.Second)
	a.flush(map[string]float64{at + "upstream_rq_2xx": 4, mirrored: 5})
	h.want(t, tap.Take(time.Time{}), counts(0, 0), counts(0, 0))
	h.pass(time.Second)
	a.flush(map[string]float64{at + "upstream_rq_2xx": 4, mirrored: 2})
	h.want(t, tap.Take(time.Time{}), counts(0, 0), counts(1, 0))
}

func TestTimesAreInSecondsAndWithoutMirroredRequests(t *testing.T) {
	h := newHand(t)
	tap, a, b := h.open(), h.connect("a"), h.connect("b")
	const name = "cluster.shop/canary/80.upstream_rq_time"
	a.say(said{times: map[string][]uint64{name: {1, 4, 9, 10}, "cluster.shop/canary/80.internal.upstream_rq_time": {0, 1, 1, 2}}})
	b.say(said{times: map[string][]uint64{name: {2, 2, 2, 2}}})
	want := []sequential.Bucket{{Le: .001, Count: 3}, {Le: .01, Count: 5}, {Le: .1, Count: 10}, {Le: math.Inf(1), Count: 10}}
	if diff := cmp.Diff(want, tap.Take(time.Time{}).Canary.Latency); diff != "" {
		t.Error(diff)
	}
	// While proxies with other bounds come, the common ones remain.
	h.pass(time.Second)
	a.say(said{times: map[string][]uint64{name: {1, 4, 9, 10}}})
	b.say(said{times: map[string][]uint64{name: {2, 3, 4}}})
	want = []sequential.Bucket{{Le: .001, Count: 3}, {Le: .01, Count: 7}, {Le: math.Inf(1), Count: 14}}
	if diff := cmp.Diff(want, tap.Take(time.Time{}).Canary.Latency); diff != "" {
		t.Error(diff)
	}
	if r := tap.Take(time.Time{}); r.Canary.Latency != nil {
		t.Errorf("%+v", r)
	}
}

func TestProxiesThatDoNotReportAreSeen(t *testing.T) {
	h := newHand(t)
	tap, a, b := h.open(), h.connect("a"), h.connect("b")
	for range 3 {
		h.pass(time.Second)
		a.flush(nil)
		b.flush(nil)
	}
	newest := h.clock
	if r := tap.Take(time.Time{}); r.Proxies != 2 || r.Silent != 0 || !r.Newest.Equal(newest) || r.Late != 0 {
		t.Errorf("%+v", r)
	}
	h.pass(3 * time.Second)
	b.flush(nil)
	h.pass(time.Second)
	if r := tap.Take(time.Time{}); r.Proxies != 1 || r.Silent != 1 || r.Late != 1 || !r.Newest.Equal(newest.Add(3*time.Second)) {
		t.Errorf("%+v", r)
	}
	a.disconnect()
	b.disconnect()
	if r := tap.Take(time.Time{}); r.Proxies != 0 || r.Silent != 0 {
		t.Errorf("%+v", r)
	}
}

func TestHowOftenProxiesReportIsKnown(t *testing.T) {
	h := newHand(t)
	tap, a, b := h.open(), h.connect("a"), h.connect("b")
	usual := func(want time.Duration, pass time.Duration, flushing ...*line) {
		t.Helper()
		h.pass(pass)
		for _, p := range flushing {
			p.flush(nil)
		}
		if r := tap.Take(time.Time{}); r.Usual != want {
			t.Errorf("usual is %v, want %v", r.Usual, want)
		}
	}
	usual(0, time.Second, a, b)
	usual(time.Second, time.Second, a)
	usual(10*time.Second, 9*time.Second, b) // a fell silent
	b.disconnect()
	usual(0, 0)
	usual(time.Second, time.Minute, a) // one gap is not usual
	usual(time.Second, time.Second, a)
	usual(time.Second, 5*time.Second, a)
	usual(5*time.Second, 5*time.Second, a)
	c := h.connect("c")
	usual(5*time.Second, time.Second, c)
	usual(5*time.Second, time.Second, c) // the slower of two
}

func TestWhatNobodyTakesIsBounded(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	for range 5 * maxPending {
		h.pass(time.Second)
		a.flush(both(10, 1, 2, 1))
	}
	if len(tap.pending) > maxPending {
		t.Errorf("%d flushes are kept", len(tap.pending))
	}
	// The old ones are one now, which began too early for anything but everything.
	recent := h.clock.Add(-10 * time.Second)
	h.want(t, tap.Take(recent), counts(100, 10), counts(20, 10))
	for range 2 * maxPending {
		h.pass(time.Second)
		a.flush(both(10, 1, 2, 1))
	}
	h.want(t, tap.Take(time.Time{}), counts(20*maxPending, 2*maxPending), counts(4*maxPending, 2*maxPending))
}

func TestClustersWithoutEndAreRefused(t *testing.T) {
	h := newHand(t)
	tap, a := h.open(), h.connect("a")
	counters := map[string]float64{}
	for i := range 2 * maxVariants {
		counters["cluster.shop/canary/80/"+strings.Repeat("x", i+1)+".upstream_rq_2xx"] = 1
	}
	a.flush(counters)
	if r := tap.Take(time.Time{}); r.Dropped != 1 || !strings.Contains(r.Why, "more than 16 clusters") || r.Canary.Requests.N != 0 {
		t.Errorf("%+v", r)
	}
}
