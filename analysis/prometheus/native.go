// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
)

// Native histograms have buckets whose bounds grow by 2^(2^-schema), or bounds of their own
// (schema -53). The API gives the buckets that are not empty, with their bounds, and no
// schema. So every histogram is read at the same bounds, those of schema 3, which are also
// bounds of every finer one; a bound that lies inside a bucket of any sample is left out,
// because how many requests of that bucket lie below it is not known. What remains is
// exact, and the same for both arms. Source:
// https://prometheus.io/docs/specs/native_histograms/#schema

const (
	// gridSchema has a growth of 9.05%, half of the shift that latency is judged by.
	gridSchema = 3
	// The grid reaches from 2^-14 s (61 µs) to 2^10 s (17 minutes).
	gridFrom, gridTo = -14, 10
	// nearly is the relative difference of two bounds that are the same.
	nearly = 1e-9
)

// gridOf are the bounds at which all native histograms of the answers can be read, in order.
func gridOf(answers ...model.Matrix) []float64 {
	var bounds []float64
	perOctave := 1 << gridSchema
	for i := gridFrom * perOctave; i <= gridTo*perOctave; i++ {
		bounds = append(bounds, math.Exp2(float64(i)/float64(perOctave)))
	}
	spans := map[span]bool{}
	for _, matrix := range answers {
		for _, stream := range matrix {
			for _, h := range stream.Histograms {
				for _, b := range h.Histogram.Buckets {
					spans[span{float64(b.Lower), float64(b.Upper)}] = true
				}
			}
		}
	}
	for s := range spans {
		for _, v := range []float64{s.lower, s.upper} {
			if ownBound(v) {
				bounds = append(bounds, v)
			}
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	return slices.DeleteFunc(bounds, func(b float64) bool {
		for s := range spans {
			if s.lower < b*(1-nearly) && b*(1+nearly) < s.upper {
				return true
			}
		}
		return false
	})
}

// span is the reach of a bucket.
type span struct{ lower, upper float64 }

// ownBound says whether a bound is one that somebody chose: it is in no exponential schema.
func ownBound(v float64) bool {
	if v <= 0 || math.IsInf(v, 0) {
		return false
	}
	const finest = 256 // buckets per octave of schema 8
	at := math.Log2(v) * finest
	return math.Abs(at-math.Round(at)) > 1e-6
}

// reading is a native histogram at the bounds of a grid, cumulative; the last is its count.
type reading struct {
	at     model.Time
	counts []float64
}

func readAt(h model.SampleHistogramPair, grid []float64) reading {
	r := reading{at: h.Timestamp, counts: make([]float64, len(grid)+1)}
	for _, b := range h.Histogram.Buckets {
		upper := float64(b.Upper)
		i, _ := slices.BinarySearch(grid, upper*(1-nearly))
		r.counts[i] += float64(b.Count)
	}
	for i := 1; i < len(r.counts); i++ {
		r.counts[i] += r.counts[i-1]
	}
	// A request without a number, NaN, is in no bucket.
	r.counts[len(grid)] = max(float64(h.Histogram.Count), r.counts[len(grid)])
	return r
}

// native adds up by how much the native histograms of an answer grew.
func native(matrix model.Matrix, grid []float64, from, to time.Time) analysis.Sample {
	first, last := model.TimeFromUnixNano(from.UnixNano()), model.TimeFromUnixNano(to.UnixNano())
	began := beginnings(single, matrix)
	sum := make([]float64, len(grid)+1)
	found := false
	for _, stream := range matrix {
		var before reading
		for i, h := range stream.Histograms {
			if h.Histogram == nil {
				continue
			}
			found = true
			after := readAt(h, grid)
			in := after.at > first && after.at <= last
			switch {
			case !in:
			case i == 0:
				if knewBefore(began, process(stream.Metric), after.at) {
					add(sum, after.counts, nil)
				}
			default:
				add(sum, after.counts, before.counts)
			}
			before = after
		}
	}
	if !found {
		return analysis.Sample{}
	}
	s := analysis.Sample{Requests: sum[len(grid)]}
	for i, le := range grid {
		s.Buckets = append(s.Buckets, sequential.Bucket{Le: le, Count: sum[i]})
	}
	s.Buckets = append(s.Buckets, sequential.Bucket{Le: math.Inf(1), Count: s.Requests})
	return s
}

// add adds by how much a histogram grew. One of which any bucket fell was reset, and
// counts from 0.
func add(sum, after, before []float64) {
	for i := range before {
		grew, was := after[i]-before[i], 0.0
		if i > 0 {
			was = after[i-1] - before[i-1]
		}
		if grew < was || grew < 0 {
			before = nil
			break
		}
	}
	for i := range sum {
		sum[i] += after[i]
		if before != nil {
			sum[i] -= before[i]
		}
	}
}
