// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

// Spread learns how many bad requests come together, from how much the pods of
// stable differ. Requests of one session or one sick pod fail together; evidence
// counted per request would then be too strong. With clumps of at most φ bad
// requests, the evidence divided by φ is valid again, because a^(m/φ) ≤ 1+(m/φ)(a−1)
// for m ≤ φ.
type Spread struct {
	Seen     float64 `json:"seen"`
	Expected float64 `json:"expected"`
}

// prior is how many bad requests "independent" counts as.
const prior = 10

// Add adds what each pod of stable did in one block of about ten ticks. Outages
// that all pods share cancel.
func (s *Spread) Add(pods []Counts) {
	var all Counts
	for _, p := range pods {
		if !p.usable() {
			return
		}
		all.N, all.X = all.N+p.N, all.X+p.X
	}
	if all.N <= 0 {
		return
	}
	rate := all.X / all.N
	for _, p := range pods {
		d := p.X - p.N*rate
		s.Seen += d * d
		s.Expected += p.N * rate * (1 - p.N/all.N)
	}
}

// Clump is the estimate of φ, at least 1.
func (s *Spread) Clump() float64 {
	return max(1, (prior+s.Seen)/(prior+s.Expected))
}

// Drift estimates φ where the pods are not counted one by one, from how much
// stable's bad requests vary from block to block. It takes shared outages for
// clumps, so it is larger than a Spread: slower, and safe.
type Drift struct {
	Blocks float64 `json:"blocks"`
	Mean   float64 `json:"mean"`
	Square float64 `json:"square"`
}

// Add adds the bad requests of stable in one block.
func (d *Drift) Add(c Counts) {
	if !c.usable() {
		return
	}
	d.Blocks++
	delta := c.X - d.Mean
	d.Mean += delta / d.Blocks
	d.Square += delta * (c.X - d.Mean)
}

// Clump is the estimate of φ, at least 1.
func (d *Drift) Clump() float64 {
	return max(1, (prior+d.Square)/(prior+max(d.Blocks-1, 0)*d.Mean))
}

// Placebo runs the release's own test on each pod of stable against the others,
// where nothing changed. Equal pods are exchangeable, so a healthy canary is the
// first of all to cross with a probability of at most 1/(pods+1), whatever clumps
// inside a pod. A pod that crosses first means: requests of one pod fail together
// here, hold.
type Placebo struct {
	Pods []PlaceboPod `json:"pods"`
}

// PlaceboPod is the test of one pod.
type PlaceboPod struct {
	Name string     `json:"name"`
	Test Regression `json:"test"`
	// Counts is filled in by the caller before each Update.
	Counts Counts `json:"-"`
}

// Update adds a tick and gives the first pod that ever crossed, in the order of
// the list, or "". It needs at least two pods.
func (p *Placebo) Update(c *RegressionTest, clump float64) string {
	var all Counts
	for i := range p.Pods {
		all.N, all.X = all.N+p.Pods[i].Counts.N, all.X+p.Pods[i].Counts.X
	}
	crossed := ""
	for i := range p.Pods {
		pod := &p.Pods[i]
		t := Tick{Canary: pod.Counts, Stable: Counts{N: all.N - pod.Counts.N, X: all.X - pod.Counts.X}}
		if len(p.Pods) > 1 {
			t.Weight = 1 / float64(len(p.Pods))
		}
		if pod.Test.Update(c, t, clump) && crossed == "" {
			crossed = pod.Name
		}
	}
	return crossed
}
