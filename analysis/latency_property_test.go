// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// latencies gives n log-normal latencies around 20 ms in buckets that are 19%
// apart, as the proxies' are.
func latencies(r *rand.Rand, n int, times float64) analysis.Sample {
	s := analysis.Sample{Requests: float64(n), Present: n > 0}
	for i := range 48 {
		s.Buckets = append(s.Buckets, analysis.Bucket{Le: 0.0005 * math.Pow(2, float64(i)/4)})
	}
	s.Buckets = append(s.Buckets, analysis.Bucket{Le: math.Inf(1)})
	for range n {
		v := 0.02 * times * math.Exp(0.7*r.NormFloat64())
		i := min(max(int(math.Ceil(4*math.Log2(v/0.0005))), 0), len(s.Buckets)-1)
		s.Buckets[i].Count++
	}
	for i := 1; i < len(s.Buckets); i++ {
		s.Buckets[i].Count += s.Buckets[i-1].Count
	}
	return s
}

// TestLatenciesThatAreAlikeAreNotRolledBack looks at the default p99 of healthy
// releases, half an hour each, with hiccups that hit both versions.
func TestLatenciesThatAreAlikeAreNotRolledBack(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "p99", Gateway: v1beta1.GatewayLatency}}}, subject(5))
	const runs, looks = 30, 180
	rolledBack, passed := 0, 0
	for range runs {
		h := analysis.History{Since: since}
		for i := range looks {
			times := 1.0
			if i%40 == 20 {
				times = 10
			}
			m := counted(i, 0, 0, 0, 0)
			m.Metric, m.Kind = "p99", analysis.KindHistogram
			m.Stable, m.Canary = latencies(r, 380, times), latencies(r, 20, times)
			h = h.With(m)
			if v := analysis.Judge(p, h); v.Result == v1beta1.VerdictFail {
				t.Log(v.Why)
				rolledBack++
				break
			}
		}
		if analysis.Judge(p, h).Result == v1beta1.VerdictPass {
			passed++
		}
	}
	t.Logf("%d of %d healthy releases rolled back, %d pass at the end", rolledBack, runs, passed)
	if rolledBack > 1 || passed < runs*2/3 {
		t.Errorf("%d of %d healthy releases rolled back, %d pass at the end", rolledBack, runs, passed)
	}
}

// TestASlowCanaryIsFound measures how many canary requests it takes.
func TestASlowCanaryIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "p99", Gateway: v1beta1.GatewayLatency}}}, subject(5))
	for _, tt := range []struct {
		times float64
		most  int
	}{{2, 30}, {4, 6}} {
		h := analysis.History{Since: since}
		took := 0
		for analysis.Judge(p, h).Result != v1beta1.VerdictFail {
			if took++; took > tt.most {
				t.Fatalf("%v times as slow: not found in %d requests", tt.times, 20*tt.most)
			}
			m := counted(took, 0, 0, 0, 0)
			m.Metric, m.Kind = "p99", analysis.KindHistogram
			m.Stable, m.Canary = latencies(r, 380, 1), latencies(r, 20, tt.times)
			h = h.With(m)
		}
		t.Logf("%v times as slow: %d canary requests", tt.times, 20*took)
	}
}
