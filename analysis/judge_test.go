// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// counted is an interval of ten seconds: requests and bad ones per arm.
func counted(i int, stable, stableBad, canary, canaryBad float64) analysis.Measurement {
	m := answer(time.Duration(i)*10*time.Second, time.Duration(i+1)*10*time.Second)
	m.Stable = analysis.Sample{Requests: stable, Bad: stableBad, Present: true}
	m.Canary = analysis.Sample{Requests: canary, Bad: canaryBad, Present: canary > 0}
	return m
}

func sourceDown(i int) analysis.Measurement {
	m := counted(i, 0, 0, 0, 0)
	m.Problem = &analysis.Problem{Reason: v1beta1.ReasonSourceUnavailable, Message: "nothing listens at http://p"}
	return m
}

func TestJudgeErrors(t *testing.T) {
	unanswered := counted(0, 950, 1, 60, 0)
	unanswered.Canary.Unanswered, unanswered.Stable.Unanswered = 500, 10
	streams := counted(0, 950, 1, 60, 0)
	streams.Canary.Unanswered, streams.Stable.Unanswered = 60, 950
	tests := []struct {
		name   string
		weight int32
		h      analysis.History
		result v1beta1.VerdictResult
		reason string
		why    string
	}{
		{
			"nothing measured yet is unknown", 5, history(), v1beta1.VerdictUnknown, v1beta1.ReasonNoMeasurementYet,
			"errors: nothing was measured yet at this weight",
		},
		{
			"as good as stable passes", 5, history(counted(0, 950, 4, 50, 0)), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 0% (0 of 50), stable 0.421% (4 of 950); allowed is 1.03%",
		},
		{
			"a canary that fails everything fails", 5, history(counted(0, 950, 0, 50, 50)), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 100% (50 of 50), stable 0% (0 of 950); allowed is 0.5%",
		},
		{
			"5% against 0% fails after 200 requests", 5, history(counted(0, 1900, 0, 100, 5), counted(1, 1900, 0, 100, 5)),
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 5% (10 of 200), stable 0% (0 of 3800); allowed is 0.5%",
		},
		{
			"an outage of both versions is not the canary's", 5, history(counted(0, 950, 500, 50, 27)), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 54% (27 of 50), stable 52.6% (500 of 950); allowed is 66.3%",
		},
		{
			"too few canary requests, even if all are bad", 5, history(counted(0, 950, 0, 12, 12)), v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
			"errors: 12 of 50 canary requests seen; about 32s more at the present rate",
		},
		{
			"too few stable requests to compare with", 95, history(counted(0, 12, 0, 950, 0)), v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
			"errors: 12 of 50 stable requests seen; about 32s more at the present rate",
		},
		{
			"a few bad requests out of tolerance are too close to call", 5, history(counted(0, 950, 0, 100, 1)), v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"errors: canary fails 1% (1 of 100), stable 0% (0 of 950); allowed is 0.5%; that is too close to call, as chance alone could do it with 100 requests",
		},
		{
			"a fault that is over does not roll back", 5, history(counted(0, 950, 0, 100, 50), counted(1, 950, 0, 100, 0)),
			v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"errors: canary fails 25% (50 of 200), stable 0% (0 of 1900); allowed is 0.5%; it is not rolled back while the last interval is within tolerance (0 of 100 failed)",
		},
		{
			"a fault that begins does not pass", 5, history(counted(0, 9500, 0, 10000, 0), counted(1, 950, 0, 100, 20)),
			v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"errors: canary fails 0.198% (20 of 10100), stable 0% (0 of 10450); allowed is 0.5%, but in its last 10s 20 of 100 failed, where 0.5% is allowed",
		},
		{
			"and rolls back when it lasts", 5, history(counted(0, 9500, 0, 10000, 0), counted(1, 950, 0, 100, 20), counted(2, 950, 0, 100, 18)),
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 0.373% (38 of 10200), stable 0% (0 of 11400); allowed is 0.5%, but in its last 20s 38 of 200 failed, where 0.5% is allowed",
		},
		{
			"an outage that begins in both versions does not", 5, history(counted(0, 9500, 0, 10000, 0), counted(1, 950, 190, 100, 20), counted(2, 950, 190, 100, 18)),
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 0.373% (38 of 10200), stable 3.33% (380 of 11400); allowed is 4.67%",
		},
		{
			"an interval without canary requests does not count as the last", 5, history(counted(0, 950, 0, 100, 50), counted(1, 950, 0, 0, 0)),
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 50% (50 of 100), stable 0% (0 of 1900); allowed is 0.5%",
		},
		{
			"no canary traffic is unknown", 5, history(counted(0, 950, 0, 0, 0)), v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"errors: no request of the canary was answered in 10s",
		},
		{
			"a source that knows neither version", 5, history(answer(0, 10*time.Second)), v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"errors: Prometheus has no request counts of shop/checkout and shop/checkout-canary: either no request reached them, or it does not scrape the gateway's proxies",
		},
		{
			"a canary that is sent requests and answers few does not pass", 5, history(unanswered), v1beta1.VerdictUnknown, v1beta1.ReasonUnanswered,
			"errors: 494 of 554 requests sent to the canary have no answer; it must answer before it can pass",
		},
		{
			"long streams, as usual for stable, do not hold", 5, history(streams), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 0% (0 of 60), stable 0.105% (1 of 950); allowed is 0.632%",
		},
		{
			"a source that fails after good data holds", 5, history(counted(0, 950, 0, 100, 0), sourceDown(1)),
			v1beta1.VerdictUnknown, v1beta1.ReasonSourceUnavailable, "errors: nothing listens at http://p",
		},
		{
			"a source that fails does not save a bad canary", 5, history(counted(0, 950, 0, 100, 50), sourceDown(1)),
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 50% (50 of 100), stable 0% (0 of 950); allowed is 0.5%",
		},
		{
			"a source that came back is forgotten", 5, history(sourceDown(0), counted(1, 950, 0, 100, 0)), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 0% (0 of 100), stable 0% (0 of 950); allowed is 0.5%",
		},
		{
			"old data is not a reason to promote", 5, late(history(counted(0, 950, 0, 100, 0)), 5*time.Minute),
			v1beta1.VerdictUnknown, v1beta1.ReasonStaleMeasurements,
			"errors: the newest measurement is 4.8m old; newer ones are being asked for",
		},
		{
			"weight 0 is not judged by traffic", 0, history(), v1beta1.VerdictPass, v1beta1.ReasonNotJudged,
			"errors: not judged at weight 0, where no request is sent to the canary",
		},
		{
			"full weight compares with stable before it", 100, history(before(950, 1), counted(0, 0, 0, 100, 0)),
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance,
			"errors: canary fails 0% (0 of 100), stable 0.105% (1 of 950); allowed is 0.632%",
		},
		{
			"full weight still rolls back", 100, history(before(950, 1), counted(0, 0, 0, 100, 30)),
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"errors: canary fails 30% (30 of 100), stable 0.105% (1 of 950); allowed is 0.632%",
		},
		{
			"full weight without stable's values waits for them", 100, history(counted(0, 0, 0, 100, 0)),
			v1beta1.VerdictUnknown, v1beta1.ReasonNoMeasurementYet,
			"errors: stable's values from before the canary got all the traffic are not measured yet",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := analysis.Judge(errorsOnly(tt.weight), tt.h)
			if v.Result != tt.result || v.Reason != tt.reason {
				t.Errorf("got %s %s, want %s %s", v.Result, v.Reason, tt.result, tt.reason)
			}
			if diff := cmp.Diff(tt.why, v.Why); diff != "" {
				t.Errorf("why (-want +got):\n%s", diff)
			}
		})
	}
}

