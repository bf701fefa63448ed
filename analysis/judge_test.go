// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// second is what the proxies counted in one of them: requests and bad ones, which all took
// a given time.
func second(stable, stableBad, canary, canaryBad, canaryTook float64) analysis.Reading {
	return analysis.Reading{Stable: arm(stable, stableBad, 0.05), Canary: arm(canary, canaryBad, canaryTook), Proxies: 1}
}

// arm has a histogram in which a tenth takes twice as long and a hundredth ten times.
func arm(n, bad, took float64) trial.Arm {
	a := trial.Arm{Requests: sequential.Counts{N: n, X: bad}}
	for i := range 60 {
		le := 0.001 * math.Pow(2, float64(i)/4)
		share := 0.0
		for _, part := range []struct{ from, share float64 }{{took, .9}, {2 * took, .09}, {10 * took, .01}} {
			if le >= part.from {
				share += part.share
			}
		}
		a.Latency = append(a.Latency, sequential.Bucket{Le: le, Count: share * n})
	}
	a.Latency = append(a.Latency, sequential.Bucket{Le: math.Inf(1), Count: n})
	return a
}

// play adds so many equal seconds from a second of the step on.
func play(p analysis.Plan, e *analysis.Evidence, from, n int, r analysis.Reading) *analysis.Evidence {
	for i := range n {
		to := at(time.Duration(from+i+1) * time.Second)
		r.Newest = to
		e.Read(p, r, to)
	}
	return e
}

// slowly adds reports that come every ten seconds.
func slowly(p analysis.Plan, e *analysis.Evidence, n int) {
	for i := range n {
		to := at(time.Duration(i+1) * 10 * time.Second)
		r := second(950, 0, 50, 0, 0.05)
		r.Newest, r.Usual = to, 10*time.Second
		e.Read(p, r, to)
	}
}

// inPods is a second of five equal pods of stable.
func inPods(r analysis.Reading) analysis.Reading {
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		n := r.Stable.Requests
		r.StablePods = append(r.StablePods, trial.Pod{Name: name, Requests: sequential.Counts{N: n.N / 5, X: n.X / 5}})
	}
	return r
}

// learned is evidence with ten minutes of stable at 100 requests a second.
func learned(p analysis.Plan) *analysis.Evidence {
	e := &analysis.Evidence{}
	for range 600 {
		e.Learn(p, second(100, 0.1, 0, 0, 0))
	}
	return e
}

func gateway(m ...v1beta1.Metric) *v1beta1.Analysis { return &v1beta1.Analysis{Metrics: m} }

