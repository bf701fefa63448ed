// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
)

// version is how one version behaves.
type version struct {
	// fails is its rate of bad requests, slower what its latencies are multiplied with,
	// silent the share of requests that it never answers.
	fails, slower, silent float64
}

// world plays seconds of traffic.
type world struct {
	r              *rand.Rand
	perSecond      float64
	stable, canary version
	pods           int
}

func newWorld(seed uint64) *world {
	return &world{r: rand.New(rand.NewPCG(seed, 1)), perSecond: 200, pods: 4, stable: version{fails: .005, slower: 1}, canary: version{fails: .005, slower: 1}}
}

func (w *world) poisson(mean float64) float64 {
	n := 0.0
	for t := w.r.ExpFloat64(); t < mean; t += w.r.ExpFloat64() {
		n++
	}
	return n
}

// arm is n requests of a version, with a histogram whose bounds grow by 2^(1/8).
func (w *world) arm(v version, n float64) trial.Arm {
	a := trial.Arm{}
	for i := range 96 {
		a.Latency = append(a.Latency, sequential.Bucket{Le: 0.001 * math.Pow(2, float64(i)/8)})
	}
	a.Latency = append(a.Latency, sequential.Bucket{Le: math.Inf(1)})
	for range int(n) {
		if w.r.Float64() < v.silent {
			continue
		}
		a.Requests.N++
		if w.r.Float64() < v.fails {
			a.Requests.X++
		}
		seconds := 0.05 * v.slower * math.Exp(0.5*w.r.NormFloat64())
		a.Latency[min(max(int(math.Ceil(8*math.Log2(seconds/0.001))), 0), 96)].Count++
	}
	for i := 1; i < len(a.Latency); i++ {
		a.Latency[i].Count += a.Latency[i-1].Count
	}
	return a
}

func (w *world) second(weight float64) trial.Tick {
	k := trial.Tick{Weight: weight, Canary: w.arm(w.canary, w.poisson(w.perSecond*weight)), Stable: w.arm(w.stable, w.poisson(w.perSecond*(1-weight)))}
	for i := range w.pods {
		k.StablePods = append(k.StablePods, trial.Pod{Name: fmt.Sprintf("stable-%d", i)})
	}
	for i := range int(k.Stable.Requests.N) {
		pod := &k.StablePods[w.r.IntN(w.pods)]
		pod.Requests.N++
		if i < int(k.Stable.Requests.X) {
			pod.Requests.X++
		}
	}
	return k
}

// before lets a trial learn from stable for some seconds.
func before(w *world, c *trial.Config, seconds int) *trial.Trial {
	t := &trial.Trial{}
	for range seconds {
		k := w.second(0)
		t.Learn(c, k.Stable, k.StablePods)
	}
	return t
}

func find(t *testing.T, v trial.Verdict, name string) trial.Finding {
	t.Helper()
	for _, f := range v.Metrics {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no metric %q in %+v", name, v)
	return trial.Finding{}
}

func TestAHealthyReleaseGoesThroughItsSteps(t *testing.T) {
	for seed := range uint64(20) {
		w, c := newWorld(seed), trial.Default()
		tr := before(w, &c, 30)
		for _, weight := range []float64{.05, .25, .5, 1} {
			tr.Step()
			took := 0
			for tr.Verdict(&c).Result != trial.Good {
				if took++; took > 600 {
					t.Fatalf("seed %d: after %d s at %v: %+v", seed, took, weight, tr.Verdict(&c))
				}
				tr.Add(&c, w.second(weight))
				if v := tr.Verdict(&c); v.Result == trial.Bad {
					t.Fatalf("seed %d: a healthy canary is rolled back at %v: %+v", seed, weight, v)
				}
			}
			if took == 0 {
				t.Fatalf("seed %d: the step at %v passed on what an earlier step showed", seed, weight)
			}
		}
	}
}

func TestABadVersionIsRolledBackByTheMetricThatShowsIt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		canary version
		metric string
		// within is how many seconds at 5 % of 200 requests/s it may take.
		within int
	}{
		{"one that fails every request, after three ticks", version{fails: 1, slower: 1}, "errors", 3},
		{"one that fails a fifth", version{fails: .2, slower: 1}, "errors", 15},
		{"one that is three times as slow", version{fails: .005, slower: 3}, "latency", 15},
		{"one that never answers", version{fails: 0, slower: 1, silent: 1}, "answers", 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, c := newWorld(7), trial.Default()
			w.canary = tt.canary
			tr := before(w, &c, 30)
			took := 0
			for tr.Verdict(&c).Result != trial.Bad {
				tr.Add(&c, w.second(.05))
				if took++; took > 10*tt.within {
					t.Fatalf("not found after %d s: %+v", took, tr.Verdict(&c))
				}
			}
			v := tr.Verdict(&c)
			if f := find(t, v, tt.metric); f.Result != trial.Bad || f.Reason != trial.WorseThanTolerated || f.Against < f.AgainstBound {
				t.Errorf("%+v", f)
			}
			if took > tt.within || took < c.Ticks {
				t.Errorf("it took %d s, want %d to %d", took, c.Ticks, tt.within)
			}
			tr.Step()
			for range 600 {
				w.canary = w.stable
				tr.Add(&c, w.second(.25))
			}
			if tr.Verdict(&c).Result != trial.Bad {
				t.Error("what was proven is forgotten at the next step")
			}
		})
	}
}

