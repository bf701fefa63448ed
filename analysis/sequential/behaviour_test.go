// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headgate.dev/headgate/analysis/sequential"
)

// poisson draws a number of requests by counting exponential gaps.
func poisson(r *rand.Rand, mean float64) float64 {
	n := 0.0
	for t := r.ExpFloat64(); t < mean; t += r.ExpFloat64() {
		n++
	}
	return n
}

// second is one second of traffic at a weight, with a rate of bad requests per arm.
func second(r *rand.Rand, perSecond, w, pc, ps float64) sequential.Tick {
	nc, ns := poisson(r, perSecond*w), poisson(r, perSecond*(1-w))
	bad := func(n, p float64) float64 {
		k := 0.0
		for range int(n) {
			if r.Float64() < p {
				k++
			}
		}
		return k
	}
	return tick(nc, bad(nc, pc), ns, bad(ns, ps), w)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// within checks a median against the figure of the reference simulation.
func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	t.Logf("%s: median %.0f canary requests, reference %.0f", what, got, want)
	if got < want*(1-tolerance) || got > want*(1+tolerance) {
		t.Errorf("%s: median %.0f, want %.0f ± %.0f%%", what, got, want, 100*tolerance)
	}
}

func TestRequestsUntilRollback(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	c := sequential.DefaultRegression()
	for _, tt := range []struct {
		what           string
		ps, pc, want   float64
		runs, deadline int
	}{
		{"0.1% to 1%", 0.001, 0.01, 940, 800, 3000},
		{"0.1% to 5%", 0.001, 0.05, 104, 600, 2000},
		{"0.1% to 20%", 0.001, 0.2, 27, 600, 2000},
		{"0.1% to 100%", 0.001, 1, 14, 600, 100},
		{"1% to 5%", 0.01, 0.05, 334, 400, 2000},
		{"1% to 20%", 0.01, 0.2, 40, 600, 2000},
	} {
		var needed []float64
		for range tt.runs {
			var reg sequential.Regression
			n := 0.0
			for range tt.deadline {
				tk := second(r, 100, .05, tt.pc, tt.ps)
				n += tk.Canary.N
				if reg.Update(&c, tk, 1) {
					break
				}
			}
			needed = append(needed, n)
		}
		within(t, tt.what, median(needed), tt.want, 0.15)
	}
}

func TestRequestsUntilGoodEnough(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	a := sequential.DefaultAcceptance()
	for _, tt := range []struct {
		what    string
		p, want float64
	}{{"0.1%", 0.001, 351}, {"1%", 0.01, 512}} {
		var needed []float64
		for range 400 {
			var acc sequential.Acceptance
			n := 0.0
			for {
				tk := second(r, 100, .05, tt.p, tt.p)
				n += tk.Canary.N
				if acc.Update(&a, tk, 1) {
					break
				}
			}
			needed = append(needed, n)
		}
		within(t, tt.what, median(needed), tt.want, 0.12)
	}
}

// A canary just beyond what is good enough is called so in at most 5 steps of 100, though
// it is looked at every second.
func TestAVersionBeyondGoodEnoughIsSeldomCalledGood(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	a := sequential.DefaultAcceptance()
	for _, stable := range []float64{0.001, 0.05} {
		const steps = 400
		wrong := 0
		for range steps {
			var acc sequential.Acceptance
			for range 900 {
				if acc.Update(&a, second(r, 100, .05, a.Ratio*stable+a.Slack, stable), 1) {
					wrong++
					break
				}
			}
		}
		t.Logf("stable %v: %d of %d steps", stable, wrong, steps)
		if wrong > steps*5/100 {
			t.Errorf("stable %v: %d of %d steps were called good", stable, wrong, steps)
		}
	}
}

func TestHealthyReleasesAreNotRolledBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	c := sequential.DefaultRegression()
	for _, tt := range []struct {
		perSecond, p float64
	}{{0.1, 0.01}, {1, 0.01}, {10, 0.001}, {100, 0.01}, {100, 0.2}} {
		for range 100 {
			var reg sequential.Regression
			for s := range 1000 {
				p := tt.p
				if s%200 < 10 {
					p = 0.5 // an outage that hits both versions alike
				}
				w := []float64{.05, .25, .5}[s/334]
				if reg.Update(&c, second(r, tt.perSecond, w, p, p), 1) {
					t.Fatalf("%+v: rolled back after %d s", tt, s)
				}
			}
		}
	}
}

