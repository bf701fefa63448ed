// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"slices"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

const (
	// lag is how long a sample may take from the app into a Prometheus. An
	// interval is asked for only when it ended this long ago, because a sample
	// that arrives later would belong to no interval.
	lag = 2 * time.Second
	// firstLook is when a step is looked at for the first time, at the latest.
	firstLook = 10 * time.Second
	// reach bounds how far the first query after a restart reaches back, and
	// chunk how long the interval of one query is, so that an answer stays small.
	reach = 30 * time.Minute
	chunk = 5 * time.Minute
	// baseline is how much of stable's time before Since is measured when the
	// canary has all the traffic.
	baseline = 10 * time.Minute
	// maxWindow is the longest {{.Window}}.
	maxWindow = 5 * time.Minute
)

// Due is what must be asked now, in the order of the metrics. No metric is asked
// twice at a time, and the intervals of one metric follow each other without gap
// or overlap, whatever failed in between. Nothing is due before a weight is confirmed.
func Due(p Plan, e *Evidence, now time.Time) []Query {
	var due []Query
	for _, m := range p.Metrics {
		if q, at, ok := next(p, m, e, now); ok && !at.After(now) {
			due = append(due, q)
		}
	}
	return due
}

// DueIn is how long it takes until something is due: 0 when something is due
// now, and false when nothing will be before an answer arrives.
func DueIn(p Plan, e *Evidence, now time.Time) (time.Duration, bool) {
	var in time.Duration
	found := false
	for _, m := range p.Metrics {
		_, at, ok := next(p, m, e, now)
		if d := max(at.Sub(now), 0); ok && (!found || d < in) {
			in, found = d, true
		}
	}
	return in, found
}

// next is the next query of a metric and when it is due; false when there is none for now.
func next(p Plan, m v1beta1.Metric, e *Evidence, now time.Time) (Query, time.Time, bool) {
	since := p.Subject.Since
	_, impossible := p.Problems[m.Name]
	idle := p.Subject.Weight <= 0 && NeedsTraffic(m)
	if m.Gateway != "" || impossible || idle || since.IsZero() || slices.Contains(e.Pending, m.Name) {
		return Query{}, time.Time{}, false
	}
	q := Query{Metric: m, Kind: KindOf(m), Subject: p.Subject, Asked: now}
	s := e.Series[m.Name]
	if s == nil || !e.Since.Equal(since) {
		s = &Series{} // of this step there is nothing yet
		if old := e.Series[m.Name]; old != nil {
			s.BaselineTaken = old.BaselineTaken
		}
	}
	interval := p.Interval
	if m.Interval != nil {
		interval = m.Interval.Duration
	}
	if old := e.Series[m.Name]; old != nil {
		since = later(since, old.From)
	}
	begin := later(since, p.Subject.Resumed)
	at, wait := begin.Add(lag), min(interval, firstLook)
	if s.Failed != nil {
		at = later(at, s.Failed.Asked.Add(wait))
	}
	if needsBaseline(p, m) && !s.BaselineTaken {
		q.To = p.Subject.Since
		q.From = q.To.Add(-baseline)
		if q.Kind == KindScalar {
			q.From = q.To.Add(-maxWindow)
		}
		return q, at, true
	}
	q.From = begin
	if m.InitialDelay != nil {
		q.From = later(begin, since.Add(m.InitialDelay.Duration))
	}
	if s.Last != nil {
		q.From, wait, q.Counted = later(s.Last.To, begin), interval, s.Last.ID
	}
	q.To = now.Add(-lag).Truncate(time.Millisecond) // Prometheus counts time in milliseconds
	switch q.Kind {
	case KindVerdict:
		if s.Last != nil && m.Interval == nil {
			return q, time.Time{}, false // asked once at each step
		}
		q.To = now
		if s.Last == nil {
			return q, later(at.Add(-lag), q.From), true
		}
		return q, later(at, q.From.Add(wait)), true
	case KindScalar:
		at = later(at, q.From.Add(wait+lag))
		q.From = later(begin, q.To.Add(-maxWindow))
		return q, at, true
	}
	q.From = later(q.From, now.Add(-reach))
	at = later(at, q.From.Add(wait+lag))
	if q.To.Sub(q.From) > chunk {
		q.To = q.From.Add(chunk)
	}
	return q, at, true
}

// needsBaseline says whether stable must be measured before Since, because after
// it stable has no traffic to compare with.
func needsBaseline(p Plan, m v1beta1.Metric) bool {
	return p.Subject.Weight >= 100 && m.Tolerance != nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
