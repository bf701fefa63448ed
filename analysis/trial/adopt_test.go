// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
)

func TestAnEditLeavesTheOtherMetrics(t *testing.T) {
	w, c := newWorld(3), trial.Default()
	tr := before(w, &c, 30)
	for range 100 {
		tr.Add(&c, w.second(.25))
	}
	was := tr.Verdict(&c)
	edited := trial.Default()
	edited.Metrics = []trial.Metric{c.Metrics[2], c.Metrics[0], c.Metrics[1]} // in another order
	edited.Metrics[1].Tolerance.Ratio = 2
	tr.Adopt(&edited)
	is := tr.Verdict(&edited)
	for _, name := range []string{"latency", "answers"} {
		if diff := cmp.Diff(find(t, was, name), find(t, is, name)); diff != "" {
			t.Errorf("%s (-before +after an edit of the other):\n%s", name, diff)
		}
	}
	if f := find(t, is, "errors"); f.For != 0 || f.Against > 0 || f.Result != trial.Unknown {
		t.Errorf("what was edited goes on: %+v", f)
	}
	for range 100 {
		tr.Add(&edited, w.second(.25))
	}
	if v := tr.Verdict(&edited); v.Result != trial.Good {
		t.Errorf("%+v", v)
	}
}

func TestAStakeDoesNotGrow(t *testing.T) {
	w, c := newWorld(3), trial.Default()
	tr := before(w, &c, 30)
	for range 100 {
		tr.Add(&c, w.second(.25))
	}
	stake := func(c *trial.Config, name string) float64 {
		for _, m := range c.Metrics {
			if m.Name == name {
				return m.Share * math.Exp(find(t, tr.Verdict(c), name).Against)
			}
		}
		return 0
	}
	was := stake(&c, "errors")
	grown := trial.Default()
	grown.Metrics[0].Share = .9
	tr.Adopt(&grown)
	if is := stake(&grown, "errors"); math.Abs(is-was) > 1e-12 {
		t.Errorf("with a larger share: %v, then %v", was, is)
	}
	tr.Adopt(&c)
	if is := stake(&c, "errors"); is > was {
		t.Errorf("with the old one again: %v, then %v", was, is)
	}
	for range 5 { // a question that is asked again and again
		for _, ratio := range []float64{1.2, 1.25} {
			c.Metrics[0].Tolerance.Ratio = ratio
			was = stake(&c, "errors")
			tr.Adopt(&c)
			if is := stake(&c, "errors"); is > was {
				t.Errorf("at %v: %v, then %v", ratio, was, is)
			}
			for range 20 {
				tr.Add(&c, w.second(.25))
			}
		}
	}
}

// Edits while one looks on do not add up to more false rollbacks than were promised: here one of
// another question every ten seconds, with a canary at the edge of what is tolerable by each of them.
func TestEditsGrantNoFalseRollbacks(t *testing.T) {
	const releases = 1500
	crossed := 0
	for seed := range uint64(releases) {
		w := newWorld(seed + 1000)
		c := trial.Config{Alpha: .1, Beta: .05, Ticks: 1, Metrics: []trial.Metric{{
			Name: "errors", Kind: trial.Errors, Share: 1, Tolerance: sequential.Tolerance{Ratio: 1}, Enough: sequential.Tolerance{Ratio: 1.5, Slack: .01},
		}}}
		var tr trial.Trial
		for s := range 300 {
			tr.Add(&c, trial.Tick{
				Weight: .5,
				Canary: trial.Arm{Requests: sequential.Counts{N: 500, X: w.poisson(3)}}, Stable: trial.Arm{Requests: sequential.Counts{N: 500, X: w.poisson(3)}},
			})
			if tr.Metrics[0].Worse.Crossed {
				crossed++
				break
			}
			if s%10 == 9 {
				c.Metrics[0].Enough.Slack += .001
				tr.Adopt(&c)
			}
		}
	}
	t.Logf("%d of %d were rolled back", crossed, releases)
	if rate := float64(crossed) / releases; rate > .1 {
		t.Errorf("%.1f %% of the releases were rolled back", 100*rate)
	}
}

// What is stored by something else is no evidence, and breaks nothing.
func TestStoredEvidenceThatIsNotWholeBeginsAnew(t *testing.T) {
	c := trial.Default()
	tr := trial.Trial{Metrics: []trial.Evidence{{Name: "errors", Of: c.Metrics[0]}, {Name: "answers", Of: c.Metrics[2]}, {}}}
	tr.Adopt(&c)
	w := newWorld(1)
	tr.Add(&c, w.second(.5))
	if v := tr.Verdict(&c); v.Result != trial.Unknown {
		t.Errorf("%+v", v)
	}
}
