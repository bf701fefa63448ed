// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"slices"
)

// Plus adds the counts of two samples of one arm. Histograms are added on the
// bounds both have; a sample without buckets adds nothing to them.
func (s Sample) Plus(o Sample) Sample { return s.combine(o, 1) }

// Minus takes the counts of a part away from those of the whole.
func (s Sample) Minus(o Sample) Sample {
	present := s.Present
	s = s.combine(o, -1)
	s.Present = present
	return s
}

func (s Sample) combine(o Sample, sign float64) Sample {
	s.Requests += sign * o.Requests
	s.Bad += sign * o.Bad
	s.Unanswered += sign * o.Unanswered
	s.Present = s.Present || o.Present
	switch {
	case len(o.Buckets) == 0:
	case len(s.Buckets) == 0:
		s.Buckets = slices.Clone(o.Buckets)
		for i := range s.Buckets {
			s.Buckets[i].Count *= sign
		}
	default:
		s.Buckets = addBuckets(s.Buckets, o.Buckets, sign)
	}
	return s
}

// addBuckets adds two cumulative histograms on their common bounds. Cumulative
// counts of a coarser set of bounds are exact, so nothing is invented.
func addBuckets(a, b []Bucket, sign float64) []Bucket {
	var sum []Bucket
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].Le < b[j].Le:
			i++
		case a[i].Le > b[j].Le:
			j++
		default:
			sum = append(sum, Bucket{Le: a[i].Le, Count: a[i].Count + sign*b[j].Count})
			i++
			j++
		}
	}
	return sum
}

// atMost is how many requests took at most le, where le is a bound of the
// histogram, or more than are known to where it is not.
func (s Sample) atMost(le float64) float64 {
	n := 0.0
	for _, b := range s.Buckets {
		if b.Le > le {
			break
		}
		n = b.Count
	}
	return n
}

// quantile gives the bounds of the bucket that holds the q-quantile: it is more
// than lo and at most hi seconds. A histogram says no more than that. False when
// the sample holds no requests.
func (s Sample) quantile(q float64) (lo, hi float64, ok bool) {
	if s.Requests <= 0 || len(s.Buckets) == 0 {
		return 0, 0, false
	}
	// Guards against q*n coming out a hair above the whole number it stands for.
	rank := q*s.Requests - 1e-9*s.Requests
	for _, b := range s.Buckets {
		if b.Count >= rank {
			return lo, b.Le, true
		}
		lo = b.Le
	}
	return lo, math.Inf(1), true
}

// boundFrom is the first bound of the histogram at or above v.
func (s Sample) boundFrom(v float64) float64 {
	for _, b := range s.Buckets {
		if b.Le >= v {
			return b.Le
		}
	}
	return math.Inf(1)
}
