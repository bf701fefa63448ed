// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"math"

	"headgate.dev/headgate/analysis/sequential"
)

// Result is what a trial says.
type Result string

// The results, the one that decides first.
const (
	Bad     Result = "Bad"
	Unknown Result = "Unknown"
	Good    Result = "Good"
)

// Reason is why a metric says what it says.
type Reason string

// The reasons.
const (
	// WorseThanTolerated: the evidence against the canary reached its bound.
	WorseThanTolerated Reason = "WorseThanTolerated"
	// GoodEnough: the evidence for the canary reached its bound at this step.
	GoodEnough Reason = "GoodEnough"
	// ComparedBefore: nothing serves beside the canary, and it was good enough while something did.
	ComparedBefore Reason = "ComparedBefore"
	// NoTraffic: no request of the canary was answered at this step.
	NoTraffic Reason = "NoTraffic"
	// TooFewRequests: more requests are needed either way.
	TooFewRequests Reason = "TooFewRequests"
	// NotGoodEnough: at the rates so far the canary will never be good enough, and is
	// not bad enough to be rolled back either.
	NotGoodEnough Reason = "NotGoodEnough"
	// Learning: stable is not known well enough yet to compare with.
	Learning Reason = "Learning"
	// PodsFailTogether: a pod of stable looks as bad as a version that would be rolled back.
	PodsFailTogether Reason = "PodsFailTogether"
	// MixExplains: requests that came by other ways than by the weight may alone be why the canary looks as it does.
	MixExplains Reason = "MixExplains"
	// SplitNotAsAsked: the canary answers more than its share.
	SplitNotAsAsked Reason = "SplitNotAsAsked"
)

// Verdict is what a trial says of the release at its present step.
type Verdict struct {
	Result Result
	// Metrics is one finding per metric, in the order of the Config.
	Metrics []Finding
}

// Finding is the verdict on one metric with the numbers behind it.
type Finding struct {
	Name   string
	Result Result
	Reason Reason
	// Against is the evidence against the canary in nats, and rolls back at AgainstBound.
	Against, AgainstBound float64
	// For is the evidence for it, which lets the step pass at ForBound.
	For, ForBound float64
	// Canary and Stable are the requests of this step and the bad ones among them: failed
	// or, for Latency, slower than Edge.
	Canary, Stable sequential.Counts
	// Edge is the edge of latency that decided.
	Edge sequential.Edge
	// Low and High hold the canary's rate of bad requests with probability 1−Alpha at all
	// times; DifferenceLow and DifferenceHigh the canary's rate minus stable's, of the release.
	Low, High                     float64
	DifferenceLow, DifferenceHigh float64
	// Needed is how many more canary requests the step takes, where NeededKnown.
	Needed      float64
	NeededKnown bool
	// Extra is how many of the canary's requests its weight does not account for, where it
	// gets requests by other ways too.
	Extra float64
	// Pod is the pod of PodsFailTogether.
	Pod string
}

// Verdict sums up: one metric that is bad decides, else one that is unknown, else
// all are good. What crosses while a pod of stable crossed before is held, not rolled back.
func (t *Trial) Verdict(c *Config) Verdict {
	v := Verdict{Result: Good}
	for i := range c.Metrics {
		f := t.finding(c, i)
		switch {
		case t.Odd != "" && c.Metrics[i].Kind == Errors && (f.Result == Bad || f.Reason == NotGoodEnough):
			f.Result, f.Reason, f.Pod = Unknown, PodsFailTogether, t.Odd
		case t.Surplus.Crossed:
			f.Result, f.Reason = Unknown, SplitNotAsAsked
		}
		v.Metrics = append(v.Metrics, f)
		if f.Result == Bad || f.Result == Unknown && v.Result == Good {
			v.Result = f.Result
		}
	}
	return v
}

