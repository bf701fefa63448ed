// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/sequential"
)

// buckets groups the series of classic histograms: all buckets of one are reset together.
var buckets = grouping{
	reset:  func(m model.Metric) target { return without(m, model.BucketLabel) },
	origin: process,
}

// histograms adds up by how much the user's histograms grew, for both arms.
func (s *Source) histograms(ctx context.Context, q analysis.Query) (stable, canary analysis.Sample, problem *analysis.Problem) {
	answers := map[analysis.Arm]model.Matrix{}
	for _, arm := range []analysis.Arm{analysis.Canary, analysis.Stable} {
		if !q.Asks(arm) {
			continue
		}
		matrix, selector, problem := s.samples(ctx, q, arm, settings(q).Histogram)
		switch {
		case problem != nil:
			return stable, canary, problem
		case len(matrix) == 0:
			return stable, canary, noCounter(arm, selector)
		case !isHistogram(matrix):
			return stable, canary, notHistogram(selector)
		}
		answers[arm] = matrix
	}
	grid := gridOf(slices.Collect(maps.Values(answers))...)
	for arm, to := range map[analysis.Arm]*analysis.Sample{analysis.Stable: &stable, analysis.Canary: &canary} {
		if matrix, ok := answers[arm]; ok {
			*to = classic(matrix, q).Plus(native(matrix, grid, q.From, q.To))
			to.Present = true
		}
	}
	return stable, canary, nil
}

// isHistogram says whether there is any bucket in an answer.
func isHistogram(matrix model.Matrix) bool {
	return slices.ContainsFunc(matrix, func(s *model.SampleStream) bool {
		return len(s.Histograms) > 0 || s.Metric[model.BucketLabel] != ""
	})
}

// classic adds up the histograms whose buckets are series of their own. Each process has its
// own, and its own bounds.
func classic(matrix model.Matrix, q analysis.Query) analysis.Sample {
	var all analysis.Sample
	var order []target
	parts := map[target][]sequential.Bucket{}
	for _, r := range riseOf(matrix, q.From, q.To, buckets, beginnings(buckets, matrix)) {
		le, err := strconv.ParseFloat(string(r.metric[model.BucketLabel]), 64)
		if err != nil || math.IsNaN(le) {
			continue
		}
		if _, known := parts[r.target]; !known {
			order = append(order, r.target)
		}
		parts[r.target] = append(parts[r.target], sequential.Bucket{Le: le, Count: r.by})
	}
	for _, t := range order {
		all = all.Plus(histogram(parts[t]))
	}
	return all
}

// histogram puts the buckets of one process in order. Without the bucket +Inf it is not
// known how many requests there were: it is left out.
func histogram(buckets []sequential.Bucket) analysis.Sample {
	slices.SortFunc(buckets, func(a, b sequential.Bucket) int {
		switch {
		case a.Le < b.Le:
			return -1
		case a.Le > b.Le:
			return 1
		}
		return 0
	})
	n := len(buckets)
	if n == 0 || !math.IsInf(buckets[n-1].Le, 1) {
		return analysis.Sample{}
	}
	for i := 1; i < n; i++ {
		buckets[i].Count = max(buckets[i].Count, buckets[i-1].Count)
	}
	return analysis.Sample{Requests: buckets[n-1].Count, Buckets: buckets}
}
