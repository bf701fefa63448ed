// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential_test

import (
	"fmt"
	"math"
	"testing"

	"headgate.dev/headgate/analysis/sequential"
)

// binom is the probability of k of n.
func binom(n, k int, p float64) float64 {
	if p <= 0 || p >= 1 {
		if (p <= 0 && k == 0) || (p >= 1 && k == n) {
			return 1
		}
		return 0
	}
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

const rounding = 1e-9

var rates = []float64{0, 1e-6, 0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.99, 1}

// meanOver is the exact mean of exp(log) when nc and ns requests fail
// independently at the given rates.
func meanOver(nc, ns int, pc, ps float64, log func(sequential.Tick) float64) float64 {
	mean := 0.0
	for xc := range nc + 1 {
		for xs := range ns + 1 {
			if p := binom(nc, xc, pc) * binom(ns, xs, ps); p > 0 {
				mean += p * math.Exp(log(tick(float64(nc), float64(xc), float64(ns), float64(xs), .5)))
			}
		}
	}
	return mean
}

// TestTheMeanOfAFactorIsAtMostOneWhileTheCanaryIsTolerable enumerates every
// outcome of a busy tick, at the boundary of what is tolerable and inside it.
func TestTheMeanOfAFactorIsAtMostOneWhileTheCanaryIsTolerable(t *testing.T) {
	tolerances := []sequential.Tolerance{{Ratio: 1}, {Ratio: 1.25, Slack: 0.0005}, {Ratio: 1.5, Slack: 0.01}, {Ratio: 0.8}}
	largest := 0.0
	for _, tol := range tolerances {
		for _, bet := range []float64{1.5, 3, 10, 100, 1000, 0.7, 0.4, 0.15, 0.02} {
			for _, n := range [][2]int{{1, 1}, {1, 10}, {3, 30}, {10, 10}, {20, 5}} {
				for _, ps := range rates {
					for _, pc := range rates {
						edge := tol.Ratio*ps + tol.Slack
						if bet > 1 {
							pc = min(edge, pc, 1)
						} else if pc = max(edge, pc); pc > 1 {
							continue
						}
						mean := meanOver(n[0], n[1], pc, ps, func(tk sequential.Tick) float64 {
							return sequential.LogFactor(tk, realised(tk), tol, bet)
						})
						largest = max(largest, mean)
						if mean > 1+rounding {
							t.Fatalf("%+v bet %v, n %v, ps %v pc %v: mean %v", tol, bet, n, ps, pc, mean)
						}
					}
				}
			}
		}
	}
	if largest < 0.99 {
		t.Errorf("the largest mean is %v: the test says nothing", largest)
	}
}

// TestTheMeanOfAQuietTickIsAtMostOne lets every single request go to the canary
// by a coin of known weight, which is what a proxy does.
func TestTheMeanOfAQuietTickIsAtMostOne(t *testing.T) {
	tol := sequential.Tolerance{Ratio: 1.25, Slack: 0.0005}
	largest := 0.0
	for _, w := range []float64{0.01, 0.05, 0.25, 0.5} {
		e := sequential.Exposure{Canary: w, Stable: 1 - w, Routed: true}
		for _, bet := range []float64{1.5, 10, 1000} {
			for _, ps := range rates {
				pc := min(tol.Ratio*ps+tol.Slack, 1)
				const n = 8
				rare, share := 0.0, 0.0
				for nc := range n + 1 {
					p := binom(n, nc, w)
					rare += p * meanOver(nc, n-nc, pc, ps, func(tk sequential.Tick) float64 { return sequential.LogFactor(tk, e, tol, bet) })
					share += p * meanOver(nc, n-nc, 1-(1-ps)*(1-tol.Slack), ps, func(tk sequential.Tick) float64 {
						return sequential.LogShare(tk, e, tol.Slack, bet)
					})
				}
				largest = max(largest, rare, share)
				if rare > 1+rounding || share > 1+rounding {
					t.Fatalf("w %v bet %v ps %v: means %v and %v", w, bet, ps, rare, share)
				}
			}
		}
	}
	if largest < 0.99 {
		t.Errorf("the largest mean is %v: the test says nothing", largest)
	}
}

func TestTheMeanOfLogShareIsAtMostOneInABusyTick(t *testing.T) {
	largest := 0.0
	for _, slack := range []float64{0, 0.001, 0.05} {
		for _, bet := range []float64{1.25, 2, 6, 20} {
			for _, n := range [][2]int{{1, 1}, {1, 20}, {5, 30}, {15, 15}, {30, 3}} {
				for _, ps := range rates {
					mean := meanOver(n[0], n[1], 1-(1-ps)*(1-slack), ps, func(tk sequential.Tick) float64 {
						return sequential.LogShare(tk, realised(tk), slack, bet)
					})
					largest = max(largest, mean)
					if mean > 1+rounding {
						t.Fatalf("slack %v bet %v n %v ps %v: mean %v", slack, bet, n, ps, mean)
					}
				}
			}
		}
	}
	if largest < 0.99 {
		t.Errorf("the largest mean is %v: the test says nothing", largest)
	}
}

// TestDealingOutcomesToArmsAtRandomIsEnough is the permutation null: the outcomes
// may depend on each other in any way, if the arms are dealt at random.
func TestDealingOutcomesToArmsAtRandomIsEnough(t *testing.T) {
	hyper := func(d, n, nc, k int) float64 {
		ln := func(a, b int) float64 {
			x, _ := math.Lgamma(float64(a + 1))
			y, _ := math.Lgamma(float64(b + 1))
			z, _ := math.Lgamma(float64(a - b + 1))
			return x - y - z
		}
		return math.Exp(ln(d, k) + ln(n-d, nc-k) - ln(n, nc))
	}
	for _, n := range []int{2, 10, 40} {
		for _, nc := range []int{1, n / 4, n / 2} {
			if nc < 1 {
				continue
			}
			for d := range n + 1 {
				for _, bet := range []float64{1.25, 3, 30, 1000, 0.4, 0.02} {
					factor, share := 0.0, 0.0
					for k := max(0, d-(n-nc)); k <= min(d, nc); k++ {
						tk := tick(float64(nc), float64(k), float64(n-nc), float64(d-k), .5)
						p := hyper(d, n, nc, k)
						factor += p * math.Exp(sequential.LogFactor(tk, realised(tk), sequential.Tolerance{Ratio: 1}, bet))
						if bet > 1 {
							share += p * math.Exp(sequential.LogShare(tk, realised(tk), 0, bet))
						}
					}
					if factor > 1+rounding || share > 1+rounding {
						t.Fatalf("%d bad of %d, %d canary, bet %v: means %v and %v", d, n, nc, bet, factor, share)
					}
				}
			}
		}
	}
}

func TestTheMeanAgainstANumberIsExactlyOne(t *testing.T) {
	for _, p := range []float64{0.001, 0.05, 0.5, 0.9} {
		for _, bet := range []float64{0.02, 0.7, 1.5, 30, 1000} {
			mean := 0.0
			for x := range 31 {
				mean += binom(30, x, p) * math.Exp(sequential.LogOneArm(sequential.Counts{N: 30, X: float64(x)}, p, bet))
			}
			if math.Abs(mean-1) > rounding {
				t.Errorf("p %v bet %v: mean %v", p, bet, mean)
			}
		}
	}
}

// TestCompletionsHaveAMeanOfAtMostOne draws the canary's share of the answers at
// the least that is tolerable, and more.
func TestCompletionsHaveAMeanOfAtMostOne(t *testing.T) {
	b := sequential.Bound{Alpha: 0.001, Ticks: 1}
	for _, w := range []float64{0.01, 0.05, 0.5} {
		for _, kept := range []float64{0.8, 1, 1.3} {
			share := kept * w / (kept*w + 1 - w)
			mean := 0.0
			for nc := range 21 {
				var c sequential.Completions
				c.Update(b, sequential.DefaultAnswered, tick(float64(nc), 0, float64(20-nc), 0, w), 1)
				mean += binom(20, nc, share) * c.Evidence()
			}
			if mean > 1+rounding {
				t.Errorf("weight %v, %v of its share: mean %v", w, kept, mean)
			}
		}
	}
}

// TestAWholeProcessHasAMeanOfAtMostOne follows every path of a Regression and an
// Acceptance over three ticks, in which rate, weight and load change.
func TestAWholeProcessHasAMeanOfAtMostOne(t *testing.T) {
	type day struct {
		nc, ns int
		w, ps  float64
	}
	days := []day{{2, 6, .25, 0.5}, {1, 8, .1, 0.02}, {3, 3, .5, 0.2}}
	for _, frequent := range []bool{false, true} {
		c := sequential.RegressionTest{
			Bound: sequential.Bound{Alpha: 0.01, Ticks: 3}, Tolerance: sequential.Tolerance{Ratio: 1.25, Slack: 0.01}, Frequent: frequent,
		}
		var walk func(r sequential.Regression, left []day) float64
		walk = func(r sequential.Regression, left []day) float64 {
			if len(left) == 0 {
				return r.Evidence()
			}
			d := left[0]
			pc := min(c.Ratio*d.ps+c.Slack, 1)
			if frequent {
				pc = 1 - (1-d.ps)*(1-c.Slack)
			}
			mean := 0.0
			for xc := range d.nc + 1 {
				for xs := range d.ns + 1 {
					next := r
					next.Update(&c, tick(float64(d.nc), float64(xc), float64(d.ns), float64(xs), d.w), 1)
					mean += binom(d.nc, xc, pc) * binom(d.ns, xs, d.ps) * walk(next, left[1:])
				}
			}
			return mean
		}
		// The first tick is made busy: with the tick's own split the bound holds for given requests.
		if mean := walk(sequential.Regression{}, days[:1]); mean > 1+rounding {
			t.Errorf("frequent %v: mean after one tick %v", frequent, mean)
		}
		if mean := walk(sequential.Regression{}, []day{days[0], days[2], days[0]}); mean > 1+rounding {
			t.Errorf("frequent %v: mean %v", frequent, mean)
		}
	}
}

func TestAPowerOfAFactorForgivesClumps(t *testing.T) {
	for _, a := range []float64{0.01, 0.5, 1, 1.5, 10, 1000} {
		for _, clump := range []float64{1, 2, 5.3, 20} {
			for m := 0.0; m <= clump; m += clump / 50 {
				if got, most := math.Pow(a, m/clump), 1+m/clump*(a-1); got > most*(1+1e-12) {
					t.Fatalf("a %v, %v of %v: %v > %v", a, m, clump, got, most)
				}
			}
		}
	}
}

func Example() {
	test := sequential.DefaultRegression()
	var errors sequential.Regression
	for second := 1; ; second++ {
		t := sequential.Tick{
			Canary: sequential.Counts{N: 5, X: 1}, Stable: sequential.Counts{N: 95}, Weight: 0.05,
		}
		if errors.Update(&test, t, 1) {
			fmt.Printf("worse after %d seconds, %d failed requests\n", second, second)
			return
		}
	}
	// Output: worse after 4 seconds, 4 failed requests
}