func TestACanaryThatTurnsBadAfterAnHourIsFoundAlmostAsSoon(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	c := sequential.DefaultRegression()
	var needed []float64
	for range 60 {
		var reg sequential.Regression
		for range 3600 {
			reg.Update(&c, tick(5, 0, 95, 0, .05), 1)
		}
		n := 0.0
		for range 200 {
			tk := second(r, 100, .05, 0.2, 0.001)
			n += tk.Canary.N
			if reg.Update(&c, tk, 1) {
				break
			}
		}
		needed = append(needed, n)
	}
	if m := median(needed); m > 3*27 {
		t.Errorf("it takes %v canary requests after an hour, 27 at the start", m)
	}
}

func TestACanaryThatHangsIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	b := sequential.Bound{Alpha: 0.0001, Ticks: 3}
	var healthy, hung sequential.Completions
	n := 0
	for range 1000 {
		if healthy.Update(b, sequential.DefaultAnswered, second(r, 100, .05, 0, 0), 1) {
			t.Fatal("a healthy canary was taken for one that hangs")
		}
	}
	for !hung.Update(b, sequential.DefaultAnswered, tick(0, 0, 95, 0, .05), 1) {
		n++
	}
	if n > 10 {
		t.Errorf("a canary that answers nothing is found after %d s", n)
	}
}

func TestStillNeededIsWhatItTakes(t *testing.T) {
	a := sequential.DefaultAcceptance()
	var acc sequential.Acceptance
	if _, ok := acc.StillNeeded(&a, 1); ok {
		t.Error("an estimate from nothing")
	}
	steady := tick(5, 0.005, 95, 0.095, .05)
	for range 20 {
		acc.Update(&a, steady, 1)
	}
	need, ok := acc.StillNeeded(&a, 1)
	double, _ := acc.StillNeeded(&a, 2)
	took := 0.0
	for !acc.Update(&a, steady, 1) {
		took += 5
	}
	t.Logf("said %v, took %v", need, took)
	if !ok || need < took*0.9 || need > took*1.6 {
		t.Errorf("said %v more canary requests, it took %v", need, took)
	}
	if double <= need {
		t.Errorf("with failures in pairs %v requests, without %v", double, need)
	}
	if n, ok := acc.StillNeeded(&a, 1); !ok || n != 0 {
		t.Errorf("accepted, but %v more", n)
	}
	var bad sequential.Acceptance
	for range 20 {
		bad.Update(&a, tick(5, 2, 95, 0, .05), 1)
	}
	if n, ok := bad.StillNeeded(&a, 1); ok {
		t.Errorf("a canary that fails 40%% is said to be accepted after %v more", n)
	}
}

// pods deals a block of requests to pods; bad ones come in clumps.
func pods(r *rand.Rand, k int, perPod, rate float64, clump int) []sequential.Counts {
	out := make([]sequential.Counts, k)
	for i := range out {
		out[i].N = perPod
		out[i].X = min(poisson(r, perPod*rate/float64(clump))*float64(clump), perPod)
	}
	return out
}

func TestSpreadFindsTheSizeOfClumps(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for _, clump := range []int{1, 5, 20} {
		var s sequential.Spread
		var d sequential.Drift
		for range 360 {
			block := pods(r, 10, 1000, 0.01, clump)
			s.Add(block)
			d.Add(sequential.Counts{N: 10000, X: block[0].X + block[1].X})
		}
		if got := s.Clump(); got < 0.8*float64(clump) || got > 1.2*float64(clump)+0.1 {
			t.Errorf("clumps of %d: Spread says %v", clump, got)
		}
		if got := d.Clump(); got < 0.6*float64(clump) {
			t.Errorf("clumps of %d: Drift says %v", clump, got)
		}
	}
	var shared sequential.Spread
	for i := range 360 {
		rate := 0.001
		if i%20 == 0 {
			rate = 0.5
		}
		block := make([]sequential.Counts, 10)
		for j := range block {
			block[j].N = 1000
			for range 1000 {
				if r.Float64() < rate {
					block[j].X++
				}
			}
		}
		shared.Add(block)
	}
	if got := shared.Clump(); got > 1.2 {
		t.Errorf("outages that all pods share are taken for clumps of %v", got)
	}
}

