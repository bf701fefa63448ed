// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"math"

	"headgate.dev/headgate/analysis/sequential"
)

// What each version is asked for is only alike where the weight alone decides which of them is asked. Where
// requests reach them by other ways too, a rule for testers say, the worst is assumed of
// these: that they are all that failed before a version is rolled back, and all that went well
// before it passes.
//
//	canary   ├── what its weight accounts for ──┼── extra ──┤
//	stable   ├── what that is beside ───────────┼── other routes ──┤
//
// How many they are follows from the other version's requests and the weight, but for chance:
// that is left out as four deviations. Other ways to both versions at once hide each other, and
// at weight 1 there is no other version to tell them by.

const (
	// deviations, and requests on top where these are few, are what chance may do to the split.
	deviations = 4
	few        = 4
)

// allow corrects a finding by what came other ways.
func (t *Trial) allow(m *Metric, f *Finding) {
	w := t.Weight
	if !t.OtherWays || m.Limit > 0 || !(w > 0 && w < 1) {
		return
	}
	due := min(f.Canary.N, f.Stable.N*w/(1-w))
	beside := due * (1 - w) / w
	f.Extra = f.Canary.N - due
	limit := 0.0
	if due > 0 {
		limit = due * min(m.Enough.Ratio*min(f.Stable.X/beside, 1)+m.Enough.Slack, 1)
	}
	least := f.Canary.X - f.Extra - deviations*math.Sqrt(due/(1-w)) - few
	if f.Result == Bad && least <= limit {
		f.Result, f.Reason = Unknown, MixExplains
		if f.For >= f.ForBound && f.looks(m.Enough) { // what spoke against it was at an earlier step
			f.Result, f.Reason = Good, GoodEnough
		}
	}
	if f.Result == Good {
		t.allowGood(f, m.Enough, due)
	}
}

// allowGood leaves what came other ways out of what speaks for the canary.
func (t *Trial) allowGood(f *Finding, enough sequential.Tolerance, due float64) {
	if due <= 0 {
		f.Result, f.Reason = Unknown, NoTraffic
		return
	}
	f.For *= due / f.Canary.N
	switch shared := (Finding{Canary: sequential.Counts{N: due, X: f.Canary.X}, Stable: f.Stable}); {
	case !shared.looks(enough):
		f.Result, f.Reason = Unknown, MixExplains
	case f.For < f.ForBound:
		f.Result, f.Reason = Unknown, TooFewRequests
		f.Needed, f.NeededKnown = due*(f.ForBound/f.For-1), true
	}
}
