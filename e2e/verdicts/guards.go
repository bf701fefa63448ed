// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strconv"

	"headgate.dev/headgate/analysis/sequential"
)

// blockSeconds is how long the blocks are from which the clumping is learned, and
// hourBefore for how long it is learned before the release.
const (
	blockSeconds = 10
	hourBefore   = 3600
)

// verdicts is what each form of the engine said of one healthy release.
type verdicts struct {
	perRequest, ticks, clumped, placebo, both, held, lindonMalek bool
}

// release plays one release under every form of the engine at once: same traffic.
func release(w world, seconds int, alpha float64, seed uint64) verdicts {
	t := newTraffic(w, seed)
	spread := learn(t)
	bare := sequential.RegressionTest{Bound: sequential.Bound{Alpha: alpha, Ticks: 1}, Tolerance: sequential.DefaultRegression().Tolerance}
	full := bare
	full.Ticks = 3
	var perRequest, ticks, clumped, both sequential.Regression
	var lm lindonMalek
	var v verdicts
	placebo, placeboClumped := newPlacebo(), newPlacebo()
	block := &block{}
	for s := range seconds {
		k := t.second(s)
		clump := spread.Clump()
		v.perRequest = perRequest.Update(&bare, k, 1)
		v.ticks = ticks.Update(&full, k, 1)
		v.clumped = clumped.Update(&full, k, clump)
		v.lindonMalek = v.lindonMalek || lm.update(k) >= -math.Log(alpha)
		first, firstClumped := feed(placebo, t, &full, 1), feed(placeboClumped, t, &full, clump)
		// A pod of stable that crosses first is no rollback: the release holds.
		if first == "" && v.ticks {
			v.placebo = true
		}
		v.held = v.held || firstClumped != "" && !v.both
		if !v.held && both.Update(&full, k, clump) {
			v.both = true
		}
		block.add(t, spread)
	}
	return v
}

// learn watches the pods of stable for an hour before the release.
func learn(t *traffic) *sequential.Spread {
	spread := &sequential.Spread{}
	block := &block{}
	for s := range hourBefore {
		t.second(s - hourBefore)
		block.add(t, spread)
	}
	return spread
}

// block adds up what the pods of stable did.
type block struct {
	pods    []sequential.Counts
	seconds int
}

func (b *block) add(t *traffic, spread *sequential.Spread) {
	if len(b.pods) != len(t.perPod) { // the weight changed, and with it the number of pods
		b.pods, b.seconds = make([]sequential.Counts, len(t.perPod)), 0
	}
	for i, c := range t.perPod {
		b.pods[i] = plus(b.pods[i], c)
	}
	if b.seconds++; b.seconds == blockSeconds {
		spread.Add(b.pods)
		clear(b.pods)
		b.seconds = 0
	}
}

func newPlacebo() *sequential.Placebo {
	p := &sequential.Placebo{}
	for i := range pods - 1 {
		p.Pods = append(p.Pods, sequential.PlaceboPod{Name: strconv.Itoa(i)})
	}
	return p
}

func feed(p *sequential.Placebo, t *traffic, c *sequential.RegressionTest, clump float64) string {
	for i := range p.Pods {
		p.Pods[i].Counts = sequential.Counts{}
		if i < len(t.perPod) {
			p.Pods[i].Counts = t.perPod[i]
		}
	}
	return p.Update(c, clump)
}

// lindonMalek is the test of the paper (arXiv 2011.03567) on the bad requests, with
// a Dirichlet prior around the weight that was asked for: what one would implement
// from it without the guards here.
type lindonMalek struct {
	weight, canary, all, log float64
}

// update gives the nats so far. A new weight keeps what was there and starts a new count.
func (l *lindonMalek) update(t sequential.Tick) float64 {
	w := t.Weight
	if w <= 0 || w >= 1 {
		return l.log
	}
	if l.weight != w {
		l.log, l.weight, l.canary, l.all = l.total(), w, 0, 0
	}
	l.canary += t.Canary.X
	l.all += t.Canary.X + t.Stable.X
	return l.total()
}

func (l *lindonMalek) total() float64 {
	if l.weight == 0 {
		return l.log
	}
	const concentration = 100
	a, b := concentration*l.weight, concentration*(1-l.weight)
	x, y := l.canary, l.all-l.canary
	return l.log + logBeta(a+x, b+y) - logBeta(a, b) - x*math.Log(l.weight) - y*math.Log(1-l.weight)
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}
