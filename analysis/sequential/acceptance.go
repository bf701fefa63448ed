// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

import "math"

// The bets on how much better than the tolerance the canary is.
func betterRates() [4]float64 { return [4]float64{0.7, 0.4, 0.15, 0.02} }

const bets = 4

// DefaultAcceptance is the test of the error rate of a step: called good enough
// wrongly 5 times in 100, where good enough is less than half more than stable
// plus a point.
func DefaultAcceptance() AcceptanceTest {
	return AcceptanceTest{Beta: 0.05, Tolerance: Tolerance{Ratio: 1.5, Slack: 0.01}}
}

// AcceptanceTest is what an Acceptance is asked.
type AcceptanceTest struct {
	// Beta is the allowed chance of a false "good enough" in one step.
	Beta float64
	Tolerance
}

// Acceptance is the evidence that the canary is good enough. It starts anew, as
// its zero value, at each step.
type Acceptance struct {
	Split Split `json:"split"`
	// Logs are the nats of each bet. They stay logarithms: with a bad canary they
	// fall below anything a number can hold, and must be able to come back.
	Logs [bets]float64 `json:"logs"`
	// The totals of the step.
	Canary Counts `json:"canary"`
	Stable Counts `json:"stable"`
}

// Update adds a tick; clump as for a Regression.
func (a *Acceptance) Update(c *AcceptanceTest, t Tick, clump float64) bool {
	if !t.Usable() {
		return a.Accepted(c)
	}
	e := a.Split.Next(t)
	clump = max(clump, 1)
	for j, bet := range betterRates() {
		a.Logs[j] += LogFactor(t, e, c.Tolerance, bet) / clump
	}
	if e != (Exposure{}) {
		a.Canary.N, a.Canary.X = a.Canary.N+t.Canary.N, a.Canary.X+t.Canary.X
		a.Stable.N, a.Stable.X = a.Stable.N+t.Stable.N, a.Stable.X+t.Stable.X
	}
	return a.Accepted(c)
}

// LogEvidence is the logarithm of the average over the bets: 0 at the start.
func (a *Acceptance) LogEvidence() float64 { return logMeanExp(a.Logs[:]) }

// Accepted says whether the evidence is at its bound now.
func (a *Acceptance) Accepted(c *AcceptanceTest) bool {
	return a.LogEvidence() >= -math.Log(c.Beta)
}

// likeStable is how many requests at stable's rate the canary is credited with for
// an estimate: a handful of requests says next to nothing of its own rate.
const likeStable = 50

// StillNeeded is how many more canary requests it takes, if both arms go on as so
// far. It says too much by about a third, because it follows only the best bet.
// False: at these rates the canary will not be accepted, or nothing was seen yet.
func (a *Acceptance) StillNeeded(c *AcceptanceTest, clump float64) (float64, bool) {
	if a.Canary.N <= 0 || a.Stable.N <= 0 {
		return 0, false
	}
	if a.Accepted(c) {
		return 0, true
	}
	perCanary := a.Stable.N / a.Canary.N
	stable := (a.Stable.X + 0.5) / (a.Stable.N + 1)
	canary := (a.Canary.X + likeStable*stable) / (a.Canary.N + likeStable)
	one := Tick{Canary: Counts{N: 1, X: canary}, Stable: Counts{N: perCanary, X: perCanary * stable}}
	least, found := 0.0, false
	for j, bet := range betterRates() {
		growth := LogFactor(one, Exposure{Canary: 1, Stable: perCanary}, c.Tolerance, bet) / max(clump, 1)
		if growth <= 0 {
			continue
		}
		need := max((math.Log(bets/c.Beta)-a.Logs[j])/growth, 0)
		if !found || need < least {
			least, found = need, true
		}
	}
	return math.Ceil(least), found
}

// logMeanExp is ln of the mean of the exponentials.
func logMeanExp(logs []float64) float64 {
	most := math.Inf(-1)
	for _, l := range logs {
		most = max(most, l)
	}
	if math.IsInf(most, -1) {
		return most
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - most)
	}
	return most + math.Log(sum/float64(len(logs)))
}

// UpdateAlone adds a tick in which stable had no traffic to compare with: the rate is
// one that would not be good enough, above 0 and below 1.
func (a *Acceptance) UpdateAlone(c *AcceptanceTest, canary Counts, rate, clump float64) bool {
	if canary.usable() && rate > 0 && rate < 1 {
		for j, bet := range betterRates() {
			a.Logs[j] += LogOneArm(canary, rate, bet) / max(clump, 1)
		}
		a.Canary.N, a.Canary.X = a.Canary.N+canary.N, a.Canary.X+canary.X
	}
	return a.Accepted(c)
}
