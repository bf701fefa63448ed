// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// TestArbitraryHistoriesNeverPanic throws nonsense at Judge and Due.
func TestArbitraryHistoriesNeverPanic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	odd := []float64{0, -1, 1, 3, 1e9, 1e300, math.NaN(), math.Inf(1), math.Inf(-1), 0.5}
	pick := func() float64 { return odd[r.IntN(len(odd))] }
	metrics := []v1beta1.Metric{
		{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
		{Name: "p90", Gateway: v1beta1.GatewayLatency, Quantile: "0.9"},
		{Name: "orders", Prometheus: &v1beta1.PrometheusSource{Query: "x"}, Tolerance: &v1beta1.Tolerance{Relative: "10%"}},
		{Name: "broken", Gateway: v1beta1.GatewayLatency, Quantile: "2"},
	}
	kinds := []analysis.Kind{analysis.KindCounts, analysis.KindHistogram, analysis.KindScalar, "?"}
	for range 20000 {
		p := analysis.PlanFor(&v1beta1.Analysis{Metrics: metrics[:1+r.IntN(len(metrics))]}, subject([]int32{-1, 0, 5, 50, 100, 200}[r.IntN(6)]))
		h := analysis.History{Since: since}
		for range r.IntN(6) {
			m := analysis.Measurement{
				Metric: metrics[r.IntN(len(metrics))].Name, Kind: kinds[r.IntN(len(kinds))],
				From: at(time.Duration(r.IntN(1000)-500) * time.Second), To: at(time.Duration(r.IntN(1000)-500) * time.Second),
			}
			sample := func() analysis.Sample {
				s := analysis.Sample{Requests: pick(), Bad: pick(), Unanswered: pick(), Value: pick(), Present: r.IntN(2) == 0}
				for range r.IntN(4) {
					s.Buckets = append(s.Buckets, analysis.Bucket{Le: pick(), Count: pick()})
				}
				return s
			}
			m.Stable, m.Canary = sample(), sample()
			if r.IntN(5) == 0 {
				m.Problem = &analysis.Problem{Reason: "R", Message: "m"}
			}
			h = h.With(m)
		}
		v := analysis.Judge(p, h)
		if len(v.Metrics) != len(p.Metrics) || v.Reason == "" || v.Why == "" {
			t.Fatalf("%+v of %+v", v, h)
		}
		analysis.Due(p, h, at(time.Duration(r.IntN(1000))*time.Second))
	}
}

// healthy is a history of random length, in which each arm fails at its rate.
func random(r *rand.Rand, stableRate, canaryRate float64) analysis.History {
	h := analysis.History{Since: since}
	for i := range 1 + r.IntN(8) {
		s, c := float64(r.IntN(2000)), float64(r.IntN(200))
		h = h.With(counted(i, s, binomial(r, s, stableRate), c, binomial(r, c, canaryRate)))
	}
	return h
}