func TestClumpsDoNotRollBackWithTheirSizeKnown(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	c := sequential.DefaultRegression()
	rolledBack := [2]int{}
	const runs = 100
	for range runs {
		var without, with sequential.Regression
		for range 600 {
			// Sticky users of ten requests fail together.
			tk := second(r, 1000, .05, 0, 0)
			tk.Canary.X = min(10*poisson(r, tk.Canary.N*0.01/10), tk.Canary.N)
			tk.Stable.X = min(10*poisson(r, tk.Stable.N*0.01/10), tk.Stable.N)
			without.Update(&c, tk, 1)
			with.Update(&c, tk, 10)
		}
		if without.Crossed {
			rolledBack[0]++
		}
		if with.Crossed {
			rolledBack[1]++
		}
	}
	t.Logf("of %d healthy releases with clumps, rolled back: %d not knowing, %d knowing their size", runs, rolledBack[0], rolledBack[1])
	if rolledBack[1] > 1 || rolledBack[0] < 10 {
		t.Errorf("rolled back: %d not knowing, %d knowing the size of clumps", rolledBack[0], rolledBack[1])
	}
}

func TestPlaceboNamesThePodThatFailsAlone(t *testing.T) {
	c := sequential.DefaultRegression()
	p := sequential.Placebo{Pods: []sequential.PlaceboPod{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	for range 50 {
		for i := range p.Pods {
			p.Pods[i].Counts = sequential.Counts{N: 100, X: 1}
		}
		if got := p.Update(&c, 1); got != "" {
			t.Fatalf("equal pods, but %s crossed", got)
		}
	}
	got := ""
	for range 10 {
		p.Pods[1].Counts.X = 60
		got = p.Update(&c, 1)
	}
	if got != "b" {
		t.Errorf("%q crossed, want b", got)
	}
}

// logNormal gives the histogram of n latencies, with bounds that grow by 2^(1/8).
func logNormal(r *rand.Rand, n int, scale, extra, extraShare float64) []sequential.Bucket {
	var h []sequential.Bucket
	for i := range 112 {
		h = append(h, sequential.Bucket{Le: 0.0005 * math.Pow(2, float64(i)/8)})
	}
	h = append(h, sequential.Bucket{Le: math.Inf(1)})
	for range n {
		v := 0.02 * scale * math.Exp(0.7*r.NormFloat64())
		if r.Float64() < extraShare {
			v += extra
		}
		i := max(int(math.Ceil(8*math.Log2(v/0.0005))), 0)
		h[min(i, len(h)-1)].Count++
	}
	for i := 1; i < len(h); i++ {
		h[i].Count += h[i-1].Count
	}
	return h
}

func TestLatency(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	before := logNormal(r, 20000, 1, 0, 0)
	var bounds []float64
	for _, b := range before {
		bounds = append(bounds, b.Le)
	}
	edges := sequential.LearnEdges(before, bounds, sequential.DefaultShift())
	if len(edges) != 6 {
		t.Fatalf("edges: %+v", edges)
	}
	for _, e := range edges {
		if e.Canary < e.Stable*1.18 || e.Canary > e.Stable*1.4 && e.Canary > e.Stable+0.008 {
			t.Errorf("edge %+v", e)
		}
	}
	b := sequential.Bound{Alpha: 0.001, Ticks: 3}
	for _, tt := range []struct {
		what                 string
		scale, extra, share  float64
		want                 float64
		tolerance            float64
		runs, ticksAtTheMost int
	}{
		{"half slower", 1.5, 0, 0, 321, 0.3, 60, 400},
		{"twice as slow", 2, 0, 0, 64, 0.3, 100, 400},
		{"1% a second slower", 1, 1, 0.01, 1506, 0.3, 30, 1500},
	} {
		var needed []float64
		for range tt.runs {
			l := sequential.Latency{Edges: edges}
			n := 0.0
			for range tt.ticksAtTheMost {
				nc := poisson(r, 5)
				n += nc
				if l.Update(b, logNormal(r, int(poisson(r, 95)), 1, 0, 0), logNormal(r, int(nc), tt.scale, tt.extra, tt.share), .05, 1) >= 0 {
					break
				}
			}
			needed = append(needed, n)
		}
		within(t, tt.what, median(needed), tt.want, tt.tolerance)
	}
	for _, scale := range []float64{0.5, 1, 1.1} {
		for range 20 {
			l := sequential.Latency{Edges: edges}
			for range 300 {
				if l.Update(b, logNormal(r, 95, 1, 0, 0), logNormal(r, 5, scale, 0, 0), .05, 1) >= 0 {
					t.Fatalf("a canary %v times as slow was taken for slower", scale)
				}
			}
		}
	}
}

func TestEdgesNeedEnoughOfStable(t *testing.T) {
	few := []sequential.Bucket{{Le: 0.1, Count: 900}, {Le: math.Inf(1), Count: 999}}
	if e := sequential.LearnEdges(few, []float64{0.1, 0.2}, sequential.DefaultShift()); e != nil {
		t.Errorf("learned %+v from 999 requests", e)
	}
	if e := sequential.LearnEdges(nil, nil, sequential.DefaultShift()); e != nil {
		t.Errorf("learned %+v from nothing", e)
	}
	coarse := []sequential.Bucket{{Le: 0.1, Count: 9900}, {Le: 1, Count: 9995}, {Le: math.Inf(1), Count: 10000}}
	// At 1 s only five requests lie above, and only one edge is left of those at 0.1 s.
	e := sequential.LearnEdges(coarse, []float64{0.1, 1, math.Inf(1)}, sequential.DefaultShift())
	if len(e) != 1 || e[0].Stable != 0.1 || e[0].Canary != 1 {
		t.Errorf("%+v", e)
	}
	// A histogram without the edge is a tick without evidence.
	l := sequential.Latency{Edges: e}
	l.Update(sequential.Bound{Alpha: 0.001, Ticks: 1}, coarse, []sequential.Bucket{{Le: 2, Count: 0}, {Le: math.Inf(1), Count: 100}}, .5, 1)
	near(t, "evidence", l.Tests[0].Evidence(), 1)
}

func TestIntervalsHoldTheTruthAtAllTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	const runs, alpha = 200, 0.1
	missedRate, missedExcess := 0, 0
	for range runs {
		var c sequential.Counts
		var x sequential.Excess
		rateOut, excessOut := false, false
		for range 100 {
			tk := second(r, 100, .25, 0.05, 0.02)
			c.N, c.X = c.N+tk.Canary.N, c.X+tk.Canary.X
			x.Update(tk, 1)
			if low, high := sequential.RateInterval(c, alpha); low > 0.05 || high < 0.05 {
				rateOut = true
			}
			if low, high := x.Interval(alpha); low > 0.03 || high < 0.03 {
				excessOut = true
			}
		}
		if rateOut {
			missedRate++
		}
		if excessOut {
			missedExcess++
		}
	}
	low, high := func() (float64, float64) {
		var x sequential.Excess
		for range 200 {
			x.Update(tick(25, 5, 75, 0, .25), 1)
		}
		return x.Interval(0.05)
	}()
	t.Logf("missed: rate %d, excess %d of %d; 20%% against 0: [%.3f, %.3f]", missedRate, missedExcess, runs, low, high)
	if missedRate > runs/10 || missedExcess > runs/10 {
		t.Errorf("missed: rate %d, excess %d of %d at 10%%", missedRate, missedExcess, runs)
	}
	if low < 0.1 || low > 0.2 || high < 0.2 {
		t.Errorf("the excess of 20%% over 0 is in [%v, %v]", low, high)
	}
}

func TestOneArm(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	b := sequential.Bound{Alpha: 0.001, Ticks: 3}
	var fine, broken sequential.OneArm
	var good sequential.AcceptArm
	accepted := false
	for range 1000 {
		tk := second(r, 100, .05, 0.01, 0)
		if fine.Update(b, tk.Canary, 0.01, 1) {
			t.Fatal("1% is not above 1%")
		}
		accepted = good.Update(0.05, tk.Canary, 0.05, 1) || accepted
	}
	if !accepted {
		t.Error("1% was never accepted as below 5%")
	}
	n := 0
	for !broken.Update(b, second(r, 100, .05, 0.2, 0).Canary, 0.01, 1) {
		if n++; n > 100 {
			t.Fatal("20% is not found to be above 1%")
		}
	}
}

func TestBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	b := sequential.Bound{Alpha: 0.001, Ticks: 3}
	for range 100 {
		var o sequential.Bounded
		for range 500 {
			if o.Update(b, r.Float64(), 0.5) {
				t.Fatal("a mean of 0.5 was taken for more")
			}
		}
	}
	var o sequential.Bounded
	o.Update(b, math.NaN(), 0.5)
	o.Update(b, 2, 0.5)
	n := 1
	for !o.Update(b, 0.8+0.2*r.Float64(), 0.5) {
		n++
	}
	if n > 30 {
		t.Errorf("it takes %d numbers around 0.9 to see that their mean is above 0.5", n)
	}
}
