// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command verdicts plays releases against the sequential tests and prints what came
// out: how often a healthy version is rolled back, how many canary requests it takes
// to find a bad one or to accept a good one, and what an update costs. Seeds are
// fixed, so two runs print the same numbers, except for the times. It fails when a healthy release was
// rolled back or a median is far from the reference, and marks what is more than a tenth away.
package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"headgate.dev/headgate/analysis/sequential"
)

func main() {
	runs := flag.Float64("runs", 1, "how many times the usual number of releases")
	flag.Parse()
	if !report(os.Stdout, *runs) {
		os.Exit(1)
	}
}

// report runs everything and tells whether all of it was as it must be.
func report(out io.Writer, runs float64) bool {
	ok := healthy(out, runs)
	guards(out, runs)
	ok = detection(out, runs) && ok
	ok = acceptance(out, runs) && ok
	ok = latency(out, runs) && ok
	return cost(out) && ok
}

func table(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) }

// each runs n simulations on all processors and gives their results in order.
func each[T any](n int, run func(i int) T) []T {
	results := make([]T, n)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		group.Go(func() error {
			results[i] = run(i)
			return nil
		})
	}
	_ = group.Wait() // nothing in it fails
	return results
}

func times(n int, factor float64) int { return max(1, int(float64(n)*factor)) }

func at(weight float64) func(int) float64 { return func(int) float64 { return weight } }

// healthy plays releases of 1,000 s in which the canary is as good as stable.
func healthy(out io.Writer, runs float64) bool {
	fmt.Fprintf(out, "Healthy releases of 1,000 s at 5%%, default test (α = 0.001): rolled back\n\n")
	w := table(out)
	fmt.Fprintln(w, "requests/s\tbad\treleases\trolled back")
	total, back := 0, 0
	for i, perSecond := range []float64{0.1, 1, 10, 100, 1000, 10000} {
		for j, base := range []float64{0.001, 0.01} {
			n := times(840, runs)
			crossed := 0
			for _, yes := range each(n, func(k int) bool {
				t := newTraffic(world{perSecond: perSecond, base: base, weight: at(.05)}, uint64(1e6*(2*i+j)+k))
				test := sequential.DefaultRegression()
				var r sequential.Regression
				for s := range 1000 {
					r.Update(&test, t.second(s), 1)
				}
				return r.Crossed
			}) {
				if yes {
					crossed++
				}
			}
			fmt.Fprintf(w, "%v\t%v%%\t%d\t%d\n", perSecond, 100*base, n, crossed)
			total, back = total+n, back+crossed
		}
	}
	fmt.Fprintf(w, "all\t\t%d\t%d\n", total, back)
	_ = w.Flush()
	fmt.Fprintln(out)
	return back == 0
}

