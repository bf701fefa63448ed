// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
)

// target is what is reset and what begins as one: the label sets that differ only
// in the metric's name, class and bucket.
type target model.Fingerprint

// rise is by how much one counter rose in an interval.
type rise struct {
	metric model.Metric
	// target is the proxy and cluster the counter belongs to.
	target target
	by     float64
}

// series is one counter with its finite samples, oldest first.
type series struct {
	metric         model.Metric
	cluster, proxy target
	samples        []model.SamplePair
}

// sameScrape is how far apart the samples of one scrape can be at most.
const sameScrape = 500 // milliseconds

// riseOf is by how much each counter rose from the last sample at or before from
// to the last sample at or before to. Intervals that follow each other thus add
// up to exactly what the interval over all of them gives.
//
//	    from                       to
//	─●────┊──●──────●─────●─────●──┊─●──▶
//	 └────────── counted ───────┘
//
// A counter that fell was reset: it counts from 0, and so do the other counters
// of that proxy and cluster, even where they have already grown past their old
// value. A counter that appears began at 0 if its proxy was scraped before it
// appeared; if the proxy appears with it, what it counted earlier is not known and
// is left out.
func riseOf(matrix model.Matrix, from, to time.Time) []rise {
	all, resets, begins := read(matrix)
	first, last := model.TimeFromUnixNano(from.UnixNano()), model.TimeFromUnixNano(to.UnixNano())
	rises := make([]rise, 0, len(all))
	for _, s := range all {
		r := rise{metric: s.metric, target: s.cluster}
		if begun := s.samples[0]; begun.Timestamp > first && begun.Timestamp <= last &&
			begins[s.proxy] < begun.Timestamp-sameScrape {
			r.by = float64(begun.Value)
		}
		for i := 1; i < len(s.samples); i++ {
			before, after := s.samples[i-1], s.samples[i]
			switch {
			case after.Timestamp <= first || after.Timestamp > last:
			case after.Value < before.Value || anyIn(resets[s.cluster], before.Timestamp, after.Timestamp):
				r.by += float64(after.Value)
			default:
				r.by += float64(after.Value - before.Value)
			}
		}
		rises = append(rises, r)
	}
	return rises
}

// read takes the counters from an answer, with the times at which each cluster of
// a proxy was reset and at which each proxy was first scraped.
func read(matrix model.Matrix) (all []series, resets map[target][]model.Time, begins map[target]model.Time) {
	resets, begins = map[target][]model.Time{}, map[target]model.Time{}
	for _, stream := range matrix {
		s := series{metric: stream.Metric}
		s.cluster = without(stream.Metric, model.MetricNameLabel, classLabel, model.BucketLabel)
		s.proxy = without(stream.Metric, model.MetricNameLabel, classLabel, model.BucketLabel, clusterLabel, namespaceLabel, serviceLabel, portLabel)
		for _, sample := range stream.Values {
			if v := float64(sample.Value); !math.IsNaN(v) && !math.IsInf(v, 0) && v >= 0 {
				s.samples = append(s.samples, sample)
			}
		}
		if len(s.samples) == 0 {
			continue
		}
		for i := 1; i < len(s.samples); i++ {
			if s.samples[i].Value < s.samples[i-1].Value {
				resets[s.cluster] = append(resets[s.cluster], s.samples[i].Timestamp)
			}
		}
		if begun, ok := begins[s.proxy]; !ok || s.samples[0].Timestamp < begun {
			begins[s.proxy] = s.samples[0].Timestamp
		}
		all = append(all, s)
	}
	for _, times := range resets {
		slices.Sort(times)
	}
	return all, resets, begins
}

func without(m model.Metric, labels ...model.LabelName) target {
	m = m.Clone()
	for _, l := range labels {
		delete(m, l)
	}
	return target(m.Fingerprint())
}

// anyIn says whether one of the sorted times is in (after, until].
func anyIn(times []model.Time, after, until model.Time) bool {
	i, _ := slices.BinarySearch(times, after+1)
	return i < len(times) && times[i] <= until
}
