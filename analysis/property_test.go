// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

func restore(t *testing.T, from, to *analysis.Evidence) {
	t.Helper()
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// everything is a plan with a metric of every kind.
func everything(weight int32) analysis.Plan {
	return analysis.PlanFor(gateway(
		v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
		v1beta1.Metric{Name: "latency", Gateway: v1beta1.GatewayLatency},
		v1beta1.Metric{Name: "answers", Gateway: v1beta1.GatewayAnswers},
		v1beta1.Metric{Name: "orders", Prometheus: &v1beta1.PrometheusSource{Query: "{{.Pods}}"}, Tolerance: &v1beta1.Tolerance{Relative: "10%"}},
		v1beta1.Metric{Name: "bad", Prometheus: &v1beta1.PrometheusSource{Counters: &v1beta1.Counters{Bad: "b", Total: "t"}}},
		v1beta1.Metric{Name: "slow", Prometheus: &v1beta1.PrometheusSource{Histogram: "h"}},
		v1beta1.Metric{Name: "smoke", Job: &v1beta1.JobSource{}},
	), subject(weight))
}

// odd gives numbers that no source should give.
func odd(r *rand.Rand) float64 {
	all := []float64{0, 1, 17, 1e6, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 0.5}
	return all[r.IntN(len(all))]
}

func oddSample(r *rand.Rand) analysis.Sample {
	s := analysis.Sample{Requests: odd(r), Bad: odd(r), Value: odd(r), Present: r.IntN(2) == 0}
	for range r.IntN(4) {
		s.Buckets = append(s.Buckets, sequential.Bucket{Le: odd(r), Count: odd(r)})
	}
	return s
}

func oddArm(r *rand.Rand) trial.Arm {
	s := oddSample(r)
	return trial.Arm{Requests: sequential.Counts{N: s.Requests, X: s.Bad}, Latency: s.Buckets}
}

// Whatever comes in, nothing panics, evidence can be stored, and no number that is none
// makes a verdict.
func TestArbitraryNumbersAreNoVerdict(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := everything([]int32{0, 5, 50, 100}[r.IntN(4)])
		e := &analysis.Evidence{}
		for range r.IntN(30) {
			now := at(time.Duration(r.IntN(100)) * time.Second)
			switch r.IntN(4) {
			case 0:
				e.Learn(p, analysis.Reading{Stable: oddArm(r), StablePods: []trial.Pod{{Name: "a", Requests: oddArm(r).Requests}}})
			case 1:
				e.Read(p, analysis.Reading{Stable: oddArm(r), Canary: oddArm(r), Newest: now, Proxies: r.IntN(3)}, now)
			default:
				m := p.Metrics[r.IntN(len(p.Metrics))]
				e.Add(p, analysis.Measurement{
					Metric: m.Name, Kind: analysis.KindOf(m), From: since, To: now, Stable: oddSample(r), Canary: oddSample(r),
				})
			}
			if r.IntN(5) == 0 {
				p.Subject.Since = p.Subject.Since.Add(time.Minute)
			}
		}
		v := analysis.Judge(p, e, at(200*time.Second))
		if len(v.Metrics) != len(p.Metrics) {
			t.Fatalf("seed %d: %+v", seed, v)
		}
		for i, f := range v.Findings {
			if math.IsNaN(f.Against) || math.IsNaN(f.For) {
				t.Fatalf("seed %d: %s: %+v", seed, p.Metrics[i].Name, f)
			}
		}
		analysis.Due(p, e, at(200*time.Second))
	}
}

// Silence is neither: whatever is missing, there is no Pass and no Fail.
func TestSilenceIsUnknown(t *testing.T) {
	for _, weight := range []int32{5, 100} {
		p := everything(weight)
		for _, now := range []time.Duration{0, time.Second, time.Minute, 24 * time.Hour} {
			for _, m := range analysis.Judge(p, &analysis.Evidence{}, at(now)).Metrics {
				notAsked := weight == 100 && m.Name == "answers" && m.Reason == v1beta1.ReasonNotJudged
				if m.Verdict != v1beta1.VerdictUnknown && !notAsked {
					t.Errorf("at %d %% after %v: %+v", weight, now, m)
				}
			}
		}
	}
}

// How ticks are cut makes no difference to what was counted.
func TestSecondsAddUp(t *testing.T) {
	p := analysis.PlanFor(nil, subject(20))
	r := rand.New(rand.NewPCG(1, 2))
	whole, cut := learned(p), learned(p)
	var sum analysis.Reading
	for i := range 100 {
		n, c := float64(r.IntN(50)), float64(r.IntN(20))
		s := second(n, math.Floor(n/10), c, math.Floor(c/10), 0.05)
		to := at(time.Duration(i+30) * time.Second)
		s.Newest = to
		whole.Read(p, s, to)
		sum.Stable.Requests.N, sum.Stable.Requests.X = sum.Stable.Requests.N+s.Stable.Requests.N, sum.Stable.Requests.X+s.Stable.Requests.X
		sum.Canary.Requests.N, sum.Canary.Requests.X = sum.Canary.Requests.N+s.Canary.Requests.N, sum.Canary.Requests.X+s.Canary.Requests.X
		if i%10 == 9 {
			sum.Newest, sum.Proxies = to, 1
			cut.Read(p, sum, to)
			sum = analysis.Reading{}
		}
	}
	a, b := status(t, analysis.Judge(p, whole, at(130*time.Second)), "errors"), status(t, analysis.Judge(p, cut, at(130*time.Second)), "errors")
	if diff := cmp.Diff([]string{a.Stable, a.Canary}, []string{b.Stable, b.Canary}); diff != "" {
		t.Errorf("(-by the second +by ten):\n%s", diff)
	}
}