func (t *Trial) finding(c *Config, i int) Finding {
	m := &c.Metrics[i]
	f := Finding{
		Name: m.Name, Result: Unknown, Reason: NoTraffic, Canary: t.Canary, Stable: t.Stable,
		AgainstBound: -math.Log(c.Alpha * m.Share), ForBound: -math.Log(c.Beta), High: 1,
	}
	if i >= len(t.Metrics) {
		return f
	}
	e := &t.Metrics[i]
	switch m.Kind {
	case Errors:
		f.Low, f.High = sequential.RateInterval(f.Canary, c.Alpha)
		f.DifferenceLow, f.DifferenceHigh = e.Difference.Interval(c.Alpha)
		f.weigh(&e.Worse.Mixture, e.Good, sequential.AcceptanceTest{Beta: c.Beta, Tolerance: m.Enough}, t.Clumping.Size())
		if f.Result == Unknown && t.Canary.N > 0 && t.Weight >= 1 && m.Limit == 0 && t.StableEver.N < leastBefore {
			f.Reason = Learning
		}
		t.allow(m, &f)
	case Latency:
		t.latencyFinding(c, m, e, &f)
	case Answers:
		f.Against = math.Log(e.Missing.Evidence())
		switch {
		case e.Missing.Crossed:
			f.Result, f.Reason = Bad, WorseThanTolerated
		case t.Canary.N > 0:
			// Nothing has to be shown: that the canary answers is shown by every other metric.
			f.Result, f.Reason, f.For = Good, GoodEnough, f.ForBound
		}
	}
	return f
}

// weigh fills in what a pair of tests says.
func (f *Finding) weigh(worse *sequential.Mixture, good *sequential.Acceptance, test sequential.AcceptanceTest, clump float64) {
	f.Against, f.For = math.Log(worse.Evidence()), good.LogEvidence()
	f.Needed, f.NeededKnown = good.StillNeeded(&test, clump)
	switch {
	case worse.Crossed:
		f.Result, f.Reason = Bad, WorseThanTolerated
	case f.For >= f.ForBound && f.looks(test.Tolerance):
		f.Result, f.Reason = Good, GoodEnough
	case f.Canary.N <= 0:
		f.Result, f.Reason = Unknown, NoTraffic
	case f.NeededKnown && f.For < f.ForBound:
		f.Result, f.Reason = Unknown, TooFewRequests
	default:
		f.Result, f.Reason = Unknown, NotGoodEnough
	}
}

// looks tells whether the step as a whole looks good enough. Where evidence said so and failures then
// turn out to clump, what speaks against it afterwards weighs next to nothing: that must not pass.
func (f *Finding) looks(t sequential.Tolerance) bool {
	if f.Stable.N <= 0 || f.Canary.N <= 0 {
		return true
	}
	return f.Canary.X/f.Canary.N <= t.Ratio*f.Stable.X/f.Stable.N+t.Slack
}

// goodAt are the quantiles at which a latency metric with several edges must be good
// enough: those beside them are bounded by these.
func goodAt(q float64) bool { return q == 0.9 || q == 0.99 }

// latencyFinding is that of the edge that decides: one that crossed, else the one
// that is furthest from good enough.
func (t *Trial) latencyFinding(c *Config, m *Metric, e *Evidence, f *Finding) {
	if len(e.Edges) == 0 {
		if t.Canary.N > 0 {
			f.Reason = Learning
		}
		return
	}
	f.AgainstBound += math.Log(float64(len(e.Edges)))
	test := sequential.AcceptanceTest{Beta: c.Beta, Tolerance: m.Enough}
	several := m.Quantile == 0
	decided := false
	for i := range e.Edges {
		edge := &e.Edges[i]
		if several && len(e.Edges) > 1 && !goodAt(edge.Quantile) && !edge.Worse.Crossed {
			continue
		}
		g := *f
		g.Edge, g.Canary, g.Stable = edge.Edge, edge.Step, edge.Good.Stable
		g.Low, g.High = sequential.RateInterval(g.Canary, c.Alpha)
		g.weigh(&edge.Worse.Mixture, &edge.Good, test, t.Clumping.Size())
		t.allow(m, &g)
		if t.Weight >= 1 && edge.Shown && m.Limit == 0 && g.Result == Unknown {
			g.Result, g.Reason = Good, ComparedBefore
		}
		if !decided || g.decides(*f) {
			*f, decided = g, true
		}
	}
	if !decided { // no edge at which it must be good: the last has to do
		edge := &e.Edges[len(e.Edges)-1]
		f.Edge, f.Canary, f.Stable = edge.Edge, edge.Step, edge.Good.Stable
		f.weigh(&edge.Worse.Mixture, &edge.Good, test, t.Clumping.Size())
		t.allow(m, f)
	}
}

// decides tells whether a finding goes before another of the same metric.
func (f Finding) decides(other Finding) bool {
	rank := map[Result]int{Bad: 0, Unknown: 1, Good: 2}
	if rank[f.Result] != rank[other.Result] {
		return rank[f.Result] < rank[other.Result]
	}
	return f.For-f.ForBound < other.For-other.ForBound
}
