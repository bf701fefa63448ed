// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"math"

	"headgate.dev/headgate/analysis/sequential"
)

// latencySlack is the share of requests that may be slow on top of stable's.
const latencySlack = 0.001

// learnLatency keeps stable's histogram until every metric of latency has its edges.
// Edges come from earlier ticks only: a test must not choose its questions by the answers.
func (t *Trial) learnLatency(c *Config, h []sequential.Bucket) {
	open := false
	for i, m := range c.Metrics {
		learned := i < len(t.Metrics) && len(t.Metrics[i].Edges) > 0
		open = open || m.Kind == Latency && m.Limit == 0 && !learned
	}
	if !open {
		t.Before = nil
		return
	}
	t.Before = sequential.AddHistograms(t.Before, h)
	for i := range t.Metrics {
		if e := &t.Metrics[i]; c.Metrics[i].Kind == Latency && len(e.Edges) == 0 {
			e.Edges = c.Metrics[i].edges(t.Before)
			for j := range e.Edges {
				e.Edges[j].Worse.Mixture = e.Learning
			}
		}
	}
}

// edges are where a metric compares latencies; none while too little is known.
func (m *Metric) edges(before []sequential.Bucket) []EdgeEvidence {
	if m.Limit > 0 {
		return []EdgeEvidence{{Edge: sequential.Edge{Quantile: m.Quantile, Stable: m.Limit, Canary: m.Limit}}}
	}
	bounds := make([]float64, len(before))
	for i, b := range before {
		bounds[i] = b.Le
	}
	var out []EdgeEvidence
	for _, e := range sequential.LearnEdges(before, bounds, m.Shift, m.quantiles()...) {
		ever := sequential.Counts{}
		if n, slow, ok := slower(before, e.Stable); ok {
			ever = sequential.Counts{N: n, X: slow}
		}
		out = append(out, EdgeEvidence{Edge: e, Ever: ever})
	}
	return out
}

func (m *Metric) quantiles() []float64 {
	if m.Quantile > 0 {
		return []float64{m.Quantile}
	}
	return sequential.Quantiles()
}

// addLatency adds a tick at every edge.
func (e *Evidence) addLatency(c *Config, m *Metric, k Tick, clump float64) {
	bound := c.bound(m)
	bound.Alpha /= float64(max(len(e.Edges), 1))
	worse := sequential.RegressionTest{Bound: bound, Tolerance: sequential.Tolerance{Ratio: 1, Slack: latencySlack}, Frequent: true}
	good := sequential.AcceptanceTest{Beta: c.Beta, Tolerance: m.Enough}
	for i := range e.Edges {
		edge := &e.Edges[i]
		at := edge.Canary
		if m.Limit > 0 { // the first bound of the histogram that is not below the limit
			at = boundFrom(k.Canary.Latency, m.Limit)
		}
		n, slow, ok := slower(k.Canary.Latency, at)
		if !ok {
			continue
		}
		canary := sequential.Counts{N: n, X: slow}
		sn, sslow, sok := slower(k.Stable.Latency, edge.Stable)
		stable := sequential.Counts{N: sn, X: sslow}
		switch {
		case m.Limit > 0:
			share := 1 - m.Quantile
			edge.Worse.UpdateAlone(&worse, canary, over(sequential.Tolerance{Ratio: 1}, share), clump)
			edge.Good.UpdateAlone(&good, canary, over(m.Enough, share), clump)
		case k.Weight < 1 && sok:
			tick := sequential.Tick{Weight: k.Weight, Canary: canary, Stable: stable}
			edge.Worse.Update(&worse, tick, clump)
			edge.Shown = edge.Good.Update(&good, tick, clump) || edge.Shown
		case k.Weight >= 1 && edge.Ever.N >= leastBefore:
			// A machine that became slower meanwhile looks like a slow version where nothing serves
			// beside it: that may hold a step, but rolls nothing back.
			edge.Good.UpdateAlone(&good, canary, over(m.Enough, edge.Ever.X/edge.Ever.N), clump)
		}
		edge.Step = plus(edge.Step, canary)
		if sok {
			edge.Ever = plus(edge.Ever, stable)
		}
	}
}

// slower counts the requests of a cumulative histogram, and those above one of its
// bounds; false where it has no such bound, or is none.
func slower(h []sequential.Bucket, bound float64) (n, slow float64, ok bool) {
	if len(h) == 0 {
		return 0, 0, true // no request had a latency in this tick
	}
	n = h[len(h)-1].Count
	for _, b := range h {
		if b.Le == bound {
			return n, max(n-b.Count, 0), true
		}
	}
	return 0, 0, false
}

// boundFrom is the first bound at or above v.
func boundFrom(h []sequential.Bucket, v float64) float64 {
	for _, b := range h {
		if b.Le >= v {
			return b.Le
		}
	}
	return math.Inf(1)
}