func TestAtFullWeightTheCanaryIsComparedWithWhatStableDidBefore(t *testing.T) {
	for _, tt := range []struct {
		name   string
		canary version
		want   trial.Result
	}{
		{"as good as stable was", version{fails: .005, slower: 1}, trial.Good},
		{"failing", version{fails: .1, slower: 1}, trial.Bad},
		{"slow, which may be the machine", version{fails: .005, slower: 3}, trial.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, c := newWorld(3), trial.Default()
			tr := before(w, &c, 60)
			w.canary = tt.canary
			for range 60 {
				tr.Add(&c, w.second(1))
			}
			if v := tr.Verdict(&c); v.Result != tt.want {
				t.Errorf("%+v", v)
			}
		})
	}
}

// A machine that becomes slower while nothing serves beside the canary says nothing of it.
func TestWhatWasGoodEnoughBesideStableStaysSoWithoutIt(t *testing.T) {
	w, c := newWorld(3), trial.Default()
	tr := before(w, &c, 60)
	for range 60 {
		tr.Add(&c, w.second(.5))
	}
	tr.Step()
	w.canary.slower = 3
	for range 60 {
		tr.Add(&c, w.second(1))
	}
	v := tr.Verdict(&c)
	if f := find(t, v, "latency"); v.Result != trial.Good || f.Reason != trial.ComparedBefore {
		t.Errorf("%+v", v)
	}
}

// Requests that reach the versions by other ways than the weight say nothing of missing
// answers, nor of a split that is wrong.
func TestOtherRequestsAreNoMissingAnswers(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		for _, more := range []string{"stable", "canary"} {
			w, c := newWorld(3), trial.Default()
			tr := before(w, &c, 60)
			for range 60 {
				k := w.second(.2)
				k.Mixed = mixed
				for _, a := range []*trial.Arm{&k.Stable, &k.Canary} {
					if (a == &k.Stable) == (more == "stable") {
						*a = w.arm(w.stable, 4*a.Requests.N)
					}
				}
				tr.Add(&c, k)
			}
			if good := tr.Verdict(&c).Result == trial.Good; good != mixed {
				t.Errorf("mixed %v, more of %s: good %v", mixed, more, good)
			}
		}
	}
}

func TestSilenceIsUnknown(t *testing.T) {
	c := trial.Default()
	var tr trial.Trial
	check := func(want trial.Reason) {
		t.Helper()
		v := tr.Verdict(&c)
		if f := find(t, v, "errors"); v.Result != trial.Unknown || f.Reason != want {
			t.Errorf("%s: %+v", want, v)
		}
	}
	check(trial.NoTraffic)
	tr.Add(&c, trial.Tick{Weight: .05, Stable: trial.Arm{Requests: sequential.Counts{N: 20}}})
	check(trial.NoTraffic)
	tr.Add(&c, trial.Tick{Weight: .05, Canary: trial.Arm{Requests: sequential.Counts{N: 1}}, Stable: trial.Arm{Requests: sequential.Counts{N: 20}}})
	check(trial.TooFewRequests)
	if f := find(t, tr.Verdict(&c), "errors"); !f.NeededKnown || f.Needed < 100 || f.Needed > 1000 {
		t.Errorf("it says %v more canary requests are needed (%v)", f.Needed, f.NeededKnown)
	}
	if f := find(t, tr.Verdict(&c), "latency"); f.Reason != trial.Learning {
		t.Errorf("latency before stable is known: %+v", f)
	}
}

func TestTicksThatCannotBeTrueAreLeftOut(t *testing.T) {
	w, c := newWorld(5), trial.Default()
	tr := before(w, &c, 30)
	for range 5 {
		tr.Add(&c, w.second(.05))
	}
	was, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	good := w.second(.05)
	for name, change := range map[string]func(*trial.Tick){
		"more bad requests than requests":    func(k *trial.Tick) { k.Canary.Requests = sequential.Counts{N: 3, X: 5} },
		"a negative count":                   func(k *trial.Tick) { k.Stable.Requests.N = -1 },
		"a count that is no number":          func(k *trial.Tick) { k.Canary.Requests.N = math.NaN() },
		"an infinite count":                  func(k *trial.Tick) { k.Stable.Requests.N = math.Inf(1) },
		"requests of the canary at weight 0": func(k *trial.Tick) { k.Weight = 0 },
		"a weight above all":                 func(k *trial.Tick) { k.Weight = 1.5 },
	} {
		k := good
		change(&k)
		tr.Add(&c, k)
		is, err := json.Marshal(tr)
		if err != nil {
			t.Fatal(err)
		}
		if string(is) != string(was) {
			t.Errorf("%s: the evidence changed: %s", name, cmp.Diff(string(was), string(is)))
		}
	}
}

