// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sequential turns counts of requests into evidence that may be looked at
// at any moment, as often as one likes. It is pure: every state is a plain struct
// that can be stored as JSON, and an update allocates nothing.
//
// Every question is asked of two counts per arm and tick: requests, and bad ones.
// A tick multiplies the evidence by a factor whose mean is at most 1 while the
// canary is tolerable, whatever the two arms have in common: the rate of failures,
// its drift, outages, traffic. Products of such factors, averages over several
// bets, and averages over several beginnings keep that property (an e-process),
// and by Ville's inequality such evidence ever reaches 1/α with a probability of
// at most α.
//
//	counts of a tick ─┬─▶ Regression   1/α reached: the canary is worse than tolerated
//	                  ├─▶ Acceptance   1/β reached: the canary is good enough
//	                  ├─▶ Completions  1/α reached: the canary does not answer
//	                  └─▶ OneArm       against a number instead of stable
//	histograms ─▶ Edges ─▶ one Regression per edge
//	pods of stable ─▶ Spread (how much failures clump) and Placebo (the same test where nothing changed)
//
// Evidence is in nats, natural logarithms. Sources: Lindon and Malek, NeurIPS 2022
// (arXiv 2011.03567); Turner, Ly and Grünwald (2106.02693); Shin, Ramdas and
// Rinaldo (2203.03532); Howard and others (1810.08240).
package sequential

import "math"

// Counts are the requests of one arm in one tick, and the bad ones among them.
type Counts struct {
	N, X float64
}

// Tick is what both arms did in one interval of any length, during which the
// canary's confirmed weight did not change.
type Tick struct {
	Canary, Stable Counts
	// Weight is the canary's share of the traffic, between 0 and 1.
	Weight float64
}

// Usable says whether the counts can be true. Bad requests that outnumber all
// requests, negative and infinite counts are faults of the measurement: such a
// tick is left out by every test.
func (t Tick) Usable() bool {
	return t.Canary.usable() && t.Stable.usable() && t.Weight >= 0 && t.Weight <= 1
}

func (c Counts) usable() bool {
	return c.X >= 0 && c.X <= c.N && !math.IsInf(c.N, 1)
}

// Exposure is how much each arm had to do with a tick's bad requests.
type Exposure struct {
	Canary, Stable float64
	// Routed is true when the exposure is the split that was asked for and
	// learned, because the tick has too few requests to show its own.
	Routed bool
}

// Split learns how the traffic is really split at the present weight.
type Split struct {
	Weight float64 `json:"weight"`
	Canary float64 `json:"canary"`
	All    float64 `json:"all"`
}

const (
	// busy is how many requests the smaller arm can expect in a tick from which on
	// the tick's own split is used.
	busy = 2
	// routedWeight is how many requests the weight that was asked for counts as,
	// beside those that were seen.
	routedWeight = 200
)

// Next is the exposure of a tick. It depends on the tick's total only, and on the
// split of earlier ticks, which the tick is then added to.
func (s *Split) Next(t Tick) Exposure {
	if s.Weight != t.Weight {
		*s = Split{Weight: t.Weight}
	}
	w, n := t.Weight, t.Canary.N+t.Stable.N
	if w <= 0 || w >= 1 {
		return Exposure{}
	}
	e := Exposure{Canary: t.Canary.N, Stable: t.Stable.N}
	if n*min(w, 1-w) < busy {
		learned := (s.Canary + routedWeight*w) / (s.All + routedWeight)
		e = Exposure{Canary: learned, Stable: 1 - learned, Routed: true}
	}
	s.Canary += t.Canary.N
	s.All += n
	return e
}

// Tolerance is what is tolerable: the canary's rate of bad requests is at most
// Ratio times stable's plus Slack.
type Tolerance struct {
	Ratio, Slack float64
}

// LogFactor is the evidence of one tick in nats, for a bet that the canary's rate
// is bet times what is tolerable: above 1 the bet is "worse", below 1 "better".
//
// With D = ratio·mc + ms, a = bet·D/(bet·ratio·mc + ms) and b = a/bet it is
// Xc·ln a + Xs·ln b − slack·nc·(a−1). By 1+x ≤ eˣ its exponential has a mean of at
// most 1 at the boundary of what is tolerable, whatever stable's rate is, because
// ratio·mc·(a−1) + ms·(b−1) = 0.
func LogFactor(t Tick, e Exposure, tol Tolerance, bet float64) float64 {
	if e.Canary <= 0 || e.Stable <= 0 {
		return 0
	}
	d := tol.Ratio*e.Canary + e.Stable
	lnB := -math.Log1p((bet - 1) * tol.Ratio * e.Canary / d)
	lnA := math.Log1p(bet-1) + lnB
	return times(t.Canary.X, lnA) + times(t.Stable.X, lnB) - tol.Slack*t.Canary.N*math.Expm1(lnA)
}

// LogShare is LogFactor for bad requests that are frequent, such as those slower
// than the median, at a ratio of 1: bet is an odds ratio, above 1. What is
// tolerable is 1−pc ≥ (1−ps)·(1−slack).
//
// Given the totals, the canary's number of bad requests is hypergeometric, and the
// binomial distributions with either margin dominate it in convex order (Hoeffding
// 1963); the smaller of the two bounds is used.
func LogShare(t Tick, e Exposure, slack, bet float64) float64 {
	if e.Canary <= 0 || e.Stable <= 0 {
		return 0
	}
	bad, n := t.Canary.X+t.Stable.X, t.Canary.N+t.Stable.N
	if n <= 0 {
		return 0
	}
	share := e.Canary / (e.Canary + e.Stable)
	mean := bad * math.Log1p(share*(bet-1))
	if !e.Routed {
		mean = min(mean, t.Canary.N*math.Log1p(bad/n*(bet-1)))
	}
	return times(t.Canary.X, math.Log1p(bet-1)) - mean - t.Canary.N*math.Log1p(slack*(bet-1))
}

// times is x·y with 0·∞ = 0.
func times(x, y float64) float64 {
	if x == 0 {
		return 0
	}
	return x * y
}
