// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDrawsHaveTheirMeanAndVariance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		what           string
		draw           func() float64
		mean, variance float64
	}{
		{"a small Poisson number", func() float64 { return poisson(r, 0.3) }, 0.3, 0.3},
		{"one counted in gaps", func() float64 { return poisson(r, 11.9) }, 11.9, 11.9},
		{"one drawn by rejection", func() float64 { return poisson(r, 12.1) }, 12.1, 12.1},
		{"a large one", func() float64 { return poisson(r, 950) }, 950, 950},
		{"the requests of a session", func() float64 { return geometric(r, 5) }, 5, 20},
	} {
		const n = 200_000
		var sum, squares float64
		for range n {
			v := tt.draw()
			sum += v
			squares += v * v
		}
		mean := sum / n
		variance := squares/n - mean*mean
		if off := math.Abs(mean-tt.mean) / math.Sqrt(tt.variance/n); off > 4 {
			t.Errorf("%s: the mean is %.3f, want %.3f (%.1f standard errors away)", tt.what, mean, tt.mean, off)
		}
		if variance < 0.95*tt.variance || variance > 1.05*tt.variance {
			t.Errorf("%s: the variance is %.3f, want %.3f", tt.what, variance, tt.variance)
		}
	}
}

func TestTheSameSeedPlaysTheSameRelease(t *testing.T) {
	w := world{perSecond: 100, base: .01, weight: at(.05), wandering: true, session: 5, bursts: burst{60, 5, 1}}
	a, b := newTraffic(w, 3), newTraffic(w, 3)
	burst := false
	for s := range 300 {
		x, y := a.second(s), b.second(s)
		if x != y {
			t.Fatalf("second %d: %+v and %+v", s, x, y)
		}
		for _, c := range a.perPod {
			burst = burst || c.N > 0 && c.X == c.N
		}
	}
	if !burst {
		t.Error("no pod ever failed whole")
	}
}
