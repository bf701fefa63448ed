// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"headgate.dev/headgate/e2e/load"
)

// entry is one change, from its write until a request was served by it.
type entry struct {
	kind       string
	begin, end time.Time
	// event is something that goes on beside the changes; it can take long.
	event bool
	// served is when a request was served by the new configuration, where that is
	// before the end.
	served time.Time
	// away says that Headgate could not do anything for some of the time: the
	// changes that fall into it are counted apart.
	away bool
}

// failure is a request that was lost.
type failure struct {
	at     time.Time
	load   string
	result load.Result
}

// journal is what was done and what was lost by it.
type journal struct {
	mu       sync.Mutex
	entries  []entry
	failures []failure
	requests map[string]int
	took     time.Duration
}

func (j *journal) add(e entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
}

// charge adds what became of one load.
func (j *journal) charge(name string, r load.Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.requests == nil {
		j.requests = map[string]int{}
	}
	j.requests[name] += r.Requests
	for _, f := range r.Failures {
		j.failures = append(j.failures, failure{at: r.Start.Add(f.Due + f.Latency), load: name, result: f})
	}
}

// lost is how many requests failed, those left out that a client must ask again.
func (j *journal) lost() int {
	n := 0
	for _, f := range j.failures {
		if f.result.Failure != load.Misdirected {
			n++
		}
	}
	return n
}

// Names of rows that are no kind of change.
const (
	whileAway = "any of these while Headgate is away"
	between   = "nothing in particular"
)

// row is one line of the table.
type row struct {
	kind                     string
	count, lost, misdirected int
	times                    []time.Duration
}

// rows sums up by kind. A lost request is charged to the event that went on, or else to
// the change that was made last before it: what a change breaks shows after it.
func (j *journal) rows() []*row {
	byKind := map[string]*row{}
	var order []*row
	of := func(kind string) *row {
		if byKind[kind] == nil {
			byKind[kind] = &row{kind: kind}
			order = append(order, byKind[kind])
		}
		return byKind[kind]
	}
	entries := slices.SortedStableFunc(slices.Values(j.entries), func(a, b entry) int {
		return cmp.Or(compareBool(a.event, b.event), a.begin.Compare(b.begin))
	})
	for _, e := range entries {
		r := of(j.kindOf(e))
		r.count++
		end := e.end
		if !e.served.IsZero() {
			end = e.served
		}
		r.times = append(r.times, end.Sub(e.begin))
	}
	for _, f := range j.failures {
		r := of(j.blame(f.at))
		if f.result.Failure == load.Misdirected {
			r.misdirected++
		} else {
			r.lost++
		}
	}
	return order
}

// kindOf is the row of an entry.
func (j *journal) kindOf(e entry) string {
	if e.event {
		return e.kind
	}
	for _, other := range j.entries {
		if other.away && e.begin.Before(other.end) && e.end.After(other.begin) {
			return whileAway
		}
	}
	return e.kind
}

func (j *journal) blame(at time.Time) string {
	kind, latest := between, time.Time{}
	for _, e := range j.entries {
		switch {
		case at.Before(e.begin):
		case e.event && at.Before(e.end.Add(time.Second)):
			return e.kind
		case !e.event && e.begin.After(latest):
			kind, latest = e.kind, e.begin
		}
	}
	return kind
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// shownFailures bounds how many lost requests are listed.
const shownFailures = 40

// String is the table, and the first of the lost requests.
func (j *journal) String() string {
	var b strings.Builder
	total := 0
	for _, n := range j.requests {
		total += n
	}
	fmt.Fprintf(&b, "%d changes in %s under %.0f requests/s:", len(j.entries), j.took.Round(time.Second), float64(total)/j.took.Seconds())
	for _, name := range slices.Sorted(maps.Keys(j.requests)) {
		fmt.Fprintf(&b, " %s %d", name, j.requests[name])
	}
	fmt.Fprintf(&b, "; lost: %d of %d\n\n", j.lost(), total)
	b.WriteString("| change | count | requests lost | asked again (421) | served by the new configuration after: p50 / p99 ms |\n|---|---|---|---|---|\n")
	for _, r := range j.rows() {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s |\n", r.kind, r.count, r.lost, r.misdirected, quantiles(r.times))
	}
	lost := slices.DeleteFunc(slices.Clone(j.failures), func(f failure) bool { return f.result.Failure == load.Misdirected })
	slices.SortFunc(lost, func(a, b failure) int { return a.at.Compare(b.at) })
	for i, f := range lost {
		if i == shownFailures {
			fmt.Fprintf(&b, "… and %d more\n", len(lost)-i)
			break
		}
		fmt.Fprintf(&b, "%s %s: %s: %s, after %s; during: %s\n", f.at.Format("15:04:05.000"), f.load, f.result.Failure, f.result.Detail,
			f.result.Latency.Round(time.Millisecond), j.blame(f.at))
	}
	return b.String()
}

func quantiles(times []time.Duration) string {
	if len(times) == 0 {
		return "–"
	}
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[min(int(q*float64(len(times))), len(times)-1)].Microseconds()) / 1000
	}
	return fmt.Sprintf("%.0f / %.0f", ms(0.5), ms(0.99))
}
