// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"slices"
	"strings"

	"headgate.dev/headgate/analysis/sequential"
)

// blockTicks is how many ticks are one block when it is learned how failures clump.
const blockTicks = 10

// maxPods bounds how many pods of stable are looked at one by one, so that a trial
// stays small however large the Deployment is. Those that answered first are taken.
const maxPods = 20

// Clumping learns how many bad requests come together: from how much pods differ where
// they are counted one by one, else from how much stable varies.
type Clumping struct {
	Spread sequential.Spread `json:"spread"`
	Drift  sequential.Drift  `json:"drift"`
	// The block that is being filled.
	Ticks int               `json:"ticks,omitempty"`
	All   sequential.Counts `json:"all"`
	Pods  []Pod             `json:"pods,omitempty"`
}

// Size is the number of bad requests that come together, at least 1.
func (c *Clumping) Size() float64 {
	if c.Spread.Expected > 0 || c.Spread.Seen > 0 {
		return c.Spread.Clump()
	}
	return c.Drift.Clump()
}

func (c *Clumping) add(all sequential.Counts, pods []Pod) {
	c.All = plus(c.All, all)
	for _, p := range pods {
		i, known := slices.BinarySearchFunc(c.Pods, p.Name, func(a Pod, name string) int { return strings.Compare(a.Name, name) })
		if !known {
			c.Pods = slices.Insert(c.Pods, i, Pod{Name: p.Name})
		}
		c.Pods[i].Requests = plus(c.Pods[i].Requests, p.Requests)
	}
	if c.Ticks++; c.Ticks < blockTicks {
		return
	}
	c.Drift.Add(c.All)
	if len(c.Pods) > 1 {
		counts := make([]sequential.Counts, len(c.Pods))
		for i, p := range c.Pods {
			counts[i] = p.Requests
		}
		c.Spread.Add(counts)
	}
	c.Ticks, c.All, c.Pods = 0, sequential.Counts{}, c.Pods[:0]
}

// addPods runs the test of errors on pods of stable, where nothing changed, whichever these are. A pod
// that crosses before the canary does shows that requests of one pod fail together here.
func (t *Trial) addPods(c *Config, k Tick, clump float64) {
	i := slices.IndexFunc(c.Metrics, func(m Metric) bool { return m.Kind == Errors && m.Limit == 0 })
	if i < 0 || len(k.StablePods) == 0 || k.Weight >= 1 {
		return
	}
	m := &c.Metrics[i]
	for _, p := range k.StablePods {
		if (sequential.Tick{Stable: p.Requests}).Usable() {
			t.Placebo.Seat(p.Name, p.Requests, maxPods)
		}
	}
	if t.Placebo.Waiting() {
		return
	}
	crossed := t.Placebo.Update(&sequential.RegressionTest{Bound: c.bound(m), Tolerance: m.Tolerance}, clump)
	for j := range t.Placebo.Pods {
		t.Placebo.Pods[j].Counts = sequential.Counts{}
	}
	if crossed != "" && t.Odd == "" && !t.Metrics[i].Worse.Crossed {
		t.Odd = crossed
	}
}

// addSplit watches whether the canary gets what it should. No version answers more
// than it is sent.
func (t *Trial) addSplit(c *Config, tick sequential.Tick) {
	t.Surplus.Update(sequential.Bound{Alpha: c.Alpha, Ticks: c.Ticks}, tick, 1)
}