// guards plays healthy releases under everything that makes requests depend on each other.
func guards(out io.Writer, runs float64) {
	fmt.Fprintf(out, "Healthy releases of 1,000 s under hard conditions, α = 0.01, 1,000 requests/s and 1%% bad unless said: rolled back\n\n")
	ramp := func(s int) float64 { return []float64{.05, .25, .5}[min(max(s, 0)/334, 2)] }
	w := table(out)
	fmt.Fprintln(w, "traffic\tno guard\t3 ticks\t3 ticks + φ\t3 ticks + placebo\tboth\theld\tLindon-Malek")
	for i, tt := range []struct {
		what string
		world
	}{
		{"independent", world{perSecond: 1000, base: .01, weight: at(.05)}},
		{"both arms fail 30% for 10 s of 200 s", world{perSecond: 1000, base: .01, weight: at(.05), outages: true}},
		{"traffic and failures wander", world{perSecond: 1000, base: .01, weight: at(.05), wandering: true}},
		{"5, 25, 50% with both of these", world{perSecond: 1000, base: .01, weight: ramp, outages: true, wandering: true}},
		{"6% get to the canary instead of 5%", world{perSecond: 1000, base: .01, weight: at(.05), split: .06}},
		{"the same, 10 requests/s", world{perSecond: 10, base: .01, weight: at(.05), split: .06}},
		{"sessions fail whole, 5 requests on average", world{perSecond: 1000, base: .01, weight: at(.05), session: 5}},
		{"a pod fails half for 2 s, every 600 s", world{perSecond: 1000, base: .01, weight: at(.05), bursts: burst{600, 2, .5}}},
		{"a pod fails all for 5 s each hour, 0.1% base", world{perSecond: 1000, base: .001, weight: at(.05), bursts: burst{3600, 5, 1}}},
		{"the same, 100 requests/s", world{perSecond: 100, base: .001, weight: at(.05), bursts: burst{3600, 5, 1}}},
	} {
		n := times(300, runs)
		var c [7]int
		for _, v := range each(n, func(k int) verdicts { return release(tt.world, 1000, 0.01, uint64(1e8+1e6*i+k)) }) {
			for j, yes := range []bool{v.perRequest, v.ticks, v.clumped, v.placebo, v.both, v.held, v.lindonMalek} {
				if yes {
					c[j]++
				}
			}
		}
		fmt.Fprint(w, tt.what)
		for _, count := range c {
			fmt.Fprintf(w, "\t%.1f%%", 100*float64(count)/float64(n))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
}

// row prints a median, the interval that holds the true one 95 times in 100, and the median of the reference
// simulation, and tells whether they are near enough. The reference's are of a few hundred runs at most, of which
// chance alone moves one in twenty by a tenth: 940 for 0.1% → 1% is 1,048 in 20,000 runs of the same formulas, and
// below 940 in one of fifty series of 200 runs.
func row(w io.Writer, what string, needed []float64, want float64) bool {
	got, low, high := median(needed)
	away := math.Abs(got/want - 1)
	mark := ""
	if away > 0.1 {
		mark = "more than a tenth away"
	}
	fmt.Fprintf(w, "%s\t%.0f\t%.0f to %.0f\t%.0f\t%.2f\t%s\n", what, got, low, high, want, got/want, mark)
	return away <= 0.15
}

// median is that of v, between the two of v that hold the true one in 95 of 100 cases, whatever its law
// (the binomial law of the ranks, by its normal limit).
func median(v []float64) (m, low, high float64) {
	slices.Sort(v)
	n := float64(len(v))
	rank := func(r float64) float64 { return v[int(min(max(r, 0), n-1))] }
	return rank(n / 2), rank(n/2 - 0.98*math.Sqrt(n)), rank(n/2 + 0.98*math.Sqrt(n))
}

// detection counts the canary requests until a bad canary is rolled back.
func detection(out io.Writer, runs float64) bool {
	fmt.Fprintf(out, "Canary requests until rollback at 5%% of 100 requests/s, medians (α = 0.001)\n\n")
	w := table(out)
	fmt.Fprintln(w, "stable → canary\tmedian\t95%\treference\tratio\t")
	ok := true
	for i, tt := range []struct{ base, canary, want float64 }{
		{.001, .005, 4572}, {.001, .01, 940}, {.001, .05, 104}, {.001, .2, 27}, {.001, 1, 14}, {.01, .05, 334}, {.01, .2, 40},
	} {
		needed := each(times(2000, runs), func(k int) float64 {
			t := newTraffic(world{perSecond: 100, base: tt.base, canary: tt.canary, weight: at(.05)}, uint64(2e8+1e6*i+k))
			test := sequential.DefaultRegression()
			var r sequential.Regression
			n := 0.0
			for s := range 20000 {
				tick := t.second(s)
				n += tick.Canary.N
				if r.Update(&test, tick, 1) {
					break
				}
			}
			return n
		})
		ok = row(w, fmt.Sprintf("%v%% → %v%%", 100*tt.base, 100*tt.canary), needed, tt.want) && ok
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	return ok
}

// acceptance counts the canary requests until a good canary is good enough.
func acceptance(out io.Writer, runs float64) bool {
	fmt.Fprintf(out, "Canary requests until good enough, medians (β = 0.05)\n\n")
	w := table(out)
	fmt.Fprintln(w, "bad of both\tmedian\t95%\treference\tratio\t")
	ok := true
	for i, tt := range []struct{ base, want float64 }{{.001, 351}, {.01, 512}} {
		needed := each(times(2000, runs), func(k int) float64 {
			t := newTraffic(world{perSecond: 100, base: tt.base, weight: at(.05)}, uint64(3e8+1e6*i+k))
			test := sequential.DefaultAcceptance()
			var a sequential.Acceptance
			n := 0.0
			for s := range 20000 {
				tick := t.second(s)
				n += tick.Canary.N
				if a.Update(&test, tick, 1) {
					break
				}
			}
			return n
		})
		ok = row(w, fmt.Sprintf("%v%%", 100*tt.base), needed, tt.want) && ok
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	return ok
}

// latency counts the canary requests until a slow canary is rolled back.
func latency(out io.Writer, runs float64) bool {
	fmt.Fprintf(out, "Canary requests until a slower canary is rolled back, medians (α = 0.001, log-normal, 100 requests/s)\n\n")
	w := table(out)
	fmt.Fprintln(w, "canary\tmedian\t95%\treference\tratio\t")
	bound := sequential.Bound{Alpha: 0.001, Ticks: 3}
	// The reference had no milliseconds on top, which matter at the median of 20 ms.
	shift := sequential.Shift{Ratio: sequential.DefaultShift().Ratio}
	play := func(seed uint64, scale, slow, share float64, seconds int) (n float64, crossed bool) {
		r := newTraffic(world{}, seed).r
		before := latencies(r, 20000, 1, 0, 0)
		bounds := make([]float64, len(before))
		for i, b := range before {
			bounds[i] = b.Le
		}
		l := sequential.Latency{Edges: sequential.LearnEdges(before, bounds, shift)}
		for range seconds {
			canary, stable := poisson(r, 5), poisson(r, 95)
			n += canary
			if l.Update(bound, latencies(r, int(stable), 1, 0, 0), latencies(r, int(canary), scale, slow, share), .05, 1) >= 0 {
				return n, true
			}
		}
		return n, false
	}
	ok := true
	for i, tt := range []struct {
		what               string
		scale, slow, share float64
		want               float64
	}{
		{"30% slower", 1.3, 0, 0, 2145}, {"50% slower", 1.5, 0, 0, 321}, {"twice as slow", 2, 0, 0, 64}, {"1% of requests 1 s slower", 1, 1, .01, 1506},
	} {
		needed := each(times(400, runs), func(k int) float64 {
			n, _ := play(uint64(4e8+1e6*i+k), tt.scale, tt.slow, tt.share, 5000)
			return n
		})
		ok = row(w, tt.what, needed, tt.want) && ok
	}
	n, crossed := times(200, runs), 0
	for _, yes := range each(n, func(k int) bool { _, yes := play(uint64(5e8+k), 1.1, 0, 0, 1000); return yes }) {
		if yes {
			crossed++
		}
	}
	fmt.Fprintf(w, "10%% slower is tolerated\t%d of %d rolled back\n", crossed, n)
	_ = w.Flush()
	fmt.Fprintln(out)
	return ok && crossed == 0
}

// cost times an update of one test.
func cost(out io.Writer) bool {
	r, a := sequential.DefaultRegression(), sequential.DefaultAcceptance()
	tick := sequential.Tick{Canary: sequential.Counts{N: 50, X: 1}, Stable: sequential.Counts{N: 950, X: 10}, Weight: .05}
	fmt.Fprintf(out, "What an update costs\n\n")
	w := table(out)
	allocations := int64(0)
	for _, b := range []struct {
		what string
		run  func(*testing.B)
	}{
		{"worse than tolerated", func(b *testing.B) {
			var s sequential.Regression
			for b.Loop() {
				s.Update(&r, tick, 1.5)
			}
		}},
		{"good enough", func(b *testing.B) {
			var s sequential.Acceptance
			for b.Loop() {
				s.Update(&a, tick, 1.5)
			}
		}},
	} {
		result := testing.Benchmark(b.run)
		fmt.Fprintf(w, "%s\t%d ns\t%d allocations\n", b.what, result.NsPerOp(), result.AllocsPerOp())
		allocations += result.AllocsPerOp()
	}
	_ = w.Flush()
	return allocations == 0
}
