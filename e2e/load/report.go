// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what became of a run.
type Report struct {
	Start    time.Time
	Requests int
	// Versions says how each version did.
	Versions map[string]Stats
	// Blameless are failures that no version caused, by class: each is a fault of
	// the way to the versions, and a correct gateway has none.
	Blameless map[Failure]int
	// Examples has the first failure of each class.
	Examples map[Failure]Result
	// Failures are the requests that failed, whoever caused it, in the order in which
	// they were due; the first MaxFailures of them.
	Failures []Result
	// Seconds has one entry per second of the run.
	Seconds []Second
}

// MaxFailures bounds Report.Failures.
const MaxFailures = 10_000

// Stats is how one version did.
type Stats struct {
	Requests int
	// Errors are answers with 5xx.
	Errors        int
	P50, P99, Max time.Duration
	// FirstError is when the first of them was received, Last when the version was
	// last sent a request, both counted from the start of the run.
	FirstError, Last time.Duration
}

// ErrorRate is the share of requests that the version answered with 5xx.
func (s Stats) ErrorRate() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.Errors) / float64(s.Requests)
}

// Second is what became of the requests due in one second.
type Second struct {
	// Versions counts answers, failures included.
	Versions  map[string]int
	Errors    map[string]int
	Blameless int
}

// Share is the share of answers that came from a version, 0 to 1.
func (s Second) Share(version string) float64 {
	total := 0
	for _, n := range s.Versions {
		total += n
	}
	if total == 0 {
		return 0
	}
	return float64(s.Versions[version]) / float64(total)
}

// Summarise counts results. They may be in any order.
func Summarise(start time.Time, results []Result) Report {
	r := Report{
		Start: start, Requests: len(results),
		Versions: map[string]Stats{}, Blameless: map[Failure]int{}, Examples: map[Failure]Result{},
	}
	results = slices.SortedFunc(slices.Values(results), func(a, b Result) int { return cmp.Compare(a.Due, b.Due) })
	latencies := map[string][]time.Duration{}
	for _, result := range results {
		at := int(result.Due / time.Second)
		for len(r.Seconds) <= at {
			r.Seconds = append(r.Seconds, Second{Versions: map[string]int{}, Errors: map[string]int{}})
		}
		second := &r.Seconds[at]
		if result.Failure != None && len(r.Failures) < MaxFailures {
			r.Failures = append(r.Failures, result)
		}
		if _, seen := r.Examples[result.Failure]; !seen && result.Failure != None {
			r.Examples[result.Failure] = result
		}
		if result.Failure != None && result.Failure != OwnError {
			r.Blameless[result.Failure]++
			second.Blameless++
			continue
		}
		stats := r.Versions[result.Version]
		stats.Requests++
		stats.Last = result.Due
		second.Versions[result.Version]++
		if result.Failure == OwnError {
			stats.Errors++
			if received := result.Due + result.Latency; stats.Errors == 1 || received < stats.FirstError {
				stats.FirstError = received
			}
			second.Errors[result.Version]++
		}
		r.Versions[result.Version] = stats
		latencies[result.Version] = append(latencies[result.Version], result.Latency)
	}
	for version, all := range latencies {
		slices.Sort(all)
		stats := r.Versions[version]
		stats.P50, stats.P99, stats.Max = quantile(all, 0.5), quantile(all, 0.99), all[len(all)-1]
		r.Versions[version] = stats
	}
	return r
}

// quantile returns the smallest value that at least the share q does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q * float64(len(sorted)))
	return sorted[min(i, len(sorted)-1)]
}

// NotCaused is the number of failures that no version caused.
func (r Report) NotCaused() int {
	n := 0
	for _, count := range r.Blameless {
		n += count
	}
	return n
}

// String is the report for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %d s\n", r.Requests, len(r.Seconds))
	for _, version := range slices.Sorted(maps.Keys(r.Versions)) {
		s := r.Versions[version]
		fmt.Fprintf(&b, "  version %-12s %7d answers, %d of them 5xx (%.2f%%)   p50 %s  p99 %s  max %s\n", version, s.Requests, s.Errors,
			100*s.ErrorRate(), round(s.P50), round(s.P99), round(s.Max))
	}
	fmt.Fprintf(&b, "  not caused by a version: %d\n", r.NotCaused())
	for _, class := range slices.Sorted(maps.Keys(r.Blameless)) {
		first := r.Examples[class]
		fmt.Fprintf(&b, "    %-18s %d, first after %s: %s\n", class, r.Blameless[class], round(first.Due), first.Detail)
	}
	return b.String()
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
