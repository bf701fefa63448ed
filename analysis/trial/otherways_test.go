// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"testing"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
)

// besides is what comes to a version by another way in a second.
type besides struct {
	rate  float64
	fails float64
}

func (w *world) add(a *trial.Arm, b besides) {
	more := w.arm(version{fails: b.fails, slower: 1}, w.poisson(b.rate))
	a.Requests.N, a.Requests.X = a.Requests.N+more.Requests.N, a.Requests.X+more.Requests.X
	for i := range a.Latency {
		a.Latency[i].Count += more.Latency[i].Count
	}
}

// play plays a step in which both versions get requests by other ways, until the verdict is one of those wanted; it gives
// how long that took, 0 when it never was.
func (w *world) play(tr *trial.Trial, c *trial.Config, weight float64, told bool, testers, others besides, seconds int, want trial.Result) int {
	for second := range seconds {
		k := w.second(weight)
		w.add(&k.Canary, testers)
		w.add(&k.Stable, others)
		k.StablePods, k.Mixed, k.OtherWays = nil, true, told
		tr.Add(c, k)
		if tr.Verdict(c).Result == want {
			return second + 1
		}
	}
	return 0
}

// What a rule of the testers' own, or another route, sends to one of the versions does not roll a healthy one back, whatever
// becomes of those requests. Without being told, the test takes it for the version's fault.
func TestAnUnequalMixRollsNothingBack(t *testing.T) {
	for _, tt := range []struct {
		name            string
		both            float64 // rate of failures of what both are asked for
		testers, others besides
	}{
		{"testers who see nothing but failures", .005, besides{rate: 10, fails: 1}, besides{}},
		{"a few of them", .005, besides{rate: 1, fails: 1}, besides{}},
		{"many who see some", .005, besides{rate: 300, fails: .1}, besides{}},
		{"another route of stable's that never fails", .05, besides{}, besides{rate: 1000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fooled := 0
			for seed := range uint64(12) {
				for _, told := range []bool{false, true} {
					w, c := newWorld(seed), trial.Default()
					c.Metrics = c.Metrics[:1]
					w.stable.fails, w.canary.fails = tt.both, tt.both
					tr := before(w, &c, 30)
					took := w.play(tr, &c, []float64{.05, .25, .5}[seed%3], told, tt.testers, tt.others, 200, trial.Bad)
					switch {
					case took > 0 && told:
						t.Errorf("seed %d: rolled back after %d s: %+v", seed, took, find(t, tr.Verdict(&c), "errors"))
					case took > 0:
						fooled++
					}
				}
			}
			t.Logf("without being told, %d of 12 are rolled back", fooled)
			if fooled < 6 {
				t.Error("the case shows nothing")
			}
		})
	}
}

func TestAnUnequalMixHidesNoBadVersion(t *testing.T) {
	for _, tt := range []struct {
		name            string
		fails           float64
		testers, others besides
		within          int // seconds at 5 % of 200 requests a second
	}{
		{"one that fails every request", 1, besides{}, besides{}, 6},
		{"and with testers who see no failure", 1, besides{rate: 3}, besides{}, 12},
		{"one that fails half, with another route of stable's", .5, besides{}, besides{rate: 200}, 60},
		{"one that fails a fifth", .2, besides{}, besides{}, 120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				w, c := newWorld(seed), trial.Default()
				w.canary.fails = tt.fails
				tr := before(w, &c, 30)
				if took := w.play(tr, &c, .05, true, tt.testers, tt.others, tt.within, trial.Bad); took == 0 {
					t.Errorf("seed %d: not found within %d s: %+v", seed, tt.within, find(t, tr.Verdict(&c), "errors"))
				}
			}
		})
	}
}

// A version that fails a tenth does not pass for the good requests of testers, and a step takes as many
// requests by the weight as without them.
func TestTestersDoNotMakeAVersionPass(t *testing.T) {
	for seed := range uint64(20) {
		w, c := newWorld(seed), trial.Default()
		c.Metrics = c.Metrics[:1]
		w.canary.fails = .1
		if took := w.play(before(w, &c, 30), &c, .05, true, besides{rate: 200}, besides{}, 120, trial.Good); took > 0 {
			t.Errorf("seed %d: a bad version passes after %d s", seed, took)
		}
		w, c = newWorld(seed), trial.Default()
		c.Metrics = c.Metrics[:1]
		w.stable.fails, w.canary.fails = 0, 0
		if took := w.play(before(w, &c, 30), &c, .05, true, besides{rate: 200}, besides{}, 120, trial.Good); took < 30 {
			t.Errorf("seed %d: a step passes after %d s, with 10 requests a second by its weight", seed, took)
		}
	}
}

// What testers did to the evidence holds the step in which they did it, not those after.
func TestTheStepAfterTheTestersPasses(t *testing.T) {
	w, c := newWorld(1), trial.Default()
	c.Metrics = c.Metrics[:1]
	tr := before(w, &c, 30)
	w.play(tr, &c, .05, true, besides{rate: 20, fails: 1}, besides{}, 60, trial.Bad)
	if f := find(t, tr.Verdict(&c), "errors"); f.Reason != trial.MixExplains || f.Extra < 1000 {
		t.Errorf("%+v", f)
	}
	tr.Step()
	if took := w.play(tr, &c, .25, false, besides{}, besides{}, 120, trial.Good); took == 0 {
		t.Errorf("%+v", find(t, tr.Verdict(&c), "errors"))
	}
	// It is still rolled back for what it does itself.
	w.canary.fails = .5
	if took := w.play(tr, &c, .25, false, besides{}, besides{}, 60, trial.Bad); took == 0 {
		t.Errorf("%+v", find(t, tr.Verdict(&c), "errors"))
	}
}

// A number to hold the canary against compares nothing.
func TestALimitNeedsNoEqualMix(t *testing.T) {
	w, c := newWorld(1), trial.Default()
	c.Metrics = c.Metrics[:1]
	c.Metrics[0].Limit, c.Metrics[0].Enough = .02, sequential.Tolerance{Ratio: 1, Slack: .01}
	if took := w.play(before(w, &c, 30), &c, .05, true, besides{rate: 20, fails: .5}, besides{}, 60, trial.Bad); took == 0 {
		t.Error("not found")
	}
}
