// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"fmt"
	"testing"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
)

// inPods is a tick whose requests of stable are dealt to the pods from first to last-1; the pod bad fails all of its own.
func (w *world) inPods(weight float64, first, last, bad int) trial.Tick {
	k := w.second(weight)
	pods := make([]sequential.Counts, last-first)
	n, x := k.Stable.Requests.N, k.Stable.Requests.X
	for i := range int(n) {
		p := &pods[w.r.IntN(len(pods))]
		p.N++
		if i < int(x) {
			p.X++
		}
	}
	k.StablePods, k.Stable.Requests = nil, sequential.Counts{}
	for i, c := range pods {
		if c.N == 0 {
			continue // as the proxies have it: only endpoints that answered
		}
		if first+i == bad {
			c.X = c.N
		}
		k.Stable.Requests = sequential.Counts{N: k.Stable.Requests.N + c.N, X: k.Stable.Requests.X + c.X}
		k.StablePods = append(k.StablePods, trial.Pod{Name: fmt.Sprintf("stable-%03d", first+i), Requests: c})
	}
	return k
}

func TestPodsThatComeLaterAreLookedAt(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, last int
		bad         int
	}{
		{"all are replaced", 100, 104, 102},
		{"one is replaced", 1, 5, 4},
		{"more are started", 0, 8, 7},
		{"all but two are stopped", 2, 4, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, c := newWorld(13), trial.Default()
			tr := before(w, &c, 30)
			for range 30 {
				tr.Add(&c, w.inPods(.05, 0, 4, -1))
			}
			for range 30 {
				tr.Add(&c, w.inPods(.05, tt.first, tt.last, -1))
			}
			if tr.Odd != "" {
				t.Fatalf("%s is odd, but only came or stayed", tr.Odd)
			}
			for range 8 {
				tr.Add(&c, w.inPods(.05, tt.first, tt.last, tt.bad))
			}
			if want := fmt.Sprintf("stable-%03d", tt.bad); tr.Odd != want {
				t.Errorf("the odd pod is %q, want %s", tr.Odd, want)
			}
		})
	}
}

// Pods that come and go, few and many, with much and with little traffic, are no sign of anything.
func TestPodsComeAndGo(t *testing.T) {
	for _, perSecond := range []float64{2, 20, 400} {
		for seed := range uint64(10) {
			w, c := newWorld(seed), trial.Default()
			w.perSecond = perSecond
			tr := before(w, &c, 30)
			first, last := 0, 30
			for s := range 900 {
				tr.Add(&c, w.inPods(.25, first, last, -1))
				switch {
				case s == 100: // scaled down
					first, last = 27, 30
				case s%50 == 49: // one after the other
					first, last = first+1, last+1
				case s == 610: // scaled up
					last += 20
				}
			}
			if tr.Odd != "" || tr.Verdict(&c).Result == trial.Bad {
				t.Errorf("%v requests a second, seed %d: %q is odd; %+v", perSecond, seed, tr.Odd, tr.Verdict(&c))
			}
			if n := len(tr.Placebo.Pods); n > 20 {
				t.Errorf("%d pods are remembered", n)
			}
		}
	}
}

// Where hardly two requests fall into a tick, a pod that fails is found all the same.
func TestAPodThatFailsIsFoundInLittleTraffic(t *testing.T) {
	w, c := newWorld(5), trial.Default()
	w.perSecond = 1
	tr := before(w, &c, 30)
	for range 400 {
		tr.Add(&c, w.inPods(.25, 0, 4, -1))
	}
	for range 120 {
		tr.Add(&c, w.inPods(.25, 0, 4, 2))
	}
	if tr.Odd != "stable-002" {
		t.Errorf("the odd pod is %q", tr.Odd)
	}
}
