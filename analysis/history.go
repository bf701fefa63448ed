// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"slices"
	"time"
)

// keep is how many measurements of one metric a history holds. Older ones are
// merged, so that a step of a week is no larger than one of ten minutes.
const keep = 64

// With is the history with one more measurement. A usable answer replaces an
// earlier problem of its metric; old counts are added together, old scalars are
// dropped.
func (h History) With(m Measurement) History {
	kept := make([]Measurement, 0, len(h.Measurements)+1)
	for _, old := range h.Measurements {
		if old.Metric == m.Metric && old.Problem != nil {
			continue
		}
		kept = append(kept, old)
	}
	h.Measurements = shorten(append(kept, m), m.Metric, h.Since)
	h.Pending = slices.Clone(h.Pending)
	return h
}

// shorten merges the two oldest measurements of a metric when there are too many.
func shorten(ms []Measurement, metric string, since time.Time) []Measurement {
	var mine []int
	for i, m := range ms {
		if m.Metric == metric && m.Problem == nil && m.To.After(since) {
			mine = append(mine, i)
		}
	}
	if len(mine) <= keep {
		return ms
	}
	first, second := mine[0], mine[1]
	if ms[first].Kind != KindScalar {
		merged := ms[second]
		merged.From = ms[first].From
		merged.Stable = ms[first].Stable.Plus(merged.Stable)
		merged.Canary = ms[first].Canary.Plus(merged.Canary)
		ms[second] = merged
	}
	return slices.Delete(ms, first, first+1)
}

// seen is what a history holds of one metric.
type seen struct {
	// baseline is stable before Since; good are the usable measurements since.
	baseline *Measurement
	good     []Measurement
	// failed is the newest answer, when that was a problem.
	failed *Measurement
}

func of(h History, metric string, since time.Time) seen {
	var s seen
	for i := range h.Measurements {
		m := &h.Measurements[i]
		switch {
		case m.Metric != metric:
		case m.Problem != nil:
			s.failed = m
		case !m.To.After(since):
			s.baseline, s.failed = m, nil
		default:
			s.good, s.failed = append(s.good, *m), nil
		}
	}
	return s
}
