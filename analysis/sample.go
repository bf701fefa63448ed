// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"slices"

	"headgate.dev/headgate/analysis/sequential"
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
func addBuckets(a, b []sequential.Bucket, sign float64) []sequential.Bucket {
	var sum []sequential.Bucket
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].Le < b[j].Le:
			i++
		case a[i].Le > b[j].Le:
			j++
		default:
			sum = append(sum, sequential.Bucket{Le: a[i].Le, Count: a[i].Count + sign*b[j].Count})
			i++
			j++
		}
	}
	return sum
}
