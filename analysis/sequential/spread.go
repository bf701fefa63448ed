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

// PlaceboPod is the test of one place among the pods: when a pod goes, another may take its place, and the test
// goes on with that one, as the release's own does with the pods of the canary.
type PlaceboPod struct {
	// Name is that of the pod that has the place now.
	Name string     `json:"name"`
	Test Regression `json:"test"`
	// Idle is how many requests the other pods answered since this one answered any.
	Idle float64 `json:"idle,omitempty"`
	// Counts are those of the tick that Update adds; the caller begins them anew.
	Counts Counts `json:"counts,omitzero"`
}

// idlePerPod is how many requests for each of the pods it takes to take one for gone that answers none: an equal
// one answers none of so many with a probability of e^-20.
const idlePerPod = 20

func (p *Placebo) gone(i int) bool { return p.Pods[i].Idle > idlePerPod*float64(len(p.Pods)) }

// Seat adds to the counts of a tick what a pod did in it. A pod without a place takes that of a pod that is gone, or a
// new one while there are fewer than most. Pods that answered nothing need not be named.
func (p *Placebo) Seat(name string, c Counts, most int) {
	free := -1
	for i := range p.Pods {
		if p.Pods[i].Name == name {
			p.Pods[i].Counts.N, p.Pods[i].Counts.X = p.Pods[i].Counts.N+c.N, p.Pods[i].Counts.X+c.X
			return
		}
		if free < 0 && p.gone(i) {
			free = i
		}
	}
	switch {
	case free >= 0:
		p.Pods[free].Name, p.Pods[free].Idle, p.Pods[free].Counts = name, 0, c
	case len(p.Pods) < most:
		p.Pods = append(p.Pods, PlaceboPod{Name: name, Counts: c})
	}
}

// Waiting tells whether a tick has too few requests yet to show how they were really dealt to the pods. Ticks may be
// of any length; nobody knows which part of the requests a pod should have got while pods come and go.
func (p *Placebo) Waiting() bool {
	n := 0.0
	for i := range p.Pods {
		n += p.Pods[i].Counts.N
	}
	return n <= busy*float64(len(p.Pods))
}

// Update adds a tick and gives the first pod that ever crossed, in the order of the list, or "". It needs at least
// two pods.
func (p *Placebo) Update(c *RegressionTest, clump float64) string {
	var all Counts
	pods := 0
	for i := range p.Pods {
		pod := &p.Pods[i]
		all.N, all.X = all.N+pod.Counts.N, all.X+pod.Counts.X
		if pod.Counts.N > 0 {
			pod.Idle = 0
		}
		if !p.gone(i) {
			pods++
		}
	}
	crossed := ""
	for i := range p.Pods {
		pod := &p.Pods[i]
		if pod.Counts.N <= 0 {
			pod.Idle += all.N
		}
		if pods > 1 && !p.gone(i) {
			t := Tick{Canary: pod.Counts, Stable: Counts{N: all.N - pod.Counts.N, X: all.X - pod.Counts.X}, Weight: 1 / float64(pods)}
			pod.Test.Update(c, t, clump)
		}
		if pod.Test.Crossed && crossed == "" {
			crossed = pod.Name
		}
	}
	return crossed
}
