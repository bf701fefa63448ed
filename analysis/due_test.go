// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// counters is a plan of one error rate from a Prometheus.
func counters(weight int32) analysis.Plan {
	return analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
		Name: "errors", Prometheus: &v1beta1.PrometheusSource{Counters: &v1beta1.Counters{Bad: "bad", Total: "all"}},
	}}}, subject(weight))
}

// evidence is what answers amount to.
func evidence(p analysis.Plan, ms ...analysis.Measurement) *analysis.Evidence {
	e := &analysis.Evidence{}
	e.Begin(p)
	for _, m := range ms {
		e.Add(p, m)
	}
	return e
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
	pending := []analysis.Measurement{{Metric: "pending"}}
	tests := []struct {
		name   string
		weight int32
		h      []analysis.Measurement
		now    time.Duration
		want   []span
		in     time.Duration
	}{
		{"nothing before the first look", 5, nil, 11 * sec, nil, sec},
		{"the first look is from Since to the lag before now", 5, nil, 12 * sec, []span{{0, 10 * sec}}, 0},
		{"a metric that is being asked for is not due", 5, pending, minute, nil, -1},
		{"the next interval begins where the last ended", 5, ms(answer(0, 10*sec)), 22 * sec, []span{{10 * sec, 20 * sec}}, 0},
		{"and not before an interval has passed", 5, ms(answer(0, 10*sec)), 21 * sec, nil, sec},
		{
			"what failed is asked again an interval later, with what came since", 5,
			ms(answer(0, 10*sec), failed(10*sec, 20*sec, 22*sec)), 32 * sec,
			[]span{{10 * sec, 30 * sec}},
			0,
		},
		{
			"what failed is not asked again at once", 5,
			ms(answer(0, 10*sec), failed(10*sec, 20*sec, 22*sec)), 31 * sec, nil, sec,
		},
		{"after a restart it catches up in pieces of five minutes", 5, nil, 20 * minute, []span{{0, 5 * minute}}, 0},
		{"and goes on at once while it is behind", 5, ms(answer(0, 5*minute)), 20*minute + sec, []span{{5 * minute, 10 * minute}}, 0},
		{"but reaches back no further than half an hour", 5, nil, 3 * time.Hour, []span{{150 * minute, 155 * minute}}, 0},
		{"a failing piece is not asked for in a loop", 5, ms(failed(0, 5*minute, 20*minute)), 20*minute + 3*sec, nil, 7 * sec},
		{"at full weight stable is measured first, before Since", 100, nil, 3 * sec, []span{{-10 * minute, 0}}, 0},
		{"and then the canary since", 100, ms(answer(-10*minute, 0)), 12 * sec, []span{{0, 10 * sec}}, 0},
		{"a clock that went back asks nothing", 5, nil, -minute, nil, minute + 12*sec},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := counters(tt.weight)
			e := evidence(p, tt.h...)
			if len(tt.h) > 0 && tt.h[0].Metric == "pending" {
				e.Pending = []string{"errors"}
			}
			if diff := cmp.Diff(tt.want, spans(analysis.Due(p, e, at(tt.now)))); diff != "" {
				t.Errorf("Due (-want +got):\n%s", diff)
			}
			in, ok := analysis.DueIn(p, e, at(tt.now))
			if ok != (tt.in >= 0) || ok && in != tt.in {
				t.Errorf("DueIn = %v, %v; want %v", in, ok, tt.in)
			}
		})
	}
}

func TestNothingIsDueBeforeAWeightIsConfirmed(t *testing.T) {
	p := counters(5)
	p.Subject.Since = time.Time{}
	if due := analysis.Due(p, &analysis.Evidence{}, at(0)); due != nil {
		t.Errorf("due: %v", due)
	}
	if in, ok := analysis.DueIn(p, &analysis.Evidence{}, at(0)); ok {
		t.Errorf("due in %v", in)
	}
}

func ms(ms ...analysis.Measurement) []analysis.Measurement { return ms }