func status(t *testing.T, v analysis.Verdict, name string) v1beta1.MetricStatus {
	t.Helper()
	for _, m := range v.Metrics {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no metric %q in %+v", name, v)
	return v1beta1.MetricStatus{}
}

func TestTheProxiesCountsJudge(t *testing.T) {
	healthy := second(95, 0, 5, 0, 0.05)
	num := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	tests := []struct {
		name    string
		spec    *v1beta1.Analysis
		subject func(*analysis.Subject)
		play    func(analysis.Plan, *analysis.Evidence)
		now     int // seconds
		result  v1beta1.VerdictResult
		reason  string
		why     string // part of it
	}{
		{
			"a step that has just begun", nil, nil, nil, 1,
			v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic, "errors: no request of the canary was answered in 1s",
		},
		{
			"a healthy canary needs requests", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 10, healthy) }, 10,
			v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests, "canary fails 0% (0 of 50), stable 0% (0 of 950); ",
		},
		{
			"and passes with them", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 200, healthy) }, 200,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "errors: canary fails 0% (0 of 1000), stable 0% (0 of 19000); latency: ",
		},
		{
			"one that fails everything is rolled back after three seconds", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 3, second(95, 0, 5, 5, 0.05)) }, 3,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "errors: canary fails 100% (15 of 15), stable 0% (0 of 285): that is more than stable by more than 25% of its rate plus 0.05%",
		},
		{
			"and not after two", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 2, second(95, 0, 5, 5, 0.05)) }, 2,
			v1beta1.VerdictUnknown, v1beta1.ReasonNotGoodEnough, "errors: canary fails 100% (10 of 10)",
		},
		{
			"an outage of both is not the canary's", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 900, inPods(second(95, 50, 5, 2.6, 0.05))) }, 900,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "errors: canary fails 52% (2340 of 4500)",
		},
		{
			"one that is twice as slow is rolled back", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 120, second(95, 0, 5, 0, 0.1)) }, 120,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "of the canary's requests took longer than",
		},
		{
			"but not while it warms up", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 14, second(950, 0, 50, 0, 0.5)) }, 14,
			v1beta1.VerdictUnknown, v1beta1.ReasonWarmingUp, "latency: the new pods have 15s to warm up",
		},
		{
			"one that hangs is rolled back", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 120, second(95, 0, 0, 0, 0)) }, 120,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "answers: the canary answered 0 requests of 11400, with 5 % of the traffic: that is less than 80% of its share",
		},
		{
			"but only held where it gets requests by other ways too", nil, func(s *analysis.Subject) { s.Mixed = true },
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 120, second(95, 0, 0, 0, 0)) }, 120,
			v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic, "errors: no request of the canary was answered in 2m",
		},
		{
			"testers who see failures, by a rule of their own, are no reason to roll back", nil,
			func(s *analysis.Subject) { s.Mixed, s.OtherWays = true, true },
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 60, second(95, 0, 25, 20, 0.05)) }, 60,
			v1beta1.VerdictUnknown, v1beta1.ReasonSplitNotAsAsked, "but requests reach checkout and checkout-canary by other ways than the weight too, such as a rule for testers or another route, about 1200 of these of the canary, and may alone be why",
		},
		{
			"a version that fails everything is, whatever testers see", nil,
			func(s *analysis.Subject) { s.Mixed, s.OtherWays = true, true },
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 8, second(95, 0, 25, 25, 0.05)) }, 8,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "errors: canary fails 100% (200 of 200)",
		},
		{
			"proxies that fall silent hold", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 200, healthy) }, 210,
			v1beta1.VerdictUnknown, v1beta1.ReasonStaleMeasurements, "the proxies last reported 10s ago",
		},
		{
			"those that report every ten seconds are not silent between two reports", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { slowly(p, e, 20) }, 209,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "errors: canary fails 0%",
		},
		{
			"and fall silent when three reports are missing", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { slowly(p, e, 20) }, 233,
			v1beta1.VerdictUnknown, v1beta1.ReasonStaleMeasurements, "the proxies last reported 33s ago",
		},
		{
			"and so does a gateway of somebody else's", nil, nil, nil, 30,
			v1beta1.VerdictUnknown, v1beta1.ReasonNoProxies, "no proxy of a Gateway of class headgate reports requests of shop/checkout and checkout-canary",
		},
		{
			"what was proven stays so when they fall silent", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 3, second(95, 0, 5, 5, 0.05)) }, 60,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "canary fails 100%",
		},
		{
			"at weight 0 nothing is judged", nil, func(s *analysis.Subject) { s.Weight = 0 }, nil, 60,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "errors: not judged at weight 0",
		},
		{
			"nor are counters of one's own", gateway(
				v1beta1.Metric{Name: "orders", Prometheus: &v1beta1.PrometheusSource{Counters: &v1beta1.Counters{Bad: "b", Total: "t"}}},
			), func(s *analysis.Subject) { s.Weight = 0 }, nil, 60,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "orders: not judged at weight 0",
		},
		{
			"at weight 100 without anything known of stable nobody can tell", nil, func(s *analysis.Subject) { s.Weight = 100 },
			func(p analysis.Plan, e *analysis.Evidence) {
				*e = analysis.Evidence{}
				play(p, e, 0, 60, second(0, 0, 100, 0, 0.05))
			}, 60,
			v1beta1.VerdictUnknown, v1beta1.ReasonLearning, "begin with a step below 100, or give the metric a threshold",
		},
		{
			"a metric that observes does not decide", gateway(
				v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate, Observe: true},
			), nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 30, second(95, 0, 5, 5, 0.05)) }, 30,
			v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "every metric only observes",
		},
		{
			"a number in place of stable", gateway(
				v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate, Threshold: &v1beta1.Threshold{Max: num("2%")}},
			), nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 30, second(95, 95, 5, 1, 0.05)) }, 30,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "errors: canary fails 20% (30 of 150): that is more than 2%",
		},
		{
			"a time in place of stable", gateway(
				v1beta1.Metric{Name: "latency", Gateway: v1beta1.GatewayLatency, Threshold: &v1beta1.Threshold{Max: num("300ms")}},
			), nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 15, 60, second(95, 0, 5, 0, 0.2)) }, 75,
			v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "more than 1% of them slower than 300ms",
		},
		{
			"a pod of stable that fails alone holds", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) {
				r := second(95, 12, 5, 0, 0.05)
				r.StablePods = []trial.Pod{{Name: "a", Requests: sequential.Counts{N: 24, X: 12}}}
				for _, name := range []string{"b", "c", "d"} {
					r.StablePods = append(r.StablePods, trial.Pod{Name: name, Requests: sequential.Counts{N: 24}})
				}
				play(p, e, 0, 20, r)
				r.Canary = arm(5, 5, 0.05)
				play(p, e, 20, 60, r)
			}, 80,
			v1beta1.VerdictUnknown, v1beta1.ReasonPodsFailTogether, "pod a of stable, where nothing changed",
		},
		{
			"more than its share cannot be", nil, nil,
			func(p analysis.Plan, e *analysis.Evidence) { play(p, e, 0, 60, second(95, 0, 30, 0, 0.05)) }, 60,
			v1beta1.VerdictUnknown, v1beta1.ReasonSplitNotAsAsked, "look for another way by which requests reach checkout-canary",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := subject(5)
			if tt.subject != nil {
				tt.subject(&s)
			}
			p := analysis.PlanFor(tt.spec, s)
			e := learned(p)
			e.Newest = time.Time{}
			if tt.play != nil {
				tt.play(p, e)
			}
			v := analysis.Judge(p, e, at(time.Duration(tt.now)*time.Second))
			if v.Result != tt.result || v.Reason != tt.reason || !strings.Contains(v.Why, tt.why) {
				t.Errorf("got %s %s: %s\nwant %s %s: … %s", v.Result, v.Reason, v.Why, tt.result, tt.reason, tt.why)
			}
		})
	}
}

