// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"slices"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

const (
	// lag is how long a sample may take from the proxy into the source. An
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
func Due(p Plan, h History, now time.Time) []Query {
	var due []Query
	for _, m := range p.Metrics {
		if p.Subject.Since.IsZero() || slices.Contains(h.Pending, m.Name) {
			continue
		}
		if q, at := next(p, m, h, now); !at.After(now) {
			due = append(due, q)
		}
	}
	return due
}

// DueIn is how long it takes until something is due: 0 when something is due
// now, and false when nothing will be before an answer arrives.
func DueIn(p Plan, h History, now time.Time) (time.Duration, bool) {
	var in time.Duration
	found := false
	for _, m := range p.Metrics {
		if p.Subject.Since.IsZero() || slices.Contains(h.Pending, m.Name) {
			continue
		}
		_, at := next(p, m, h, now)
		if d := max(at.Sub(now), 0); !found || d < in {
			in, found = d, true
		}
	}
	return in, found
}

// next is the next query of a metric and when it is due.
func next(p Plan, m v1beta1.Metric, h History, now time.Time) (Query, time.Time) {
	since := p.Subject.Since
	q := Query{Metric: m, Kind: KindOf(m), Subject: p.Subject, Asked: now}
	seen := of(h, m.Name, since)

	at := since.Add(lag)
	wait := min(p.Interval, firstLook)
	if seen.failed != nil {
		at = later(at, seen.failed.Asked.Add(wait))
	}
	if needsBaseline(p, m) && seen.baseline == nil {
		q.From, q.To = since.Add(-baseline), since
		if q.Kind == KindScalar {
			q.From = since.Add(-maxWindow)
		}
		return q, at
	}

	q.From = since
	if n := len(seen.good); n > 0 {
		q.From, wait = seen.good[n-1].To, p.Interval
	}
	q.From = later(q.From, now.Add(-reach))
	at = later(at, q.From.Add(wait+lag))
	// Prometheus counts time in milliseconds.
	q.To = now.Add(-lag).Truncate(time.Millisecond)
	switch {
	case q.Kind == KindScalar:
		q.From = later(since, q.To.Add(-maxWindow))
	case q.To.Sub(q.From) > chunk:
		q.To = q.From.Add(chunk)
	}
	return q, at
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