func TestIntervalsFollowEachOtherWhateverFails(t *testing.T) {
	p := counters(5)
	e := evidence(p)
	end := since
	for i := range 2000 {
		now := at(time.Duration(i) * 1700 * time.Millisecond)
		for _, q := range analysis.Due(p, e, now) {
			m := analysis.Measurement{Metric: "errors", Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
			if i%7 == 3 {
				m.Problem = &analysis.Problem{Reason: "R"}
			} else {
				if !q.From.Equal(end) {
					t.Fatalf("asked from %v, but the last answer ended at %v", q.From, end)
				}
				end = q.To
			}
			e.Add(p, m)
		}
	}
	if behind := at(2000 * 1700 * time.Millisecond).Sub(end); behind > time.Minute {
		t.Errorf("the last answer ended %v before now", behind)
	}
}

// What a person has seen must not choose the question that it is then asked.
func TestAnEditedMetricIsAskedOfWhatComesAfter(t *testing.T) {
	p := counters(5)
	e := evidence(p, answer(0, 10*time.Second))
	p.Metrics[0].Prometheus.Counters.Bad = "worse"
	e.Adopt(p, at(15*time.Second))
	if diff := cmp.Diff([]span{{15 * time.Second, 28 * time.Second}}, spans(analysis.Due(p, e, at(30*time.Second)))); diff != "" {
		t.Errorf("Due (-want +got):\n%s", diff)
	}
	p.Metrics[0].Interval = &metav1.Duration{Duration: 20 * time.Second} // means the same
	e.Add(p, answer(15*time.Second, 28*time.Second))
	e.Adopt(p, at(29*time.Second))
	if diff := cmp.Diff([]span{{28 * time.Second, 58 * time.Second}}, spans(analysis.Due(p, e, at(60*time.Second)))); diff != "" {
		t.Errorf("Due (-want +got):\n%s", diff)
	}
}

func TestAJobIsAskedOnceAtEachStep(t *testing.T) {
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "errors", Job: &v1beta1.JobSource{}, InitialDelay: &metav1.Duration{Duration: 5 * time.Second}}}}, subject(5))
	e := evidence(p)
	if in, ok := analysis.DueIn(p, e, at(0)); !ok || in != 5*time.Second {
		t.Errorf("due in %v, %v; want the initial delay", in, ok)
	}
	e.Add(p, analysis.Measurement{Metric: "errors", Kind: analysis.KindVerdict, From: at(5 * time.Second), To: at(6 * time.Second)})
	if due := analysis.Due(p, e, at(time.Hour)); due != nil {
		t.Errorf("due again at the same step: %+v", due)
	}
	p.Subject.Since = at(2 * time.Hour)
	if due := analysis.Due(p, e, at(3*time.Hour)); len(due) != 1 {
		t.Errorf("not due at the next step: %+v", due)
	}
}

func TestWhatTheProxiesReportIsNotAskedFor(t *testing.T) {
	p := analysis.PlanFor(nil, subject(5))
	if due := analysis.Due(p, evidence(p), at(time.Hour)); due != nil {
		t.Errorf("due: %+v", due)
	}
}

// After the routes did not carry the weight for a while, no question is about that time.
func TestWhatIsDueAfterAnInterruption(t *testing.T) {
	for name, p := range map[string]analysis.Plan{
		"counts": counters(10),
		"a number": analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
			Name: "errors", Prometheus: &v1beta1.PrometheusSource{Query: "x"}, Threshold: &v1beta1.Threshold{Max: &v1beta1.Amount{Type: 1, StrVal: "10"}},
		}}}, subject(10)),
	} {
		last := answer(0, 10*time.Second)
		last.Kind = analysis.KindOf(p.Metrics[0])
		e := evidence(p, last)
		p.Subject.Resumed = at(2 * time.Minute)
		if got := analysis.Due(p, e, at(2*time.Minute+5*time.Second)); len(got) != 0 {
			t.Errorf("%s: asked before there is anything to ask for: %v", name, spans(got))
		}
		got := spans(analysis.Due(p, e, at(4*time.Minute)))
		if want := []span{{2 * time.Minute, 4*time.Minute - 2*time.Second}}; !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
