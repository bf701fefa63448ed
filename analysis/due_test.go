// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

var since = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return since.Add(d) }

func subject(weight int32) analysis.Subject {
	return analysis.Subject{
		Namespace: "shop", Canary: "checkout", Since: since, Weight: weight,
		StableVersion: analysis.Version{Service: "checkout", Ports: []int32{8080}, PodPattern: `checkout-a\.b-.*`},
		CanaryVersion: analysis.Version{Service: "checkout-canary", Ports: []int32{8080}, PodPattern: "checkout-canary-.*"},
	}
}

// errorsOnly is a plan of one error rate.
func errorsOnly(weight int32) analysis.Plan {
	return analysis.PlanFor(&v1beta1.Analysis{
		Metrics: []v1beta1.Metric{{Name: "errors", Gateway: v1beta1.GatewayErrorRate}},
	}, subject(weight))
}

type span struct{ From, To time.Duration }

func spans(qs []analysis.Query) []span {
	var out []span
	for _, q := range qs {
		out = append(out, span{q.From.Sub(since), q.To.Sub(since)})
	}
	return out
}

func answer(from, to time.Duration) analysis.Measurement {
	return analysis.Measurement{Metric: "errors", Kind: analysis.KindCounts, From: at(from), To: at(to), Asked: at(to + 2*time.Second)}
}

func failed(from, to, asked time.Duration) analysis.Measurement {
	m := answer(from, to)
	m.Asked, m.Problem = at(asked), &analysis.Problem{Reason: "R", Message: "m"}
	return m
}

func TestDue(t *testing.T) {
	const sec, minute = time.Second, time.Minute
	pending := analysis.History{Pending: []string{"errors"}}
	tests := []struct {
		name   string
		weight int32
		h      analysis.History
		now    time.Duration
		want   []span
		in     time.Duration
	}{
		{"nothing before the first look", 5, analysis.History{}, 11 * sec, nil, sec},
		{"the first look is from Since to the lag before now", 5, analysis.History{}, 12 * sec, []span{{0, 10 * sec}}, 0},
		{"a metric that is being asked for is not due", 5, pending, minute, nil, -1},
		{"the next interval begins where the last ended", 5, history(answer(0, 10*sec)), 22 * sec, []span{{10 * sec, 20 * sec}}, 0},
		{"and not before an interval has passed", 5, history(answer(0, 10*sec)), 21 * sec, nil, sec},
		{
			"what failed is asked again an interval later, with what came since", 5,
			history(answer(0, 10*sec), failed(10*sec, 20*sec, 22*sec)), 32 * sec,
			[]span{{10 * sec, 30 * sec}},
			0,
		},
		{
			"what failed is not asked again at once", 5,
			history(answer(0, 10*sec), failed(10*sec, 20*sec, 22*sec)), 31 * sec, nil, sec,
		},
		{"after a restart it catches up in pieces of five minutes", 5, analysis.History{}, 20 * minute, []span{{0, 5 * minute}}, 0},
		{"and goes on at once while it is behind", 5, history(answer(0, 5*minute)), 20*minute + sec, []span{{5 * minute, 10 * minute}}, 0},
		{"but reaches back no further than half an hour", 5, analysis.History{}, 3 * time.Hour, []span{{150 * minute, 155 * minute}}, 0},
		{"a failing piece is not asked for in a loop", 5, history(failed(0, 5*minute, 20*minute)), 20*minute + 3*sec, nil, 7 * sec},
		{"at full weight stable is measured first, before Since", 100, analysis.History{}, 3 * sec, []span{{-10 * minute, 0}}, 0},
		{"and then the canary since", 100, history(answer(-10*minute, 0)), 12 * sec, []span{{0, 10 * sec}}, 0},
		{"a clock that went back asks nothing", 5, analysis.History{}, -minute, nil, minute + 12*sec},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := errorsOnly(tt.weight)
			if diff := cmp.Diff(tt.want, spans(analysis.Due(p, tt.h, at(tt.now)))); diff != "" {
				t.Errorf("Due (-want +got):\n%s", diff)
			}
			in, ok := analysis.DueIn(p, tt.h, at(tt.now))
			if ok != (tt.in >= 0) || ok && in != tt.in {
				t.Errorf("DueIn = %v, %v; want %v", in, ok, tt.in)
			}
		})
	}
}

func TestNothingIsDueBeforeAWeightIsConfirmed(t *testing.T) {
	p := errorsOnly(5)
	p.Subject.Since = time.Time{}
	if due := analysis.Due(p, analysis.History{}, at(0)); due != nil {
		t.Errorf("due: %v", due)
	}
	if in, ok := analysis.DueIn(p, analysis.History{}, at(0)); ok {
		t.Errorf("due in %v", in)
	}
}

func history(ms ...analysis.Measurement) analysis.History {
	h := analysis.History{Since: since}
	for _, m := range ms {
		h = h.With(m)
	}
	return h
}

func TestIntervalsFollowEachOtherWhateverFails(t *testing.T) {
	p := errorsOnly(5)
	var h analysis.History
	h.Since = since
	end := since
	for i := range 2000 {
		now := at(time.Duration(i) * 1700 * time.Millisecond)
		for _, q := range analysis.Due(p, h, now) {
			m := analysis.Measurement{Metric: "errors", Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
			if i%7 == 3 {
				m.Problem = &analysis.Problem{Reason: "R"}
			} else {
				if !q.From.Equal(end) {
					t.Fatalf("asked from %v, but the last answer ended at %v", q.From, end)
				}
				end = q.To
			}
			h = h.With(m)
		}
	}
	if behind := at(2000 * 1700 * time.Millisecond).Sub(end); behind > time.Minute {
		t.Errorf("the last answer ended %v before now", behind)
	}
	if n := len(h.Measurements); n > 70 {
		t.Errorf("the history grew to %d measurements", n)
	}
}

func TestOldMeasurementsAreMergedWithoutLosingARequest(t *testing.T) {
	h := analysis.History{Since: since}
	for i := range 500 {
		d := time.Duration(i) * time.Second
		m := answer(d, d+time.Second)
		m.Canary = analysis.Sample{Requests: 3, Bad: 1, Present: true}
		before := len(h.Measurements)
		h2 := h.With(m)
		if len(h.Measurements) != before {
			t.Fatal("With changed its receiver")
		}
		h = h2
	}
	var n, bad float64
	for _, m := range h.Measurements {
		n, bad = n+m.Canary.Requests, bad+m.Canary.Bad
	}
	if n != 1500 || bad != 500 || len(h.Measurements) > 64 || !h.Measurements[0].From.Equal(since) {
		t.Errorf("%v requests, %v bad, in %d measurements from %v", n, bad, len(h.Measurements), h.Measurements[0].From)
	}
}
