// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis/sequential"
)

func tick(nc, xc, ns, xs, w float64) sequential.Tick {
	return sequential.Tick{Canary: sequential.Counts{N: nc, X: xc}, Stable: sequential.Counts{N: ns, X: xs}, Weight: w}
}

// five are the ticks of the reference values.
func five() []sequential.Tick {
	return []sequential.Tick{
		tick(50, 0, 950, 1, .05), tick(50, 3, 950, 1, .05), tick(1, 1, 9, 0, .05), tick(0, 0, 3, 1, .05), tick(250, 4, 750, 2, .25),
	}
}

func realised(t sequential.Tick) sequential.Exposure {
	return sequential.Exposure{Canary: t.Canary.N, Stable: t.Stable.N}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6 {
		t.Errorf("%s = %.7f, want %.6f", what, got, want)
	}
}

func TestReferenceValues(t *testing.T) {
	t2 := five()[1]
	near(t, "LogFactor, worse", sequential.LogFactor(t2, realised(t2), sequential.Tolerance{Ratio: 1.25, Slack: 0.0005}, 3), 2.788437)
	good := tick(50, 0, 950, 2, .05)
	near(t, "LogFactor, better", sequential.LogFactor(good, realised(good), sequential.Tolerance{Ratio: 1.5, Slack: 0.01}, 0.15), 0.548453)
	half := tick(50, 30, 950, 475, .05)
	near(t, "LogShare", sequential.LogShare(half, realised(half), 0.001, 1.5), 0.881882)

	c := sequential.DefaultRegression()
	var r sequential.Regression
	for i, want := range []float64{0.777030, 5.258495, 25.848292, 15.246477, 53.504925} {
		r.Update(&c, five()[i], 1)
		near(t, "Regression after tick", r.Evidence(), want)
	}

	a := sequential.DefaultAcceptance()
	var g sequential.Acceptance
	for _, want := range []float64{0.398363, 0.818381, 1.258043, 1.715066, 2.187114} {
		g.Update(&a, tick(50, 0, 950, 1, .05), 1)
		near(t, "Acceptance after tick", g.LogEvidence(), want)
	}

	low, high := sequential.RateInterval(sequential.Counts{N: 1000, X: 3}, 0.05)
	near(t, "lower end of 3 of 1000", low, 0.000124)
	near(t, "upper end of 3 of 1000", high, 0.014312)
	low, high = sequential.RateInterval(sequential.Counts{N: 1000}, 0.05)
	near(t, "lower end of 0 of 1000", low, 0)
	near(t, "upper end of 0 of 1000", high, 0.006998)
	if got := sequential.NormalBound(100, 100, 0.05); math.Abs(got-30.35209) > 1e-5 {
		t.Errorf("NormalBound = %v", got)
	}
}

func TestAStateThatWasStoredGoesOnWhereItStopped(t *testing.T) {
	c := sequential.DefaultRegression()
	var whole, first sequential.Regression
	for _, tk := range five() {
		whole.Update(&c, tk, 1.5)
	}
	for _, tk := range five()[:3] {
		first.Update(&c, tk, 1.5)
	}
	b, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	var second sequential.Regression
	if err := json.Unmarshal(b, &second); err != nil {
		t.Fatal(err)
	}
	for _, tk := range five()[3:] {
		second.Update(&c, tk, 1.5)
	}
	if diff := cmp.Diff(whole, second); diff != "" {
		t.Error(diff)
	}
}

func TestSignTakesThirteenInARow(t *testing.T) {
	for _, tt := range []struct {
		alpha float64
		want  int
	}{{0.001, 13}, {0.01, 9}} {
		var s sequential.Sign
		n := 1
		for !s.Update(sequential.Bound{Alpha: tt.alpha, Ticks: 3}, true) {
			n++
		}
		if n != tt.want {
			t.Errorf("alpha %v: %d in a row, want %d", tt.alpha, n, tt.want)
		}
	}
}

