// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"headgate.dev/headgate/analysis/trial"
)

// tick is how often the proxies report.
const tick = time.Second

// Bound is the least time in which a canary at this share in percent, and with this many requests per second, can be
// proved to fail, see Need.
func (o Options) Bound(failing float64) time.Duration {
	return time.Duration(Need(failing, float64(o.Weight)/100) / o.Rate * float64(time.Second))
}

// Goal is how long it may take by that bound.
func (o Options) Goal(failing float64) time.Duration { return o.Bound(failing)*13/10 + tick }

// Guarded is how long it may take where a verdict needs several ticks, however clear the first ones are: what fails
// in one tick or two may be a pod, a session or a deployment elsewhere, and not the version.
func (o Options) Guarded(failing float64) time.Duration {
	return max(o.Bound(failing), time.Duration(trial.Default().Ticks-1)*tick)*13/10 + tick
}

// Print writes a row for each rate of failures, in the order in which they came, and what the proxies took.
func Print(out io.Writer, o Options, rounds []Round) error {
	fmt.Fprintf(out, "A canary with %d %% of the traffic and %v requests a second begins to fail.\n\n", o.Weight, o.Rate)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fails\trounds\tlast request after the first bad answer, s: p50\tmax\tbad answers: p50\tmax\tbound: requests\ts\tgoal, s\twithin\twith the guard, s\twithin")
	var rates []float64
	var acks []time.Duration
	blameless := 0
	for _, r := range rounds {
		if !slices.Contains(rates, r.Failing) {
			rates = append(rates, r.Failing)
		}
		acks = append(acks, r.Acknowledged)
		blameless += r.Blameless
	}
	for _, rate := range rates {
		var away []time.Duration
		var bad []int
		within, guarded := 0, 0
		for _, r := range rounds {
			if r.Failing != rate {
				continue
			}
			away, bad = append(away, r.Away), append(bad, r.Bad)
			if r.Away <= o.Goal(rate) {
				within++
			}
			if r.Away <= o.Guarded(rate) {
				guarded++
			}
		}
		fmt.Fprintf(w, "%v %%\t%d\t%s\t%s\t%d\t%d\t%.0f\t%s\t%s\t%d\t%s\t%d\n", 100*rate, len(away), seconds(quantile(away, .5)), seconds(slices.Max(away)),
			quantile(bad, .5), slices.Max(bad), Need(rate, float64(o.Weight)/100), seconds(o.Bound(rate)), seconds(o.Goal(rate)), within, seconds(o.Guarded(rate)), guarded)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	fmt.Fprintf(out, "\nThe goal is 1.3 times the bound and one tick of %s; with the guard, that no verdict comes of fewer than %v ticks.\n", tick, trial.Default().Ticks)
	fmt.Fprintf(out, "From the verdict until every proxy had acknowledged weight 0: p50 %.1f ms, p99 %.1f ms, of %d.\nRequests that failed and that no version caused: %d.\n",
		1000*quantile(acks, .5).Seconds(), 1000*quantile(acks, .99).Seconds(), len(acks), blameless)
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// quantile gives the smallest value that a share q of all is not above. Values are sorted by it.
func quantile[T time.Duration | int](values []T, q float64) T {
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}
