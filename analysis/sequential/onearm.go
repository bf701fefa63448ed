// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

import "math"

// OneArm is the evidence that one arm's rate is above a number. It knows nothing
// of the other arm: an outage of both counts against it.
type OneArm struct {
	Mixture
}

// Update adds the counts of a tick; rate is the largest one that is tolerable,
// above 0 and below 1.
func (o *OneArm) Update(b Bound, c Counts, rate, clump float64) bool {
	if !c.usable() || !(rate > 0 && rate < 1) {
		return o.Crossed
	}
	var logs [maxBets]float64
	bets := worseRates()
	for j, bet := range bets {
		logs[j] = LogOneArm(c, rate, bet)
	}
	o.step(&logs, len(bets), 0, clump, b)
	return o.Crossed
}

// LogOneArm is the evidence of counts in nats against a rate, for an odds ratio
// of bet: its exponential has a mean of exactly 1 at that rate.
func LogOneArm(c Counts, rate, bet float64) float64 {
	return times(c.X, math.Log1p(bet-1)) - c.N*math.Log1p(rate*(bet-1))
}

// Sign is the evidence that single numbers of the canary are more often out of
// tolerance than a fair coin would have it: for metrics that give one number per
// interval and version, whose noise is not known. At an alpha of 0.001 it takes 13
// exceedances in a row.
type Sign struct {
	OneArm
}

// Update adds one interval.
func (s *Sign) Update(b Bound, exceeded bool) bool {
	c := Counts{N: 1}
	if exceeded {
		c.X = 1
	}
	return s.OneArm.Update(b, c, 0.5, 1)
}

// AcceptArm is the evidence that one arm's rate is below a number.
type AcceptArm struct {
	Logs [bets]float64 `json:"logs"`
}

// Update adds the counts of a tick; it reports whether the evidence is at 1/beta.
func (a *AcceptArm) Update(beta float64, c Counts, rate, clump float64) bool {
	if c.usable() && rate > 0 && rate < 1 {
		for j, bet := range betterRates() {
			a.Logs[j] += LogOneArm(c, rate, bet) / max(clump, 1)
		}
	}
	return logMeanExp(a.Logs[:]) >= -math.Log(beta)
}

// Bounded is the evidence that numbers between 0 and 1 have a mean above what is
// tolerable: each bet is a part of what one may stake without going broke
// (Waudby-Smith and Ramdas, 2010.09686).
type Bounded struct {
	Mixture
}

func stakes() [maxBets]float64 { return [maxBets]float64{0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9} }

// Update adds one number; mean is the largest that is tolerable, above 0 and below
// 1. A number out of bounds is left out.
func (o *Bounded) Update(b Bound, y, mean float64) bool {
	if !(y >= 0 && y <= 1 && mean > 0 && mean < 1) {
		return o.Crossed
	}
	var logs [maxBets]float64
	all := stakes()
	for j, part := range all {
		logs[j] = math.Log1p(part / mean * (y - mean))
	}
	o.step(&logs, len(all), 0, 1, b)
	return o.Crossed
}