func late(h analysis.History, d time.Duration) analysis.History {
	h.At = at(d)
	return h
}

func before(stable, bad float64) analysis.Measurement {
	m := answer(-10*time.Minute, 0)
	m.Stable = analysis.Sample{Requests: stable, Bad: bad, Present: true}
	return m
}

func TestJudgeThresholdOfErrors(t *testing.T) {
	most := func(limit string) analysis.Plan {
		a := v1beta1.Amount{Type: 1, StrVal: limit}
		return analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
			Name: "errors", Gateway: v1beta1.GatewayErrorRate, Threshold: &v1beta1.Threshold{Max: &a},
		}}}, subject(5))
	}
	tests := []struct {
		name string
		h    analysis.History
		want v1beta1.VerdictResult
	}{
		{"under the threshold passes, without stable", history(counted(0, 0, 0, 100, 1)), v1beta1.VerdictPass},
		{"over it fails, even if stable is as bad", history(counted(0, 950, 200, 100, 20)), v1beta1.VerdictFail},
		{"at it passes", history(counted(0, 0, 0, 100, 2)), v1beta1.VerdictPass},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v := analysis.Judge(most("2%"), tt.h); v.Result != tt.want {
				t.Errorf("got %+v, want %s", v, tt.want)
			}
		})
	}
}

