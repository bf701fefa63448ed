// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Bucket is a cumulative count of requests that took at most Le seconds.
type Bucket struct {
	Le, Count float64
}

// MarshalJSON writes the pair [Le, Count], with null for a Le of +Inf, which JSON has
// no number for.
func (b Bucket) MarshalJSON() ([]byte, error) {
	if math.IsInf(b.Le, 1) {
		return json.Marshal([2]any{nil, b.Count})
	}
	return json.Marshal([2]float64{b.Le, b.Count})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *Bucket) UnmarshalJSON(data []byte) error {
	var pair [2]*float64
	if err := json.Unmarshal(data, &pair); err != nil {
		return fmt.Errorf("a bucket is [upper bound, count]: %w", err)
	}
	*b = Bucket{Le: math.Inf(1)}
	if pair[0] != nil {
		b.Le = *pair[0]
	}
	if pair[1] != nil {
		b.Count = *pair[1]
	}
	return nil
}

// AddHistograms adds two cumulative histograms on their common bounds: coarser
// bounds are exact, so nothing is invented.
func AddHistograms(a, b []Bucket) []Bucket {
	switch {
	case len(a) == 0:
		return slices.Clone(b)
	case len(b) == 0:
		return a
	}
	var sum []Bucket
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].Le < b[j].Le:
			i++
		case a[i].Le > b[j].Le:
			j++
		default:
			sum = append(sum, Bucket{Le: a[i].Le, Count: a[i].Count + b[j].Count})
			i++
			j++
		}
	}
	return sum
}

// Edge is one place at which the two arms' latencies are compared: a request of
// stable is slow above Stable seconds, one of the canary above Canary seconds.
type Edge struct {
	Quantile float64 `json:"quantile"`
	Stable   float64 `json:"stable"`
	Canary   float64 `json:"canary"`
}

// maxEdges is how many places there are at most.
const maxEdges = 6

// Quantiles are those of stable at which latencies are compared, unless others are asked for.
func Quantiles() []float64 { return []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999} }

const (
	// leastLearned is how many requests of stable the edges are learned from, and
	// leastAbove how many must be above one.
	leastLearned = 1000
	leastAbove   = 10
	// latencySlack is the share of requests that may be slow on top.
	latencySlack = 0.001
)

// Shift is how much slower the canary may be before it counts: a request of stable
// that took x seconds may take the canary Ratio·x, and x+Seconds in any case.
type Shift struct {
	Ratio, Seconds float64
}

// From is from which time on a request of the canary is slow where one of stable's is slow after x seconds.
func (s Shift) From(x float64) float64 { return max(s.Ratio*x, x+s.Seconds) }

// DefaultShift is two buckets of a histogram whose bounds grow by 2^(1/8), and 5 ms.
func DefaultShift() Shift { return Shift{Ratio: 1.18, Seconds: 0.005} }

// LearnEdges takes the edges from a histogram of stable from before the release,
// where canary is the bounds of the canary's histogram, ascending. Only real bounds
// of both histograms are used: an interpolated quantile has no law. Without quantiles those of
// Quantiles are taken, and never more than six. Empty: too few requests yet, or no such bounds.
//
// An edge with hardly any request above it finds little that another one does not. Where there is no other, as when
// nearly all requests are in the first bucket, the lowest of them is taken all the same: the test is
// valid at any edge, and finds what leaves that bucket.
func LearnEdges(stable []Bucket, canary []float64, shift Shift, quantiles ...float64) []Edge {
	if len(stable) == 0 {
		return nil
	}
	n := stable[len(stable)-1].Count
	if n < leastLearned {
		return nil
	}
	if len(quantiles) == 0 {
		quantiles = Quantiles()
	}
	var edges, sparse []Edge
	for _, q := range quantiles[:min(len(quantiles), maxEdges)] {
		x, above := QuantileBound(stable, q)
		if k := len(edges); math.IsInf(x, 1) || k > 0 && edges[k-1].Stable == x {
			continue
		}
		least := shift.From(x)
		i := slices.IndexFunc(canary, func(y float64) bool { return y >= least && !math.IsInf(y, 1) })
		switch {
		case i < 0:
		case above >= leastAbove:
			edges = append(edges, Edge{Quantile: q, Stable: x, Canary: canary[i]})
		case len(sparse) == 0 || sparse[0].Stable == x: // the highest of the quantiles that it stands for
			sparse = []Edge{{Quantile: q, Stable: x, Canary: canary[i]}}
		}
	}
	if len(edges) == 0 {
		return sparse
	}
	return edges
}

// QuantileBound is the first bound of a histogram, which has one, that a share q of its requests did not exceed, and how many did.
func QuantileBound(h []Bucket, q float64) (bound, above float64) {
	n := h[len(h)-1].Count
	i := 0
	for i < len(h)-1 && h[i].Count < q*n {
		i++
	}
	return h[i].Le, n - h[i].Count
}

// Latency is the evidence that the canary is slower, at each edge.
type Latency struct {
	Edges []Edge               `json:"edges"`
	Tests [maxEdges]Regression `json:"tests"`
}

// Update adds a tick's histograms, not since the start but of this tick. The bound
// is that of all edges together. It gives the first edge that ever crossed, or -1.
func (l *Latency) Update(b Bound, stable, canary []Bucket, weight, clump float64) int {
	c := RegressionTest{Bound: b, Tolerance: Tolerance{Ratio: 1, Slack: latencySlack}, Frequent: true}
	c.Alpha /= maxEdges
	crossed := -1
	for i := range min(len(l.Edges), maxEdges) {
		t := Tick{Weight: weight, Stable: above(stable, l.Edges[i].Stable), Canary: above(canary, l.Edges[i].Canary)}
		if l.Tests[i].Update(&c, t, clump) && crossed < 0 {
			crossed = i
		}
	}
	return crossed
}

// above counts the requests of a histogram, and those above one of its bounds.
// The tick is unusable, by more bad requests than requests, where it has no such
// bound.
func above(h []Bucket, bound float64) Counts {
	if len(h) == 0 {
		return Counts{}
	}
	n := h[len(h)-1].Count
	for _, b := range h {
		if b.Le == bound {
			return Counts{N: n, X: n - b.Count}
		}
	}
	return Counts{N: n, X: math.Inf(1)}
}