func TestOneOrTwoTicksNeverRollBack(t *testing.T) {
	c := sequential.DefaultRegression()
	worst := tick(1e6, 1e6, 1e6, 0, .5)
	var r sequential.Regression
	n := 1
	for !r.Update(&c, worst, 1) {
		n++
	}
	if n != 3 {
		t.Errorf("rolled back after %d ticks", n)
	}
}

func TestATickThatCannotBeTrueIsLeftOut(t *testing.T) {
	c, a := sequential.DefaultRegression(), sequential.DefaultAcceptance()
	nan, inf := math.NaN(), math.Inf(1)
	for _, bad := range []sequential.Tick{
		tick(5, 6, 10, 0, .5), tick(-1, 0, 10, 0, .5), tick(nan, 0, 1, 0, .5), tick(5, nan, 1, 0, .5), tick(5, 5, inf, 0, .5),
		tick(inf, inf, 10, 0, .5), tick(5, 5, 10, 11, .5), tick(5, 5, 10, 0, nan), tick(5, 5, 10, 0, -.1), tick(5, 5, 10, 0, 1.1),
	} {
		var r sequential.Regression
		var g sequential.Acceptance
		var m sequential.Completions
		var x sequential.Excess
		r.Update(&c, bad, 1)
		g.Update(&a, bad, 1)
		m.Update(c.Bound, sequential.DefaultAnswered, bad, 1)
		x.Update(bad, 1)
		if diff := cmp.Diff(sequential.Regression{}, r); diff != "" {
			t.Errorf("%+v: %s", bad, diff)
		}
		if g != (sequential.Acceptance{}) || m != (sequential.Completions{}) || x != (sequential.Excess{}) {
			t.Errorf("%+v left a trace", bad)
		}
	}
}

func TestAStrayRequestAtWeightZeroIsNoEvidence(t *testing.T) {
	c, a := sequential.DefaultRegression(), sequential.DefaultAcceptance()
	for _, w := range []float64{0, 1} {
		var r sequential.Regression
		var g sequential.Acceptance
		var m sequential.Completions
		r.Update(&c, tick(1, 1, 1000, 0, w), 1)
		g.Update(&a, tick(1, 1, 1000, 0, w), 1)
		m.Update(c.Bound, sequential.DefaultAnswered, tick(1, 1, 1000, 0, w), 1)
		near(t, "Regression", r.Evidence(), 1)
		near(t, "Acceptance", g.LogEvidence(), 0)
		near(t, "Completions", m.Evidence(), 1)
	}
}

func TestNumbersStayFinite(t *testing.T) {
	c, a := sequential.DefaultRegression(), sequential.DefaultAcceptance()
	c.Ticks = 1
	for _, tk := range []sequential.Tick{
		tick(1e12, 1e12, 1e12, 0, .5), tick(1e12, 0, 1e12, 1e12, .5), tick(1e12, 0, 1e12, 0, .01), tick(1e-9, 1e-9, 1e12, 0, .001),
	} {
		var r sequential.Regression
		var g sequential.Acceptance
		var x sequential.Excess
		for range 50 {
			r.Update(&c, tk, 1)
			g.Update(&a, tk, 1)
			x.Update(tk, 1)
		}
		low, high := x.Interval(0.01)
		for _, v := range []float64{r.Evidence(), g.LogEvidence(), low, high} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%+v: %v %v [%v, %v]", tk, r.Evidence(), g.LogEvidence(), low, high)
			}
		}
		if low > high {
			t.Errorf("%+v: an interval from %v to %v", tk, low, high)
		}
	}
}

func TestAcceptanceComesBackFromABadStart(t *testing.T) {
	a := sequential.DefaultAcceptance()
	var g sequential.Acceptance
	for range 200 {
		g.Update(&a, tick(500, 400, 500, 0, .5), 1)
	}
	n := 0
	for !g.Update(&a, tick(5000, 0, 5000, 0, .5), 1) {
		if n++; n > 1e5 {
			t.Fatal("never accepted again")
		}
	}
}