// timed is an interval with a histogram of 10ms, 25ms, 50ms, 100ms and more per
// arm; counts are per bucket.
func timed(i int, stable, canary [5]float64) analysis.Measurement {
	m := answer(time.Duration(i)*10*time.Second, time.Duration(i+1)*10*time.Second)
	m.Metric, m.Kind = "p90", analysis.KindHistogram
	sample := func(counts [5]float64) analysis.Sample {
		s := analysis.Sample{}
		for j, le := range []float64{0.01, 0.025, 0.05, 0.1, math.Inf(1)} {
			s.Requests += counts[j]
			s.Buckets = append(s.Buckets, analysis.Bucket{Le: le, Count: s.Requests})
		}
		s.Present = s.Requests > 0
		return s
	}
	m.Stable, m.Canary = sample(stable), sample(canary)
	return m
}

func p90(change func(*v1beta1.Metric)) analysis.Plan {
	m := v1beta1.Metric{Name: "p90", Gateway: v1beta1.GatewayLatency, Quantile: "0.9"}
	if change != nil {
		change(&m)
	}
	return analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{m}}, subject(5))
}

func TestJudgeLatency(t *testing.T) {
	fast := [5]float64{500, 450, 0, 0, 0} // p90 in 10ms-25ms, so up to 25*1.2+5 = 35ms is allowed, counted at 50ms
	max100 := func(m *v1beta1.Metric) {
		a := v1beta1.Amount{Type: 1, StrVal: "80ms"}
		m.Threshold = &v1beta1.Threshold{Max: &a}
	}
	tests := []struct {
		name   string
		change func(*v1beta1.Metric)
		h      analysis.History
		result v1beta1.VerdictResult
		why    string
	}{
		{
			"the same distribution passes", nil, history(timed(0, fast, [5]float64{50, 50, 0, 0, 0})), v1beta1.VerdictPass,
			"p90: canary's p90 is 10ms-25ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms",
		},
		{
			"one bucket up lies within the resolution and passes", nil, history(timed(0, fast, [5]float64{10, 10, 80, 0, 0})), v1beta1.VerdictPass,
			"p90: canary's p90 is 25ms-50ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms",
		},
		{
			"clearly slower fails", nil, history(timed(0, fast, [5]float64{10, 10, 10, 70, 0})), v1beta1.VerdictFail,
			"p90: canary's p90 is 50ms-100ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms",
		},
		{
			"slower than the last bucket fails", nil, history(timed(0, fast, [5]float64{10, 10, 10, 0, 70})), v1beta1.VerdictFail,
			"p90: canary's p90 is over 100ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms",
		},
		{
			"both slow in the last interval is not the canary's fault", nil,
			history(timed(0, [5]float64{0, 9500, 0, 0, 0}, [5]float64{0, 100, 0, 0, 0}),
				timed(1, [5]float64{0, 0, 0, 950, 0}, [5]float64{0, 0, 0, 100, 0})), v1beta1.VerdictUnknown,
			"p90: canary's p90 is 50ms-100ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms; it is not rolled back while the last interval is within tolerance (0 of 100 took longer than allowed)",
		},
		{
			"a few slow ones are too close to call", nil, history(timed(0, fast, [5]float64{44, 0, 0, 6, 0})), v1beta1.VerdictUnknown,
			"p90: canary's p90 is 50ms-100ms, stable's 10ms-25ms; allowed is 35ms, counted at the bucket bound 50ms; that is too close to call, as chance alone could do it with 50 requests",
		},
		{
			"a threshold needs no stable", max100, history(timed(0, [5]float64{}, [5]float64{0, 0, 0, 60, 0})), v1beta1.VerdictPass,
			"p90: canary's p90 is 50ms-100ms; allowed is 80ms, counted at the bucket bound 100ms",
		},
		{
			"over the threshold fails", max100, history(timed(0, [5]float64{}, [5]float64{0, 0, 0, 0, 60})), v1beta1.VerdictFail,
			"p90: canary's p90 is over 100ms; allowed is 80ms, counted at the bucket bound 100ms",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := analysis.Judge(p90(tt.change), tt.h)
			if v.Result != tt.result {
				t.Errorf("got %s (%s), want %s", v.Result, v.Reason, tt.result)
			}
			if diff := cmp.Diff(tt.why, v.Why); diff != "" {
				t.Errorf("why (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJudgeScalar(t *testing.T) {
	values := func(pairs ...[2]float64) analysis.History {
		h := analysis.History{Since: since}
		for i, p := range pairs {
			m := answer(time.Duration(i)*10*time.Second, time.Duration(i+1)*10*time.Second)
			m.Metric, m.Kind = "orders", analysis.KindScalar
			m.Stable, m.Canary = analysis.Sample{Value: p[0], Present: true}, analysis.Sample{Value: p[1], Present: true}
			h = h.With(m)
		}
		return h
	}
	number := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	least10 := v1beta1.Metric{Threshold: &v1beta1.Threshold{Min: number("10")}}
	lower := v1beta1.Metric{Tolerance: &v1beta1.Tolerance{Relative: "10%"}}
	higher := v1beta1.Metric{Tolerance: &v1beta1.Tolerance{Relative: "10%", Better: "Higher"}}
	tests := []struct {
		name   string
		metric v1beta1.Metric
		h      analysis.History
		result v1beta1.VerdictResult
		why    string
	}{
		{"in range passes", least10, values([2]float64{0, 10}), v1beta1.VerdictPass, "orders: canary is 10; allowed is at least 10"},
		{
			"out of range once is not a fail", least10, values([2]float64{0, 9}), v1beta1.VerdictUnknown,
			"orders: canary is 9; allowed is at least 10; 1 of 3 measurements in a row that roll back",
		},
		{
			"three times in a row is", least10, values([2]float64{0, 20}, [2]float64{0, 9}, [2]float64{0, 8}, [2]float64{0, 7}), v1beta1.VerdictFail,
			"orders: canary is 7; allowed is at least 10 (3 measurements in a row)",
		},
		{"not above stable's tolerance", lower, values([2]float64{100, 110}), v1beta1.VerdictPass, "orders: canary is 110, stable is 100; allowed is at most 110"},
		{"a negative stable value has slack upwards too", lower, values([2]float64{-100, -91}), v1beta1.VerdictPass, "orders: canary is -91, stable is -100; allowed is at most -90"},
		{
			"higher is better", higher, values([2]float64{100, 89}, [2]float64{100, 89}, [2]float64{100, 89}), v1beta1.VerdictFail,
			"orders: canary is 89, stable is 100; allowed is at least 90 (3 measurements in a row)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := tt.metric
			m.Name, m.Prometheus = "orders", &v1beta1.PrometheusSource{Query: "x"}
			v := analysis.Judge(analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{m}}, subject(5)), tt.h)
			if v.Result != tt.result {
				t.Errorf("got %s (%s), want %s", v.Result, v.Reason, tt.result)
			}
			if diff := cmp.Diff(tt.why, v.Why); diff != "" {
				t.Errorf("why (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneMetricThatFailsDecides(t *testing.T) {
	p := analysis.PlanFor(nil, subject(5))
	good := timed(0, [5]float64{950, 0, 0, 0, 0}, [5]float64{100, 0, 0, 0, 0})
	good.Metric = "p99"
	tests := []struct {
		name   string
		h      analysis.History
		result v1beta1.VerdictResult
	}{
		{"both pass", history(counted(0, 950, 0, 100, 0), good), v1beta1.VerdictPass},
		{"one unknown", history(counted(0, 950, 0, 100, 0)), v1beta1.VerdictUnknown},
		{"one fails, one unknown", history(counted(0, 950, 0, 100, 60)), v1beta1.VerdictFail},
		{"one fails, one passes", history(counted(0, 950, 0, 100, 60), good), v1beta1.VerdictFail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := analysis.Judge(p, tt.h)
			if v.Result != tt.result || len(v.Metrics) != 2 {
				t.Errorf("got %+v, want %s", v, tt.result)
			}
		})
	}
	off := analysis.PlanFor(&v1beta1.Analysis{Disabled: true}, subject(5))
	if v := analysis.Judge(off, history()); v.Result != v1beta1.VerdictPass || v.Reason != v1beta1.ReasonAnalysisDisabled {
		t.Errorf("disabled: %+v", v)
	}
	if due := analysis.Due(off, history(), at(time.Hour)); due != nil {
		t.Errorf("disabled, but due: %v", due)
	}
}
