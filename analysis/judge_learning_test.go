// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/api/v1beta1"
)

func TestAHistogramThatIsTooCoarseSaysSo(t *testing.T) {
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
		Name: "seconds", Prometheus: &v1beta1.PrometheusSource{Histogram: "x_seconds_bucket"},
	}}}, subject(50))
	e := &analysis.Evidence{}
	// All requests fall into the first bucket: there is nothing above it to learn from.
	all := func(n float64) analysis.Sample {
		return analysis.Sample{Requests: n, Present: true, Buckets: []sequential.Bucket{{Le: 0.001, Count: n}, {Le: 1, Count: n}, {Le: math.Inf(1), Count: n}}}
	}
	for i, want := range []string{"500 of about 1000 of its requests were seen", "", "", "", "the histogram is too coarse to compare with: 2500 requests of stable were seen"} {
		from, to := at(time.Duration(i)*10*time.Second), at(time.Duration(i+1)*10*time.Second)
		e.Add(p, analysis.Measurement{Metric: "seconds", Kind: analysis.KindHistogram, From: from, To: to, Asked: to, Stable: all(500), Canary: all(500)})
		m := analysis.Judge(p, e, to).Metrics[0]
		if m.Verdict != v1beta1.VerdictUnknown || m.Reason != v1beta1.ReasonLearning || !strings.Contains(m.Message, want) {
			t.Errorf("after %d: %s %s: %s", i+1, m.Verdict, m.Reason, m.Message)
		}
	}
}
