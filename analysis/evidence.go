// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"time"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// Evidence is what is known of one release so far. Its zero value is the start. It can
// be stored as JSON at any time; what is lost with a restart is what was added since.
type Evidence struct {
	// Since is the Since of the step that was added to last.
	Since time.Time `json:"since"`
	// Gateway is what the proxies counted.
	Gateway trial.Trial `json:"gateway"`
	// Series is what was asked for, by metric.
	Series map[string]*Series `json:"series,omitempty"`
	// Proxies and Newest are those of the last Reading, Warm whether any of this step was added
	// after the warm-up.
	Proxies int       `json:"proxies,omitempty"`
	Newest  time.Time `json:"newest"`
	// Usual is the last Usual of a Reading that was known.
	Usual time.Duration `json:"usual,omitempty"`
	Warm  bool          `json:"warm,omitempty"`
	// Pending are the metrics that are being asked for: they are not due. It is not stored.
	Pending []string `json:"-"`
}

// Series is what is known of one metric that is asked for.
type Series struct {
	// Of is the fingerprint of the metric that this is of, Share the part of the allowed chance that it
	// had when that was looked at last, From when it took the place of another or was added during a
	// release: what was seen by then says nothing, as the question may have been chosen by it.
	Of    string    `json:"of,omitempty"`
	Share float64   `json:"share,omitempty"`
	From  time.Time `json:"from,omitzero"`
	// Trial judges what is counted in requests, Sign whether single numbers are out of range more
	// often than not.
	Trial trial.Trial     `json:"trial"`
	Sign  sequential.Sign `json:"sign"`
	// Baseline is stable's number from before the canary got all the traffic.
	Baseline *Sample `json:"baseline,omitempty"`
	// BaselineTaken is true once stable was measured from before that.
	BaselineTaken bool `json:"baselineTaken,omitempty"`
	// Out is how many of the newest measurements of this step were out of range in a row.
	Out int `json:"out,omitempty"`
	// Last is the newest usable measurement of this step, without its histograms.
	Last *Measurement `json:"last,omitempty"`
	// Failed is the newest answer, when that was a problem.
	Failed *Measurement `json:"failed,omitempty"`
}

// Begin goes over to the step of the plan, if that is another one: what was good enough at one
// weight says nothing of the next, what speaks against the canary stays.
func (e *Evidence) Begin(p Plan) {
	if p.Subject.Since.IsZero() || e.Since.Equal(p.Subject.Since) {
		return
	}
	e.Since, e.Warm = p.Subject.Since, false
	e.Gateway.Step()
	for _, s := range e.Series {
		s.Trial.Step()
		s.Out, s.Last, s.Failed = 0, nil, nil
	}
}

// Learn adds what stable did before the canary had traffic.
func (e *Evidence) Learn(p Plan, r Reading) {
	e.heard(r)
	c := p.gatewayTrial()
	e.Gateway.Learn(&c, r.Stable, r.StablePods)
}

func (e *Evidence) heard(r Reading) {
	e.Proxies, e.Newest = r.Proxies, r.Newest
	if r.Usual > 0 {
		e.Usual = r.Usual
	}
}

// Read adds what the proxies counted in an interval of this step that ended at to.
func (e *Evidence) Read(p Plan, r Reading, to time.Time) {
	e.Begin(p)
	e.heard(r)
	k := trial.Tick{
		Weight: float64(p.Subject.Weight) / 100, Mixed: p.Subject.Mixed, OtherWays: p.Subject.OtherWays,
		Canary: r.Canary, Stable: r.Stable, StablePods: r.StablePods,
	}
	if to.Before(p.Subject.Since.Add(p.WarmUp)) {
		k.Canary.Latency, k.Stable.Latency = nil, nil
	} else {
		e.Warm = true
	}
	if k.Canary.Requests.N <= 0 && k.Stable.Requests.N <= 0 {
		return
	}
	c := p.gatewayTrial()
	e.Gateway.Add(&c, k)
}

// Add adds the answer to a query of this step.
func (e *Evidence) Add(p Plan, m Measurement) {
	e.Begin(p)
	metric, ok := p.metric(m.Metric)
	if !ok {
		return
	}
	s := e.series(p, metric)
	if m.Problem != nil {
		s.Failed = &m
		return
	}
	s.Failed = nil
	if !m.To.After(p.Subject.Since) {
		s.learn(p, metric, m)
		return
	}
	switch m.Kind {
	case KindCounts, KindHistogram:
		s.count(p, metric, m)
	default:
		s.compare(p, metric, m)
	}
	m.Stable.Buckets, m.Canary.Buckets = nil, nil
	s.Last = &m
}

func (e *Evidence) series(p Plan, m v1beta1.Metric) *Series {
	if e.Series == nil {
		e.Series = map[string]*Series{}
	}
	if e.Series[m.Name] == nil {
		e.Series[m.Name] = &Series{Of: fingerprint(m), Share: p.share(m)}
	}
	return e.Series[m.Name]
}

func (p Plan) metric(name string) (v1beta1.Metric, bool) {
	for _, m := range p.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return v1beta1.Metric{}, false
}

// learn takes stable's part of a measurement from before this step.
func (s *Series) learn(p Plan, metric v1beta1.Metric, m Measurement) {
	s.BaselineTaken = true
	if m.Kind == KindScalar {
		s.Baseline = &m.Stable
		return
	}
	c := p.trialOf(metric)
	s.Trial.Learn(&c, armOf(m.Stable), nil)
}

func (s *Series) count(p Plan, metric v1beta1.Metric, m Measurement) {
	c := p.trialOf(metric)
	s.Trial.Add(&c, trial.Tick{
		Weight: float64(p.Subject.Weight) / 100, Mixed: true, OtherWays: p.Subject.OtherWays,
		Canary: armOf(m.Canary), Stable: armOf(m.Stable),
	})
}

func armOf(s Sample) trial.Arm {
	return trial.Arm{Requests: sequential.Counts{N: s.Requests, X: s.Bad}, Latency: s.Buckets}
}

// compare adds one number.
func (s *Series) compare(p Plan, metric v1beta1.Metric, m Measurement) {
	in := m.Canary.Value == 0
	if m.Kind == KindScalar {
		l, err := limitsOf(metric)
		if err != nil {
			return
		}
		in, _ = l.inRange(s.stable(m, l), m.Canary)
	}
	s.Out++
	if in {
		s.Out = 0
	}
	if metric.Misses == nil {
		s.Sign.Update(sequential.Bound{Alpha: p.Alpha * p.share(metric), Ticks: leastTicks}, !in)
	}
}

// stable is what a measurement of the canary is compared with.
func (s *Series) stable(m Measurement, l limits) Sample {
	if l.compared && s.Baseline != nil {
		return *s.Baseline
	}
	return m.Stable
}
