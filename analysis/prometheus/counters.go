// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"slices"

	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
)

// single groups counters of anybody's. Each is reset alone: an exporter may well carry the
// counters of many processes, and the restart of one is not that of the others.
var single = grouping{reset: whole, origin: process}

// counters adds up by how much the user's counters rose, for both arms.
func (s *Source) counters(ctx context.Context, q analysis.Query) (stable, canary analysis.Sample, problem *analysis.Problem) {
	arms := map[analysis.Arm]*counted{}
	for _, arm := range []analysis.Arm{analysis.Canary, analysis.Stable} {
		if !q.Asks(arm) {
			continue
		}
		c := &counted{}
		if c.total, c.totalSelector, problem = s.samples(ctx, q, arm, settings(q).Counters.Total); problem != nil {
			return stable, canary, problem
		}
		if len(c.total) == 0 {
			return stable, canary, noCounter(arm, c.totalSelector)
		}
		if c.bad, c.badSelector, problem = s.samples(ctx, q, arm, settings(q).Counters.Bad); problem != nil {
			return stable, canary, problem
		}
		arms[arm] = c
	}
	if problem := neverBad(arms); problem != nil {
		return stable, canary, problem
	}
	for arm, to := range map[analysis.Arm]*analysis.Sample{analysis.Stable: &stable, analysis.Canary: &canary} {
		c := arms[arm]
		if c == nil {
			continue
		}
		*to = c.sample(q)
		if to.Bad > to.Requests {
			return stable, canary, moreBadThanAll(arm, to.Bad, to.Requests)
		}
	}
	return stable, canary, nil
}

// counted are the samples of the two counters of one arm.
type counted struct {
	bad, total                 model.Matrix
	badSelector, totalSelector string
}

func (c *counted) sample(q analysis.Query) analysis.Sample {
	// The first bad request of a process makes a new series. That the process was scraped
	// before, and the series therefore began at 0, is known from its other counters.
	began := beginnings(single, c.bad, c.total)
	sum := func(matrix model.Matrix) float64 {
		n := 0.0
		for _, r := range riseOf(matrix, q.From, q.To, single, began) {
			n += r.by
		}
		return n
	}
	return analysis.Sample{Requests: sum(c.total), Bad: sum(c.bad), Present: true}
}

// neverBad is a problem where bad requests cannot be told from a selector that matches nothing.
// A counter that was never touched has no series, and neither has one that does not exist:
// the second would let every version pass.
func neverBad(arms map[analysis.Arm]*counted) *analysis.Problem {
	var first *counted
	for _, arm := range []analysis.Arm{analysis.Canary, analysis.Stable} {
		c := arms[arm]
		if c == nil {
			continue
		}
		if len(c.bad) > 0 {
			return nil
		}
		if first == nil {
			first = c
		}
	}
	if first == nil {
		return nil
	}
	bad, err := analysis.ParseSelector(first.badSelector)
	if err != nil {
		return invalid("%v", err)
	}
	total, err := analysis.ParseSelector(first.totalSelector)
	if err != nil {
		return invalid("%v", err)
	}
	if bad.Name == "" || bad.Name != total.Name {
		return badUnknown(first.badSelector)
	}
	for _, label := range bad.Labels {
		carried := false
		for _, c := range arms {
			carried = carried || slices.ContainsFunc(c.total, func(s *model.SampleStream) bool {
				return s.Metric[model.LabelName(label)] != ""
			})
		}
		if !carried {
			return noLabel(bad.Name, label)
		}
	}
	return nil
}