func TestATrialGoesOnAfterARestart(t *testing.T) {
	w, c := newWorld(11), trial.Default()
	w.canary = version{fails: .03, slower: 1.1}
	whole := before(w, &c, 30)
	restarted := &trial.Trial{}
	copyOf(t, whole, restarted)
	for s := range 120 {
		k := w.second(.25)
		whole.Add(&c, k)
		restarted.Add(&c, k)
		if s%7 == 0 {
			next := &trial.Trial{}
			copyOf(t, restarted, next)
			restarted = next
		}
		if diff := cmp.Diff(whole.Verdict(&c), restarted.Verdict(&c)); diff != "" {
			t.Fatalf("second %d: %s", s, diff)
		}
	}
}

func copyOf(t *testing.T, from, to *trial.Trial) {
	t.Helper()
	data, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 16<<10 {
		t.Errorf("a trial takes %d bytes", len(data))
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

func TestAPodOfStableThatFailsAloneHolds(t *testing.T) {
	w, c := newWorld(13), trial.Default()
	tr := before(w, &c, 30)
	for range 4 {
		k := w.second(.05)
		k.Stable.Requests.X -= k.StablePods[1].Requests.X
		k.StablePods[1].Requests.X = k.StablePods[1].Requests.N
		k.Stable.Requests.X += k.StablePods[1].Requests.X
		tr.Add(&c, k)
	}
	if tr.Odd != "stable-1" {
		t.Fatalf("odd pod: %q", tr.Odd)
	}
	w.canary.fails = 1
	for range 400 {
		tr.Add(&c, w.second(.05))
	}
	f := find(t, tr.Verdict(&c), "errors")
	if f.Result != trial.Unknown || f.Reason != trial.PodsFailTogether || f.Pod != "stable-1" {
		t.Errorf("%+v", f)
	}
}

func TestACanaryThatAnswersMoreThanItsShareHolds(t *testing.T) {
	w, c := newWorld(17), trial.Default()
	tr := before(w, &c, 30)
	for range 60 {
		k := w.second(.25)
		k.Weight = .05
		tr.Add(&c, k)
	}
	if v := tr.Verdict(&c); v.Result != trial.Unknown || find(t, v, "errors").Reason != trial.SplitNotAsAsked {
		t.Errorf("%+v", v)
	}
}

func TestNumbersInPlaceOfStable(t *testing.T) {
	c := trial.Default()
	c.Metrics = []trial.Metric{
		{Name: "errors", Kind: trial.Errors, Share: .5, Limit: .02, Enough: sequential.Tolerance{Ratio: 1.5, Slack: .01}},
		{Name: "p90", Kind: trial.Latency, Share: .3, Limit: .15, Quantile: .9, Enough: sequential.Tolerance{Ratio: 1.5, Slack: .01}},
	}
	for _, tt := range []struct {
		name   string
		canary version
		want   trial.Result
		metric string
	}{
		{"within both", version{fails: .001, slower: 1}, trial.Good, ""},
		{"failing", version{fails: .1, slower: 1}, trial.Bad, "errors"},
		{"slow", version{fails: .001, slower: 3}, trial.Bad, "p90"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(19)
			w.canary = tt.canary
			var tr trial.Trial
			for range 120 {
				tr.Add(&c, w.second(.25))
			}
			v := tr.Verdict(&c)
			if v.Result != tt.want {
				t.Fatalf("%+v", v)
			}
			if tt.metric != "" && find(t, v, tt.metric).Result != trial.Bad {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestOutagesOfBothRollNothingBack(t *testing.T) {
	for seed := range uint64(10) {
		w, c := newWorld(seed), trial.Default()
		tr := before(w, &c, 60)
		for s := range 600 {
			rate, slower := .005, 1.0
			if s%100 < 10 {
				rate, slower = .5, 4
			}
			w.stable, w.canary = version{fails: rate, slower: slower}, version{fails: rate, slower: slower}
			tr.Add(&c, w.second(.25))
			if v := tr.Verdict(&c); v.Result == trial.Bad {
				t.Fatalf("seed %d, second %d: %+v", seed, s, v)
			}
		}
	}
}

func TestATickAllocatesNextToNothing(t *testing.T) {
	w, c := newWorld(23), trial.Default()
	tr := before(w, &c, 30)
	k := w.second(.25)
	tr.Add(&c, k)
	if n := testing.AllocsPerRun(200, func() { tr.Add(&c, k) }); n > 1 {
		t.Errorf("%v allocations per tick", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	w, c := newWorld(23), trial.Default()
	tr := before(w, &c, 30)
	k := w.second(.25)
	b.ReportAllocs()
	for b.Loop() {
		tr.Add(&c, k)
	}
}
