// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/api/v1beta1"
)

func TestAHistogramThatIsTooCoarseSaysWhichBoundItNeeds(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		name string
		// canary and stable, of 500 requests each
		stable []sequential.Bucket
		want   string
	}{
		{"one bucket that all are in", []sequential.Bucket{{Le: 1, Count: 500}, {Le: inf, Count: 500}}, "50% of stable's requests took at most 1s, and it has no bound above that from which a request is out of tolerance: give it one at 1.2s or a little more"},
		{"the next bound is within tolerance", []sequential.Bucket{{Le: .01, Count: 500}, {Le: .0105, Count: 500}, {Le: inf, Count: 500}}, "give it one at 15ms or a little more"},
		{"nearly all are above its bounds", []sequential.Bucket{{Le: .1, Count: 0}, {Le: .5, Count: 20}, {Le: inf, Count: 500}}, "less than 50% of stable's requests took at most 500ms, its largest bound: give it larger ones"},
		{"no bounds", []sequential.Bucket{{Le: inf, Count: 500}}, "it has no bucket but +Inf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := histogramAfter(tt.stable, tt.stable, 1)
			if m.Verdict != v1beta1.VerdictUnknown || m.Reason != v1beta1.ReasonLearning || !strings.Contains(m.Message, "500 of about 1000 of its requests were seen") {
				t.Errorf("after 500 requests: %s %s: %s", m.Verdict, m.Reason, m.Message)
			}
			if m := histogramAfter(tt.stable, tt.stable, 6); m.Verdict != v1beta1.VerdictUnknown || m.Reason != v1beta1.ReasonLearning || !strings.Contains(m.Message, tt.want) || !strings.HasSuffix(m.Message, "or give the metric a threshold") {
				t.Errorf("%s %s: %s", m.Verdict, m.Reason, m.Message)
			}
		})
	}
}

// What leaves the bucket that all of stable's requests are in is found.
func TestNearlyAllRequestsInTheFirstBucket(t *testing.T) {
	all := []sequential.Bucket{{Le: .005, Count: 500}, {Le: .025, Count: 500}, {Le: 1, Count: 500}, {Le: math.Inf(1), Count: 500}}
	if m := histogramAfter(all, all, 10); m.Verdict != v1beta1.VerdictPass {
		t.Errorf("as fast as stable: %s %s: %s", m.Verdict, m.Reason, m.Message)
	}
	slow := slices.Clone(all)
	slow[0].Count, slow[1].Count = 100, 460
	if m := histogramAfter(all, slow, 10); m.Verdict != v1beta1.VerdictFail {
		t.Errorf("8 %% in a higher bucket: %s %s: %s", m.Verdict, m.Reason, m.Message)
	}
}

// histogramAfter is what is said after so many measurements of ten seconds.
func histogramAfter(stable, canary []sequential.Bucket, n int) v1beta1.MetricStatus {
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
		Name: "seconds", Prometheus: &v1beta1.PrometheusSource{Histogram: "x_seconds_bucket"},
	}}}, subject(50))
	e := &analysis.Evidence{}
	sample := func(h []sequential.Bucket) analysis.Sample {
		return analysis.Sample{Requests: h[len(h)-1].Count, Present: true, Buckets: h}
	}
	to := at(0)
	for i := range n {
		from := at(time.Duration(i) * 10 * time.Second)
		to = from.Add(10 * time.Second)
		e.Add(p, analysis.Measurement{Metric: "seconds", Kind: analysis.KindHistogram, From: from, To: to, Asked: to, Stable: sample(stable), Canary: sample(canary)})
	}
	return analysis.Judge(p, e, to).Metrics[0]
}