func TestTheStatusHasTheNumbers(t *testing.T) {
	p := analysis.PlanFor(nil, subject(5))
	e := play(p, learned(p), 0, 20, second(95, 1, 5, 0, 0.05))
	got := status(t, analysis.Judge(p, e, at(20*time.Second)), "errors")
	if got.Needed < 50 || got.Needed > 1000 || got.For <= 0 || got.For >= 100 || got.Against < 0 || got.Against >= 100 {
		t.Errorf("needed %d, for %d %%, against %d %%", got.Needed, got.For, got.Against)
	}
	got.Needed, got.For, got.Against, got.Message = 0, 0, 0, ""
	want := v1beta1.MetricStatus{
		Name: "errors", Verdict: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonTooFewRequests,
		Stable: "1.05% (20 of 1900)", Canary: "0% (0 of 100)",
		StableRequests: 1900, StableBad: 20, CanaryRequests: 100, CanaryRange: "0%-9.32%",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheNextStepBeginsAnewForAndGoesOnAgainst(t *testing.T) {
	p := analysis.PlanFor(nil, subject(5))
	e := play(p, learned(p), 0, 200, second(95, 1, 5, 0.5, 0.05))
	before := status(t, analysis.Judge(p, e, at(200*time.Second)), "errors")
	p.Subject.Since, p.Subject.Weight = at(300*time.Second), 25
	after := status(t, analysis.Judge(p, e, at(300*time.Second)), "errors")
	if before.Against <= 0 || after.Against != before.Against || after.For != 0 || after.CanaryRequests != 0 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if e.Since.Equal(p.Subject.Since) {
		t.Error("Judge changed the evidence")
	}
}

// The evidence goes on after a restart as if nothing had happened.
func TestEvidenceSurvivesARestart(t *testing.T) {
	p := analysis.PlanFor(gateway(
		v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
		v1beta1.Metric{Name: "latency", Gateway: v1beta1.GatewayLatency},
		v1beta1.Metric{Name: "orders", Prometheus: &v1beta1.PrometheusSource{Query: "{{.Pods}}"}, Tolerance: &v1beta1.Tolerance{Relative: "10%"}},
	), subject(5))
	one := play(p, learned(p), 0, 20, second(95, 1, 5, 0.5, 0.05))
	one.Add(p, scalar("orders", 0, 1, 2))
	two := &analysis.Evidence{}
	restore(t, one, two)
	for _, e := range []*analysis.Evidence{one, two} {
		play(p, e, 20, 20, second(95, 1, 5, 0.5, 0.05))
		e.Add(p, scalar("orders", 10*time.Second, 1, 2))
	}
	if diff := cmp.Diff(analysis.Judge(p, one, at(40*time.Second)), analysis.Judge(p, two, at(40*time.Second))); diff != "" {
		t.Errorf("(-without +with a restart):\n%s", diff)
	}
}

func scalar(metric string, to time.Duration, stable, canary float64) analysis.Measurement {
	return analysis.Measurement{
		Metric: metric, Kind: analysis.KindScalar, From: since, To: at(to + time.Second), Asked: at(to + 2*time.Second),
		Stable: analysis.Sample{Value: stable, Present: true}, Canary: analysis.Sample{Value: canary, Present: true},
	}
}

func TestNumbersJudge(t *testing.T) {
	num := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	query := &v1beta1.PrometheusSource{Query: "{{.Pods}}"}
	max10 := v1beta1.Metric{Name: "m", Prometheus: query, Threshold: &v1beta1.Threshold{Max: num("10")}}
	range1to3 := v1beta1.Metric{Name: "m", Prometheus: query, Threshold: &v1beta1.Threshold{Min: num("1"), Max: num("3")}}
	beside := v1beta1.Metric{Name: "m", Prometheus: query, Tolerance: &v1beta1.Tolerance{Relative: "10%"}}
	higher := v1beta1.Metric{Name: "m", Prometheus: query, Tolerance: &v1beta1.Tolerance{Relative: "10%", Better: "Higher"}}
	two := int32(2)
	impatient := beside
	impatient.Misses = &two
	job := v1beta1.Metric{Name: "m", Job: &v1beta1.JobSource{}}
	values := func(stable float64, canary ...float64) []analysis.Measurement {
		var out []analysis.Measurement
		for i, v := range canary {
			out = append(out, scalar("m", time.Duration(i)*10*time.Second, stable, v))
		}
		return out
	}
	verdict := func(value float64, says string) []analysis.Measurement {
		return []analysis.Measurement{{Metric: "m", Kind: analysis.KindVerdict, From: since, To: at(time.Second), Canary: analysis.Sample{Value: value}, Says: says}}
	}
	down := scalar("m", time.Second, 0, 0)
	down.Problem = &analysis.Problem{Reason: v1beta1.ReasonSourceUnavailable, Message: "nothing listens at http://p"}
	many := make([]float64, 30)
	for i := range many {
		many[i] = 2
	}
	tests := []struct {
		name   string
		metric v1beta1.Metric
		ms     []analysis.Measurement
		result v1beta1.VerdictResult
		reason string
		why    string
	}{
		{"nothing measured yet", max10, nil, v1beta1.VerdictUnknown, v1beta1.ReasonNoMeasurementYet, "nothing was measured yet at this weight"},
		{"in range", max10, values(0, 5), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "canary is 5; allowed is at most 10"},
		{"out of range once", max10, values(0, 5, 11), v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "1 of 3 measurements in a row that roll back"},
		{"out of range three times in a row", max10, values(0, 11, 12, 13), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "canary is 13; allowed is at most 10 (3 measurements in a row)"},
		{"three times, but not in a row", max10, values(0, 11, 12, 1, 13), v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "1 of 3"},
		{"below a range", range1to3, values(0, 0, 0, 0), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "allowed is from 1 to 3"},
		{"as good as stable", beside, values(1, 1.1), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "canary is 1.1, stable is 1; allowed is at most 1.1"},
		{"worse a few times is not more than chance", beside, values(1, 2, 2, 2, 2), v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "out of range 4 times in a row"},
		{"worse many times is", beside, values(1, many...), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "out of range more often than chance would have it"},
		{"unless one asked for less", impatient, values(1, 2, 2), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "(2 measurements in a row)"},
		{"higher is better", higher, values(1, 0.5), v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "allowed is at least 0.9"},
		{"a source that is down", max10, []analysis.Measurement{down}, v1beta1.VerdictUnknown, v1beta1.ReasonSourceUnavailable, "nothing listens at http://p"},
		{"a source that went down says nothing of now", max10, append(values(0, 5), down), v1beta1.VerdictUnknown, v1beta1.ReasonSourceUnavailable, "nothing listens"},
		{"but what it said before counts", max10, append(values(0, 11, 12, 13), down), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "canary is 13"},
		{"a job that succeeds", job, verdict(0, ""), v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "it passed"},
		{"a job that fails", job, verdict(1, "2 of 40 checks failed"), v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "it failed: 2 of 40 checks failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := analysis.PlanFor(gateway(tt.metric), subject(5))
			e := evidence(p, tt.ms...)
			now := at(time.Duration(len(tt.ms)) * 10 * time.Second)
			v := analysis.Judge(p, e, now)
			if v.Result != tt.result || v.Reason != tt.reason || !strings.Contains(v.Why, tt.why) {
				t.Errorf("got %s %s: %s\nwant %s %s: … %s", v.Result, v.Reason, v.Why, tt.result, tt.reason, tt.why)
			}
		})
	}
	t.Run("a measurement that is too old", func(t *testing.T) {
		p := analysis.PlanFor(gateway(max10), subject(5))
		v := analysis.Judge(p, evidence(p, values(0, 5)...), at(10*time.Minute))
		if v.Result != v1beta1.VerdictUnknown || v.Reason != v1beta1.ReasonStaleMeasurements {
			t.Errorf("%+v", v)
		}
	})
}

func TestCountersOfAPrometheusAreJudgedLikeTheGateways(t *testing.T) {
	for _, weight := range []int32{5, 100} {
		for _, bad := range []float64{0, 10} {
			p := counters(weight)
			e := evidence(p)
			if weight == 100 {
				m := answer(-10*time.Minute, 0)
				m.Stable = analysis.Sample{Requests: 5000, Present: true}
				e.Add(p, m)
			}
			for i := range 10 {
				m := answer(time.Duration(i)*10*time.Second, time.Duration(i+1)*10*time.Second)
				m.Canary = analysis.Sample{Requests: 100, Bad: bad, Present: true}
				if weight < 100 {
					m.Stable = analysis.Sample{Requests: 1900, Present: true}
				}
				e.Add(p, m)
			}
			want := v1beta1.VerdictPass
			if bad > 0 {
				want = v1beta1.VerdictFail
			}
			if v := analysis.Judge(p, e, at(102*time.Second)); v.Result != want {
				t.Errorf("at %d %%, %v %% bad: %+v", weight, bad, v)
			}
		}
	}
}

func TestWhatCannotBeMeasuredIsUnknown(t *testing.T) {
	p := analysis.PlanFor(gateway(
		v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
		v1beta1.Metric{Name: "orders", Template: &v1beta1.TemplateReference{Name: "orders"}},
	), subject(5))
	p.Problems = map[string]analysis.Problem{"orders": {Reason: v1beta1.ReasonTemplateNotFound, Message: "there is no MetricTemplate orders"}}
	e := play(p, learned(p), 0, 200, second(95, 0, 5, 0, 0.05))
	v := analysis.Judge(p, e, at(200*time.Second))
	if v.Result != v1beta1.VerdictUnknown || v.Why != "orders: there is no MetricTemplate orders" {
		t.Errorf("%+v", v)
	}
	if due := analysis.Due(p, e, at(200*time.Second)); due != nil {
		t.Errorf("it is asked for: %+v", due)
	}
}

func TestAWarmUpOfItsOwn(t *testing.T) {
	spec := &v1beta1.Analysis{WarmUp: &metav1.Duration{}}
	p := analysis.PlanFor(spec, subject(5))
	e := play(p, learned(p), 0, 3, second(950, 0, 50, 0, 0.5))
	if v := analysis.Judge(p, e, at(3*time.Second)); v.Result != v1beta1.VerdictFail {
		t.Errorf("without a warm-up: %+v", v)
	}
}
