// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trial judges one release by all that its requests say, tick by tick. It is
// pure: a [Trial] is a plain value that can be stored as JSON and goes on after a restart
// where it stopped, and a [Config] says what it is held against.
//
//	Learn ─▶ edges of latency, how failures clump       before the canary has traffic
//	Add   ─▶ evidence of every metric                   each tick of confirmed traffic
//	Step  ─▶ "good enough" begins anew                  at each new weight
//	Verdict  bad ▸ unknown ▸ good, with the numbers     whenever one likes
//
// Each metric owns a share of the allowed chance of a false rollback, and all shares add
// up to at most 1: whatever the metrics have to do with each other, the chance that any of
// them ever rolls back a tolerable version is at most Alpha (the union bound).
package trial

import (
	"headgate.dev/headgate/analysis/sequential"
)

// Kind is what a metric counts.
type Kind string

// The kinds of metrics.
const (
	// Errors counts bad requests among all.
	Errors Kind = "Errors"
	// Latency counts requests that are slower than bounds of a histogram.
	Latency Kind = "Latency"
	// Answers counts requests that were answered at all, against the canary's weight.
	Answers Kind = "Answers"
)

// Config is what a release is held against. When another one takes its place during a release, it is adopted.
type Config struct {
	// Alpha is the allowed chance of rolling back a tolerable version, over the whole
	// release and all metrics. Beta is the allowed chance of a step calling a version
	// good enough that is not.
	Alpha, Beta float64
	// Ticks is how many ticks it takes at least to roll back: 1 or more.
	Ticks   int
	Metrics []Metric
}

// Metric is one question about the requests.
type Metric struct {
	Name string
	Kind Kind
	// Share of Alpha, above 0. The shares of all metrics add up to at most 1.
	Share float64
	// Tolerance is what does not roll back, Enough what lets a step pass: the canary's rate
	// of bad requests at most Ratio times stable's plus Slack. For Latency only Enough
	// counts, of the requests above an edge. For Answers only Tolerance.Ratio counts: how
	// much of its share the canary must answer, 0 for the default.
	Tolerance, Enough sequential.Tolerance
	// Limit, where it is not 0, is compared with instead of stable. Errors: the largest
	// tolerable rate, in (0, 1). Latency: the longest tolerable time in seconds at Quantile.
	Limit float64
	// Quantile of a Latency metric, in (0, 1); 0 stands for six of them, from the
	// median to 0.999.
	Quantile float64
	// Shift is how much slower than stable a Latency metric lets the canary be.
	Shift sequential.Shift
}

// Arm is what one version did in one tick.
type Arm struct {
	// Requests that were answered, and the bad ones among them.
	Requests sequential.Counts
	// Latency is the histogram of this tick's requests; empty where there is none.
	Latency []sequential.Bucket
}

// Tick is what both versions did in one interval, during which the canary's confirmed
// share of the traffic was Weight, in [0, 1].
type Tick struct {
	Weight float64
	// Mixed is true when requests reach the versions by other ways than by Weight too, or do not
	// take them at random: then nothing is concluded from how many each of them answers.
	Mixed bool
	// OtherWays is true when requests reach the versions by other ways than by Weight too: what each of
	// them is asked for may differ, and of those requests the worst is assumed.
	OtherWays      bool
	Canary, Stable Arm
	// StablePods is Stable.Requests pod by pod; empty where that is not known.
	StablePods []Pod
}

// Pod is one pod of stable.
type Pod struct {
	Name     string
	Requests sequential.Counts
}

// Trial is the evidence of one release. Its zero value is the start.
type Trial struct {
	// Metrics is the evidence of each metric, in the order of the Config.
	Metrics []Evidence `json:"metrics,omitempty"`
	// Clumping is how bad requests come together.
	Clumping Clumping `json:"clumping"`
	// Placebo is the same test on pods of stable, where nothing changed.
	Placebo sequential.Placebo `json:"placebo"`
	// Surplus says whether the split can be trusted.
	Surplus sequential.Surplus `json:"surplus"`
	// Before is stable's histogram of what latency is learned from, until it is learned.
	Before []sequential.Bucket `json:"before,omitempty"`
	// Odd is the pod of stable that crossed before anything else did, "" for none.
	Odd string `json:"odd,omitempty"`
	// Weight is that of the newest tick.
	Weight float64 `json:"weight"`
	// OtherWays is true once requests reached the versions by other ways: what they did to the
	// evidence stays in it.
	OtherWays bool `json:"otherWays,omitempty"`
	// Canary and Stable are the requests of the present step.
	Canary sequential.Counts `json:"canary"`
	Stable sequential.Counts `json:"stable"`
	// StableEver is stable's requests of the whole release and of the time before it: what the
	// canary is compared with once stable has no traffic.
	StableEver sequential.Counts `json:"stableEver"`
}

// Evidence is what speaks against and for the canary by one metric.
type Evidence struct {
	Name string `json:"name"`
	// Of is the question that it answers.
	Of Metric `json:"of"`
	// Worse is the evidence against it by counts of bad requests, Good that for it.
	Worse *sequential.Regression `json:"worse,omitempty"`
	Good  *sequential.Acceptance `json:"good,omitempty"`
	// Difference says how large the excess is.
	Difference *sequential.Excess `json:"difference,omitempty"`
	// Edges are the places at which latencies are compared. Their evidence begins like Learning, which has none.
	Edges    []EdgeEvidence     `json:"edges,omitempty"`
	Learning sequential.Mixture `json:"learning,omitzero"`
	// Missing is the evidence that the canary does not answer.
	Missing *sequential.Completions `json:"missing,omitempty"`
}