func binomial(r *rand.Rand, n, p float64) float64 {
	k := 0.0
	for range int(n) {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

func TestMoreBadCanaryRequestsNeverTurnAFailIntoAPass(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fails := 0
	for range 3000 {
		h := random(r, 0.01, []float64{0.01, 0.05, 0.5}[r.IntN(3)])
		if analysis.Judge(errorsOnly(5), h).Result != v1beta1.VerdictFail {
			continue
		}
		fails++
		worse := analysis.History{Since: since}
		for _, m := range h.Measurements {
			turned := float64(r.IntN(int(m.Canary.Requests-m.Canary.Bad) + 1))
			added := float64(r.IntN(20))
			m.Canary.Bad += turned + added
			m.Canary.Requests += added
			worse = worse.With(m)
		}
		if v := analysis.Judge(errorsOnly(5), worse); v.Result == v1beta1.VerdictPass {
			t.Fatalf("Fail became Pass: %s", v.Why)
		}
	}
	if fails < 500 {
		t.Fatalf("only %d histories failed", fails)
	}
}

func TestStableAndCanaryAreNeverBothWorseThanTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	fails := 0
	for range 3000 {
		h := random(r, []float64{0.01, 0.3}[r.IntN(2)], []float64{0.01, 0.3}[r.IntN(2)])
		swapped := analysis.History{Since: since}
		for _, m := range h.Measurements {
			m.Stable, m.Canary = m.Canary, m.Stable
			swapped = swapped.With(m)
		}
		if analysis.Judge(errorsOnly(5), h).Result != v1beta1.VerdictFail {
			continue
		}
		fails++
		if v := analysis.Judge(errorsOnly(95), swapped); v.Result == v1beta1.VerdictFail {
			t.Fatalf("each version is judged worse than the other: %s", v.Why)
		}
	}
	if fails < 500 {
		t.Fatalf("only %d histories failed", fails)
	}
}

func TestGoodDataOfEnoughSizeIsNeverUnknown(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 3000 {
		h := analysis.History{Since: since}
		for i := range 1 + r.IntN(100) {
			// The same share of bad requests in both arms, in every interval.
			c := float64(50 + 50*r.IntN(4))
			h = h.With(counted(i, 19*c, 19*c/50, c, c/50))
		}
		if v := analysis.Judge(errorsOnly(5), h); v.Result != v1beta1.VerdictPass {
			t.Fatalf("%s: %s", v.Result, v.Why)
		}
	}
}

func TestAHistoryCutDifferentlyGivesTheSameNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 1000 {
		fine := random(r, 0.01, []float64{0.01, 0.2}[r.IntN(2)])
		coarse := analysis.History{Since: since}
		for i, m := range fine.Measurements {
			if i == 0 {
				coarse.Measurements = []analysis.Measurement{m}
				continue
			}
			last := &coarse.Measurements[0]
			last.To, last.Stable, last.Canary = m.To, last.Stable.Plus(m.Stable), last.Canary.Plus(m.Canary)
		}
		a, b := analysis.Judge(errorsOnly(5), fine).Metrics[0], analysis.Judge(errorsOnly(5), coarse).Metrics[0]
		if a.Canary != b.Canary || a.Stable != b.Stable || a.CanaryRequests != b.CanaryRequests {
			t.Fatalf("%+v\n%+v", a, b)
		}
		if a.Verdict == v1beta1.VerdictFail && b.Verdict == v1beta1.VerdictPass {
			t.Fatalf("cut finely Fail, cut coarsely Pass: %s", b.Message)
		}
	}
}

// TestFalseRollbacksOfTheFirstForm measures what docs/analysis.md says of it: steps
// of an hour, looked at every ten seconds, in which both versions are alike.
func TestFalseRollbacksOfTheFirstForm(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const runs, looks = 40, 360
	for _, rate := range []float64{0, 0.001, 0.01, 0.05} {
		rolledBack := 0
		for range runs {
			h := analysis.History{Since: since}
			for i := range looks {
				p := rate
				if i%60 == 30 {
					p = 0.5 // an outage that hits both alike
				}
				h = h.With(counted(i, 190, binomial(r, 190, p), 10, binomial(r, 10, p)))
				if analysis.Judge(errorsOnly(5), h).Result == v1beta1.VerdictFail {
					rolledBack++
					break
				}
			}
		}
		t.Logf("both versions fail %v of requests: %d of %d healthy steps rolled back", rate, rolledBack, runs)
		if rolledBack > runs/25 {
			t.Errorf("%d of %d healthy steps rolled back at rate %v", rolledBack, runs, rate)
		}
	}
}

// TestAFaultIsFoundSoon measures how many canary requests it takes at 5% weight.
func TestAFaultIsFoundSoon(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, tt := range []struct {
		healthy, most int // healthy intervals before, intervals to find it in
		rate          float64
	}{{0, 3, 1}, {0, 6, 0.2}, {0, 30, 0.05}, {360, 5, 1}, {360, 8, 0.2}, {360, 60, 0.05}} {
		h := analysis.History{Since: since}
		for i := range tt.healthy {
			h = h.With(counted(i, 950, 0, 50, 0))
		}
		took := 0
		for analysis.Judge(errorsOnly(5), h).Result != v1beta1.VerdictFail {
			if took++; took > tt.most {
				t.Errorf("%v bad after %d intervals: not found in %d", tt.rate, tt.healthy, tt.most)
				break
			}
			h = h.With(counted(tt.healthy+took, 950, 0, 50, binomial(r, 50, tt.rate)))
		}
		t.Logf("%v bad after %d healthy intervals: %d intervals, %d canary requests", tt.rate, tt.healthy, took, 50*took)
	}
}
