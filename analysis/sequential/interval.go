// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

import "math"

// RateInterval holds the rate of bad requests with probability 1−alpha at all
// times at once, so it can be drawn live (a beta-binomial mixture with parameters
// one half). Its ends are rounded outward.
func RateInterval(c Counts, alpha float64) (low, high float64) {
	if !c.usable() || c.N <= 0 {
		return 0, 1
	}
	x, y := c.X, c.N-c.X
	head := logBeta(0.5+x, 0.5+y) - logBeta(0.5, 0.5)
	outside := func(p float64) bool {
		return head-times(x, math.Log(p))-times(y, math.Log1p(-p)) >= -math.Log(alpha)
	}
	rate := x / c.N
	low, high = 0, 1
	if x > 0 {
		low, _ = bisect(0, rate, outside)
	}
	if y > 0 {
		_, high = bisect(rate, 1, func(p float64) bool { return !outside(p) })
	}
	return low, high
}

// bisect narrows [a, b] down to where first stops being true: it holds at a and
// not at b. It gives numbers on both sides, as close as they can be represented.
func bisect(a, b float64, first func(float64) bool) (before, after float64) {
	for range 200 {
		m := a + (b-a)/2
		if m == a || m == b {
			break
		}
		if first(m) {
			a = m
		} else {
			b = m
		}
	}
	return a, b
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

// Excess keeps what it takes to say by how much the canary's rate is above
// stable's, at any time. Its zero value is the start.
type Excess struct {
	Split Split `json:"split"`
	// Sums of the bets on worse and on better, and what one unit of slack takes off.
	Worse       [maxBets]float64 `json:"worse"`
	WorseSlope  [maxBets]float64 `json:"worseSlope"`
	Better      [bets]float64    `json:"better"`
	BetterSlope [bets]float64    `json:"betterSlope"`
}

// Update adds a tick; clump as for a Regression.
func (x *Excess) Update(t Tick, clump float64) {
	if !t.Usable() {
		return
	}
	e := x.Split.Next(t)
	if e.Canary <= 0 || e.Stable <= 0 {
		return
	}
	clump = max(clump, 1)
	even := Tolerance{Ratio: 1}
	for j, bet := range worseRates() {
		x.Worse[j] += LogFactor(t, e, even, bet) / clump
		x.WorseSlope[j] += slope(t, e, bet) / clump
	}
	for j, bet := range betterRates() {
		x.Better[j] += LogFactor(t, e, even, bet) / clump
		x.BetterSlope[j] += slope(t, e, bet) / clump
	}
}

// slope is n·|a−1|.
func slope(t Tick, e Exposure, bet float64) float64 {
	lnB := -math.Log1p((bet - 1) * e.Canary / (e.Canary + e.Stable))
	return t.Canary.N * math.Abs(math.Expm1(math.Log1p(bet-1)+lnB))
}

// Interval holds the difference of the rates, canary minus stable, with
// probability 1−alpha at all times at once.
func (x *Excess) Interval(alpha float64) (low, high float64) {
	bound := math.Log(2 / alpha)
	low, high = -1, 1
	tooLow := func(eps float64) bool { return logMeanLine(x.Worse[:], x.WorseSlope[:], -eps) >= bound }
	if tooLow(-1) {
		low, _ = bisect(-1, 1, tooLow)
	}
	notTooHigh := func(eps float64) bool { return logMeanLine(x.Better[:], x.BetterSlope[:], eps) < bound }
	if !notTooHigh(1) {
		_, high = bisect(-1, 1, notTooHigh)
	}
	return low, high
}

// logMeanLine is ln of the mean of exp(a+eps·b).
func logMeanLine(a, b []float64, eps float64) float64 {
	var at [maxBets]float64
	for j := range a {
		at[j] = a[j] + eps*b[j]
	}
	return logMeanExp(at[:len(a)])
}

// NormalBound is how far a sum of numbers with tails no heavier than normal, of
// total variance v, ever strays from its mean with probability 1−alpha: at all
// times at once, and most narrowly when v is near tuned (Howard and others,
// 1810.08240, two-sided normal mixture).
func NormalBound(v, tuned, alpha float64) float64 {
	l := -2 * math.Log(alpha)
	rho := tuned / (l + math.Log1p(l))
	return math.Sqrt((v + rho) * (math.Log1p(v/rho) + l))
}
