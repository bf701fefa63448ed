// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"

	"headgate.dev/headgate/analysis/sequential"
)

// world is what both versions live in, second by second. Where it says nothing
// else the canary is as good as stable.
type world struct {
	// perSecond is the requests of both arms together.
	perSecond float64
	// base is the rate of bad requests of both arms; canary, where it is above 0,
	// that of the canary.
	base, canary float64
	// weight is what was asked for at second s.
	weight func(s int) float64
	// split is what the canary really gets, where it is not the weight.
	split float64
	// outages: 10 s of 30 % bad requests in every 200 s, of both arms.
	outages bool
	// wandering: traffic and the rate of bad requests follow AR(1) processes that
	// both arms share, with a coefficient of 0.97 and steps of 0.25 on a log scale.
	wandering bool
	// session is the mean number of requests of a session that fails whole; 0: none.
	session float64
	// bursts hit single pods.
	bursts burst
}

// burst is a pod that fails for a while: on average once in every seconds.
type burst struct {
	every, lasts, share float64
}

// pods is how many pods there are; at 5 % one of them is the canary's.
const pods = 20

// traffic deals the seconds of one world.
type traffic struct {
	world
	r *rand.Rand
	// load and trouble are the two wandering processes, as logarithms.
	load, trouble float64
	// until is when each pod's burst ends.
	until map[int]float64
	// perPod is what each pod of stable did in the last second.
	perPod []sequential.Counts
	canary sequential.Counts
}

func newTraffic(w world, seed uint64) *traffic {
	return &traffic{world: w, r: rand.New(rand.NewPCG(seed, 7)), until: map[int]float64{}}
}

// canaryPods is how many of the pods are the canary's at a weight.
func canaryPods(weight float64) int { return max(1, int(math.Round(pods*weight))) }

// second plays second s and gives its tick. The release begins at 0.
func (t *traffic) second(s int) sequential.Tick {
	weight := t.weight(s)
	share := weight
	if t.split > 0 {
		share = t.split
	}
	if t.wandering {
		t.load = 0.97*t.load + 0.25*t.r.NormFloat64()
		t.trouble = 0.97*t.trouble + 0.25*t.r.NormFloat64()
	}
	requests, bad := t.perSecond*math.Exp(t.load), min(t.base*math.Exp(t.trouble), 1)
	if t.outages && (s+hourBefore)%200 < 10 {
		bad = 0.3
	}
	canaries := canaryPods(weight)
	t.perPod, t.canary = t.perPod[:0], sequential.Counts{}
	var stable sequential.Counts
	for p := range pods {
		mean := requests * share / float64(canaries)
		rate := bad
		if p >= canaries {
			mean = requests * (1 - share) / float64(pods-canaries)
		} else if t.world.canary > 0 {
			rate = t.world.canary
		}
		if t.bursting(p, float64(s)) {
			rate = t.bursts.share
		}
		c := t.pod(mean, rate)
		if p < canaries {
			t.canary = plus(t.canary, c)
			continue
		}
		t.perPod = append(t.perPod, c)
		stable = plus(stable, c)
	}
	return sequential.Tick{Canary: t.canary, Stable: stable, Weight: weight}
}

func plus(a, b sequential.Counts) sequential.Counts {
	return sequential.Counts{N: a.N + b.N, X: a.X + b.X}
}

// pod is one second of one pod: good and bad requests come independently, bad ones
// perhaps as whole sessions.
func (t *traffic) pod(mean, rate float64) sequential.Counts {
	bad := 0.0
	if t.session > 1 {
		for range int(poisson(t.r, mean*rate/t.session)) {
			bad += geometric(t.r, t.session)
		}
	} else {
		bad = poisson(t.r, mean*rate)
	}
	return sequential.Counts{N: poisson(t.r, mean*(1-rate)) + bad, X: bad}
}

// bursting tells whether pod p fails in second s.
func (t *traffic) bursting(p int, s float64) bool {
	if t.bursts.every <= 0 {
		return false
	}
	end, hit := t.until[p]
	if (!hit || s >= end) && t.r.Float64() < 1/t.bursts.every {
		end, hit = s+t.bursts.lasts, true
		t.until[p] = end
	}
	return hit && s < end
}

// geometric draws 1, 2, … with the given mean.
func geometric(r *rand.Rand, mean float64) float64 {
	return 1 + math.Floor(math.Log(1-r.Float64())/math.Log(1-1/mean))
}

// poisson draws a number of events. Small means by counting exponential gaps,
// large ones by transformed rejection (Hörmann 1993, algorithm PTRS).
func poisson(r *rand.Rand, mean float64) float64 {
	if mean < 12 {
		n := 0.0
		for t := r.ExpFloat64(); t < mean; t += r.ExpFloat64() {
			n++
		}
		return n
	}
	b := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*b
	accept := 0.9277 - 3.6224/(b-2)
	for {
		u, v := r.Float64()-0.5, r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + mean + 0.43)
		if us >= 0.07 && v <= accept {
			return k
		}
		if k < 0 || us < 0.013 && v > us {
			continue
		}
		lgamma, _ := math.Lgamma(k + 1)
		if math.Log(v*(1.1239+1.1328/(b-3.4))/(a/(us*us)+b)) <= k*math.Log(mean)-mean-lgamma {
			return k
		}
	}
}

// latencies gives the histogram of n log-normal latencies of median 20 ms and σ 0.7,
// times scale; slowShare of them take slow seconds more. Bounds grow by 2^(1/8).
func latencies(r *rand.Rand, n int, scale, slow, slowShare float64) []sequential.Bucket {
	const bounds = 112
	h := make([]sequential.Bucket, bounds+1)
	for i := range bounds {
		h[i].Le = 0.0005 * math.Pow(2, float64(i)/8)
	}
	h[bounds].Le = math.Inf(1)
	for range n {
		v := 0.02 * scale * math.Exp(0.7*r.NormFloat64())
		if r.Float64() < slowShare {
			v += slow
		}
		h[min(max(int(math.Ceil(8*math.Log2(v/0.0005))), 0), bounds)].Count++
	}
	for i := 1; i < len(h); i++ {
		h[i].Count += h[i-1].Count
	}
	return h
}