// EdgeEvidence is the evidence at one edge of latency.
type EdgeEvidence struct {
	sequential.Edge
	Worse sequential.Regression `json:"worse"`
	Good  sequential.Acceptance `json:"good"`
	// Shown is true once the canary was good enough here beside stable, at whatever step.
	Shown bool `json:"shown,omitempty"`
	// Step is the canary's requests of this step above the edge, Ever stable's of the release.
	Step sequential.Counts `json:"step"`
	Ever sequential.Counts `json:"ever"`
}

// Learn adds what stable did in a tick before the canary had traffic.
func (t *Trial) Learn(c *Config, stable Arm, pods []Pod) {
	if !(sequential.Tick{Stable: stable.Requests}).Usable() {
		return
	}
	t.StableEver = plus(t.StableEver, stable.Requests)
	t.Clumping.add(stable.Requests, pods)
	t.learnLatency(c, stable.Latency)
}

// Step begins a new step: what was good enough at one weight says nothing of the next.
func (t *Trial) Step() {
	t.Canary, t.Stable = sequential.Counts{}, sequential.Counts{}
	for i := range t.Metrics {
		e := &t.Metrics[i]
		if e.Good != nil {
			e.Good = &sequential.Acceptance{}
		}
		for j := range e.Edges {
			e.Edges[j].Good, e.Edges[j].Step = sequential.Acceptance{}, sequential.Counts{}
		}
	}
}

// Add adds a tick of confirmed traffic. Ticks whose counts cannot be true, and those in
// which no request should have reached the canary, are left out.
func (t *Trial) Add(c *Config, k Tick) {
	tick := sequential.Tick{Weight: k.Weight, Canary: k.Canary.Requests, Stable: k.Stable.Requests}
	if !tick.Usable() || k.Weight <= 0 {
		return
	}
	t.begin(c)
	t.Weight, t.OtherWays = k.Weight, t.OtherWays || k.OtherWays
	clump := t.Clumping.Size() // of earlier ticks only
	if !k.Mixed {
		t.addSplit(c, tick)
	}
	t.addPods(c, k, clump)
	for i := range c.Metrics {
		m, e := &c.Metrics[i], &t.Metrics[i]
		switch m.Kind {
		case Errors:
			t.addErrors(c, m, e, tick, clump)
		case Latency:
			e.addLatency(c, m, k, clump)
		case Answers:
			if !k.Mixed {
				e.Missing.Update(c.bound(m), m.answered(), tick, 1)
			}
		}
	}
	t.Canary, t.Stable = plus(t.Canary, tick.Canary), plus(t.Stable, tick.Stable)
	t.StableEver = plus(t.StableEver, tick.Stable)
	t.Clumping.add(tick.Stable, k.StablePods)
	t.learnLatency(c, k.Stable.Latency)
}

// begin makes room for the evidence of the metrics.
func (t *Trial) begin(c *Config) {
	for i := len(t.Metrics); i < len(c.Metrics); i++ {
		t.Metrics = append(t.Metrics, c.Metrics[i].evidence(t.Before))
	}
}

// bound is when the evidence of a metric is enough.
func (c *Config) bound(m *Metric) sequential.Bound {
	return sequential.Bound{Alpha: c.Alpha * m.Share, Ticks: c.Ticks}
}

func (t *Trial) addErrors(c *Config, m *Metric, e *Evidence, tick sequential.Tick, clump float64) {
	worse := sequential.RegressionTest{Bound: c.bound(m), Tolerance: m.Tolerance}
	good := sequential.AcceptanceTest{Beta: c.Beta, Tolerance: m.Enough}
	switch {
	case m.Limit > 0:
		e.Worse.UpdateAlone(&worse, tick.Canary, m.Limit, clump)
		e.Good.UpdateAlone(&good, tick.Canary, over(m.Enough, m.Limit), clump)
	case tick.Weight < 1:
		e.Worse.Update(&worse, tick, clump)
		e.Good.Update(&good, tick, clump)
		e.Difference.Update(tick, clump)
	case t.StableEver.N >= leastBefore:
		// Nothing serves beside the canary, so trouble that has nothing to do with it would
		// count against it: only what is not good enough either does.
		rate := over(m.Enough, t.StableEver.X/t.StableEver.N)
		e.Worse.UpdateAlone(&worse, tick.Canary, rate, clump)
		e.Good.UpdateAlone(&good, tick.Canary, rate, clump)
	}
}

func (m *Metric) answered() float64 {
	if m.Tolerance.Ratio > 0 {
		return min(m.Tolerance.Ratio, 1)
	}
	return sequential.DefaultAnswered
}

// leastBefore is how many requests of stable it takes to compare the canary with
// them when it has all the traffic.
const leastBefore = 100

// over is the largest rate that is tolerable beside stable's.
func over(t sequential.Tolerance, stable float64) float64 {
	return min(max(t.Ratio*stable+t.Slack, 1e-6), 1-1e-6)
}

func plus(a, b sequential.Counts) sequential.Counts {
	return sequential.Counts{N: a.N + b.N, X: a.X + b.X}
}
