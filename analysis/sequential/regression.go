// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

// The bets on how much worse the canary is: as a ratio of rates, and as a ratio of
// odds for frequent events.
func worseRates() [maxBets]float64 { return [maxBets]float64{1.5, 2, 3, 5, 10, 30, 100, 1000} }
func worseOdds() [6]float64        { return [6]float64{1.25, 1.5, 2, 3, 6, 20} }

// DefaultRegression is the test of the error rate of a release: one false rollback
// in a thousand releases, three ticks at least, and a tolerance of a quarter more
// than stable plus 0.05 points.
func DefaultRegression() RegressionTest {
	return RegressionTest{Bound: Bound{Alpha: 0.001, Ticks: 3}, Tolerance: Tolerance{Ratio: 1.25, Slack: 0.0005}}
}

// RegressionTest is what a Regression is asked.
type RegressionTest struct {
	Bound
	Tolerance
	// Frequent is for events that are frequent, such as being slower than the
	// median: LogShare in place of LogFactor. Ratio is then taken as 1.
	Frequent bool
}

// Regression is the evidence that the canary is worse than tolerated. One runs
// through all steps of a release; its zero value is the start.
type Regression struct {
	Mixture
	Split Split `json:"split"`
}

// Update adds a tick. Clump is how many bad requests come together, from a Spread:
// 1 where they are independent. It reports whether the bound was ever reached.
func (r *Regression) Update(c *RegressionTest, t Tick, clump float64) bool {
	if !t.Usable() {
		return r.Crossed
	}
	var logs [maxBets]float64
	e := r.Split.Next(t)
	n := 0
	if c.Frequent {
		for j, bet := range worseOdds() {
			logs[j] = LogShare(t, e, c.Slack, bet)
			n = j + 1
		}
	} else {
		for j, bet := range worseRates() {
			logs[j] = LogFactor(t, e, c.Tolerance, bet)
			n = j + 1
		}
	}
	r.step(&logs, n, t.Weight, clump, c.Bound)
	return r.Crossed
}

// Completions is the evidence that the canary answers less than its share of the
// requests: a version that hangs completes nothing, and looks perfect to every
// test that counts answers. It needs a random split at the given weight over the
// requests that are counted, so it is not for routes that pick the canary by a
// header, nor where stable serves other routes too.
type Completions struct {
	Mixture
}

// DefaultAnswered is how much of its share the canary must answer.
const DefaultAnswered = 0.8

// Update adds a tick, of which only the numbers of requests count. Answered is how much
// of its share the canary must answer, above 0 and at most 1.
func (c *Completions) Update(b Bound, answered float64, t Tick, clump float64) bool {
	if !t.Usable() {
		return c.Crossed
	}
	t.Canary.X, t.Stable.X = t.Canary.N, t.Stable.N
	e := Exposure{Canary: t.Weight, Stable: 1 - t.Weight}
	if t.Weight <= 0 || t.Weight >= 1 {
		e = Exposure{}
	}
	var logs [maxBets]float64
	bets := betterRates()
	for j, bet := range bets {
		logs[j] = LogFactor(t, e, Tolerance{Ratio: answered}, bet)
	}
	c.step(&logs, len(bets), t.Weight, clump, b)
	return c.Crossed
}

// UpdateAlone adds a tick in which stable had no traffic to compare with: the rate is
// the largest one that is tolerable then, above 0 and below 1. It goes on with the same
// evidence, so the two together are wrong no more often than alpha.
func (r *Regression) UpdateAlone(c *RegressionTest, canary Counts, rate, clump float64) bool {
	if !canary.usable() || !(rate > 0 && rate < 1) {
		return r.Crossed
	}
	var logs [maxBets]float64
	n := 0
	if c.Frequent {
		for j, bet := range worseOdds() {
			logs[j] = LogOneArm(canary, rate, bet)
			n = j + 1
		}
	} else {
		for j, bet := range worseRates() {
			logs[j] = LogOneArm(canary, rate, bet)
			n = j + 1
		}
	}
	r.step(&logs, n, 1, clump, c.Bound)
	return r.Crossed
}

// Surplus is the evidence that the canary answers more than its share of the requests.
// No version does that: the split is not what it is said to be, and then no
// comparison can be trusted.
type Surplus struct {
	Mixture
}

// surplusShare is how much more than its share the canary may seem to answer.
const surplusShare = 0.25

// Update adds a tick, of which only the numbers of requests count.
func (s *Surplus) Update(b Bound, t Tick, clump float64) bool {
	if !t.Usable() || t.Weight <= 0 || t.Weight >= 1 {
		return s.Crossed
	}
	t.Canary.X, t.Stable.X = t.Canary.N, t.Stable.N
	var logs [maxBets]float64
	bets := worseRates()
	for j, bet := range bets {
		logs[j] = LogFactor(t, Exposure{Canary: t.Weight, Stable: 1 - t.Weight}, Tolerance{Ratio: 1 + surplusShare}, bet)
	}
	s.step(&logs, len(bets), t.Weight, clump, b)
	return s.Crossed
}
