// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
)

// target stands for the series whose labels are equal but for some.
type target model.Fingerprint

// grouping says which series belong together.
type grouping struct {
	// reset are the series that can only start over together: those of one histogram, for example.
	reset func(model.Metric) target
	// origin are the series that come from one scraped process.
	origin func(model.Metric) target
}

// rise is by how much one counter rose in an interval.
type rise struct {
	metric model.Metric
	// target is the group the counter is reset with.
	target target
	by     float64
}

// series is one counter with its finite samples, oldest first.
type series struct {
	metric        model.Metric
	reset, origin target
	samples       []model.SamplePair
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
// A counter that fell was reset: it counts from 0, and so do the others that are reset
// with it, even where they have already grown past their old value. A counter that
// appears began at 0 if its origin was scraped before it appeared; if the
// origin appears with it, what it counted earlier is not known and is left out.
func riseOf(matrix model.Matrix, from, to time.Time, g grouping, began map[target]model.Time) []rise {
	all, resets := read(matrix, g)
	first, last := model.TimeFromUnixNano(from.UnixNano()), model.TimeFromUnixNano(to.UnixNano())
	rises := make([]rise, 0, len(all))
	for _, s := range all {
		r := rise{metric: s.metric, target: s.reset}
		if begun := s.samples[0]; begun.Timestamp > first && begun.Timestamp <= last && knewBefore(began, s.origin, begun.Timestamp) {
			r.by = float64(begun.Value)
		}
		for i := 1; i < len(s.samples); i++ {
			before, after := s.samples[i-1], s.samples[i]
			switch {
			case after.Timestamp <= first || after.Timestamp > last:
			case after.Value < before.Value || anyIn(resets[s.reset], before.Timestamp, after.Timestamp):
				r.by += float64(after.Value)
			default:
				r.by += float64(after.Value - before.Value)
			}
		}
		rises = append(rises, r)
	}
	return rises
}

// knewBefore says whether an origin was scraped before a time.
func knewBefore(began map[target]model.Time, origin target, at model.Time) bool {
	begun, ok := began[origin]
	return ok && begun < at-sameScrape
}

// beginnings are the times of the first scrape of each origin in the answers.
func beginnings(g grouping, answers ...model.Matrix) map[target]model.Time {
	began := map[target]model.Time{}
	note := func(origin target, at model.Time) {
		if begun, ok := began[origin]; !ok || at < begun {
			began[origin] = at
		}
	}
	for _, matrix := range answers {
		for _, stream := range matrix {
			origin := g.origin(stream.Metric)
			if len(stream.Values) > 0 {
				note(origin, stream.Values[0].Timestamp)
			}
			if len(stream.Histograms) > 0 {
				note(origin, stream.Histograms[0].Timestamp)
			}
		}
	}
	return began
}

// read takes the counters from an answer, with the times at which each group was reset.
func read(matrix model.Matrix, g grouping) (all []series, resets map[target][]model.Time) {
	resets = map[target][]model.Time{}
	for _, stream := range matrix {
		s := series{metric: stream.Metric, reset: g.reset(stream.Metric), origin: g.origin(stream.Metric)}
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
				resets[s.reset] = append(resets[s.reset], s.samples[i].Timestamp)
			}
		}
		all = append(all, s)
	}
	for _, times := range resets {
		slices.Sort(times)
	}
	return all, resets
}

func without(m model.Metric, labels ...model.LabelName) target {
	m = m.Clone()
	for _, l := range labels {
		delete(m, l)
	}
	return target(m.Fingerprint())
}

// whole is the group of a series that is reset alone.
func whole(m model.Metric) target { return target(m.Fingerprint()) }

// identity are the labels that say which process was scraped.
var identity = []model.LabelName{"cluster", "namespace", "job", "instance", "pod"}

// process is the scraped process a series comes from; the series itself where no label says it.
func process(m model.Metric) target {
	if m["instance"] == "" && m["pod"] == "" {
		return whole(m)
	}
	id := model.Metric{}
	for _, l := range identity {
		if v, ok := m[l]; ok {
			id[l] = v
		}
	}
	return target(id.Fingerprint())
}

// anyIn says whether one of the sorted times is in (after, until].
func anyIn(times []model.Time, after, until model.Time) bool {
	i, _ := slices.BinarySearch(times, after+1)
	return i < len(times) && times[i] <= until
}
