// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential_test

import (
	"math/rand/v2"
	"testing"

	"headgate.dev/headgate/analysis/sequential"
)

func BenchmarkRegression(b *testing.B) {
	c := sequential.DefaultRegression()
	var r sequential.Regression
	t := tick(50, 1, 950, 10, .05)
	b.ReportAllocs()
	for b.Loop() {
		r.Update(&c, t, 1.5)
	}
}

func BenchmarkRegressionFrequent(b *testing.B) {
	c := sequential.DefaultRegression()
	c.Frequent = true
	var r sequential.Regression
	t := tick(50, 25, 950, 475, .05)
	b.ReportAllocs()
	for b.Loop() {
		r.Update(&c, t, 1.5)
	}
}

func BenchmarkAcceptance(b *testing.B) {
	a := sequential.DefaultAcceptance()
	var g sequential.Acceptance
	t := tick(50, 0, 950, 1, .05)
	b.ReportAllocs()
	for b.Loop() {
		g.Update(&a, t, 1.5)
	}
}

func BenchmarkExcess(b *testing.B) {
	var x sequential.Excess
	t := tick(50, 1, 950, 10, .05)
	b.ReportAllocs()
	for b.Loop() {
		x.Update(t, 1)
	}
}

func TestAnUpdateAllocatesNothing(t *testing.T) {
	c, a := sequential.DefaultRegression(), sequential.DefaultAcceptance()
	frequent := c
	frequent.Frequent = true
	var r, f sequential.Regression
	var g sequential.Acceptance
	var m sequential.Completions
	var o sequential.OneArm
	var x sequential.Excess
	p := sequential.Placebo{Pods: []sequential.PlaceboPod{{Name: "a"}, {Name: "b"}}}
	h := logNormal(rand.New(rand.NewPCG(1, 1)), 2000, 1, 0, 0)
	l := sequential.Latency{Edges: sequential.LearnEdges(h, []float64{0.05, 0.1, 0.2}, sequential.DefaultShift())}
	tk := tick(50, 1, 950, 10, .05)
	if n := testing.AllocsPerRun(100, func() {
		r.Update(&c, tk, 1)
		f.Update(&frequent, tk, 1)
		g.Update(&a, tk, 1)
		g.StillNeeded(&a, 1)
		m.Update(c.Bound, sequential.DefaultAnswered, tk, 1)
		o.Update(c.Bound, tk.Canary, 0.1, 1)
		x.Update(tk, 1)
		p.Update(&c, 1)
		l.Update(c.Bound, h, h, .05, 1)
	}); n != 0 {
		t.Errorf("%v allocations per tick", n)
	}
}
