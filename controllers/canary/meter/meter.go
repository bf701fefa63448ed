// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package meter turns the statuses that the reconciler of Canaries records into metrics. It reads
// nothing by itself: a Canary that is at rest costs nothing, and one that goes is forgotten.
package meter

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/api/v1beta1"
)

// Pass is what one pass of the reconciler came to.
type Pass struct {
	// Before is the status as it was read, After the one that was recorded.
	Before, After v1beta1.CanaryStatus
	// Target is the name of the workload, CanaryService that of the canary's Service.
	Target, CanaryService string
	// Emptied is true when no proxy sends to the canary of a release that is rolled back any more.
	Emptied bool
	// Now is the time of the pass.
	Now time.Time
}

var (
	infoDesc     = desc("headgate_canary_info", "1 for each Canary, with its workload, the version that serves and the one that is released.", "target", "stable", "version")
	backendDesc  = desc("headgate_canary_backend", "1 for the Services of both versions, named as the proxies' metrics name them.", "version", "backend_namespace", "backend_service")
	weightDesc   = desc("headgate_canary_weight", "Share of the traffic that was asked for last, in percent.")
	stepDesc     = desc("headgate_canary_step", "Number of the step, from 1; 0 while no release is in progress.")
	phaseDesc    = desc("headgate_canary_phase", "1 for the phase of the Canary, 0 for the others.", "phase")
	requestsDesc = desc("headgate_canary_requests", "Requests that the verdict of this step rests on.", "metric", "version", "class")
	evidenceDesc = desc("headgate_canary_evidence", "Evidence against the canary and for it, as a share of what rolls back and of what the step takes.", "metric", "side")
	verdictDesc  = desc("headgate_canary_verdict", "1 for the verdict on the metric, 0 for the others.", "metric", "verdict")
	unknownDesc  = desc("headgate_canary_unknown_seconds", "How long the verdict on the step has been Unknown; 0 while it is not.")
)

// canaryLabels say of which Canary a series is. A label namespace would become another one when it
// is scraped: the namespace of Headgate's own pods has that name.
func canaryLabels() []string { return []string{"canary_namespace", "canary"} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append(canaryLabels(), labels...), nil)
}

var phases = []v1beta1.Phase{
	v1beta1.PhaseInitializing, v1beta1.PhaseIdle, v1beta1.PhaseStarting, v1beta1.PhaseStepping,
	v1beta1.PhasePromoting, v1beta1.PhaseRollingBack, v1beta1.PhaseRolledBack,
}

var results = []v1beta1.VerdictResult{v1beta1.VerdictPass, v1beta1.VerdictFail, v1beta1.VerdictUnknown}

// seen is the last pass of a Canary.
type seen struct {
	status         v1beta1.CanaryStatus
	target, canary string // of Pass
	// emptied is the attempt whose way back was measured.
	emptied int64
}

// Meter collects the metrics of all Canaries. Its methods may be called from several goroutines; a
// nil one takes what it is told and keeps nothing.
type Meter struct {
	now                          func() time.Time
	verdicts, releases           *prometheus.CounterVec
	releaseSeconds, backToStable *prometheus.HistogramVec

	mu    sync.Mutex
	state map[types.NamespacedName]*seen
}

// New makes a Meter; now is the clock of a scrape.
func New(now func() time.Time) *Meter {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(canaryLabels(), labels...))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, append(canaryLabels(), labels...))
	}
	return &Meter{
		now: now, state: map[types.NamespacedName]*seen{},
		verdicts: counter("headgate_verdicts_total", "Verdicts that became another one, or got another reason.", "metric", "verdict", "reason"),
		releases: counter("headgate_releases_total", "Releases that were decided, by how they ended and why.", "outcome", "reason"),
		releaseSeconds: histogram("headgate_release_duration_seconds", "Time from the new template until the release was decided.",
			prometheus.ExponentialBuckets(15, 2, 14), "outcome"), // 15 s to 34 h
		backToStable: histogram("headgate_rollback_duration_seconds", "Time from the decision to take the traffic back until no proxy sent any to the canary.",
			prometheus.ExponentialBuckets(0.005, 2, 14)), // 5 ms to 41 s
	}
}

// Saw takes what a pass recorded.
func (m *Meter) Saw(key types.NamespacedName, p Pass) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state[key]
	if s == nil {
		s = &seen{}
		m.state[key] = s
		// So that the first increase of a counter is not lost.
		m.releases.WithLabelValues(key.Namespace, key.Name, string(v1beta1.OutcomeSucceeded), v1beta1.ReasonPromoted)
		for _, reason := range []string{v1beta1.ReasonMetricFailed, v1beta1.ReasonPodsNotReady, v1beta1.ReasonProgressDeadline} {
			m.releases.WithLabelValues(key.Namespace, key.Name, string(v1beta1.OutcomeRolledBack), reason)
		}
	}
	s.status, s.target, s.canary = *p.After.DeepCopy(), p.Target, p.CanaryService
	before, after := p.Before.Release, p.After.Release
	if after == nil {
		return
	}
	if before == nil || before.Attempt != after.Attempt {
		before = &v1beta1.ReleaseProgress{}
	}
	m.count(key, before.Metrics, after.Metrics)
	if before.Outcome == "" && after.Outcome != "" {
		m.releases.WithLabelValues(key.Namespace, key.Name, string(after.Outcome), after.Reason).Inc()
		m.releaseSeconds.WithLabelValues(key.Namespace, key.Name, string(after.Outcome)).Observe(max(p.Now.Sub(after.StartedAt.Time), 0).Seconds())
	}
	if p.Emptied && after.StageSince != nil && s.emptied != after.Attempt {
		s.emptied = after.Attempt
		m.backToStable.WithLabelValues(key.Namespace, key.Name).Observe(max(p.Now.Sub(after.StageSince.Time), 0).Seconds())
	}
}

// count adds the verdicts that are others than before.
func (m *Meter) count(key types.NamespacedName, before, after []v1beta1.MetricStatus) {
	known := map[string]v1beta1.MetricStatus{}
	for _, b := range before {
		known[b.Name] = b
	}
	for _, a := range after {
		if b, ok := known[a.Name]; !ok || b.Verdict != a.Verdict || b.Reason != a.Reason {
			m.verdicts.WithLabelValues(key.Namespace, key.Name, a.Name, string(a.Verdict), a.Reason).Inc()
		}
	}
}

// Forget drops a Canary that is gone, with all of its series.
func (m *Meter) Forget(key types.NamespacedName) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.state, key)
	labels := prometheus.Labels{"canary_namespace": key.Namespace, "canary": key.Name}
	m.verdicts.DeletePartialMatch(labels)
	m.releases.DeletePartialMatch(labels)
	m.releaseSeconds.DeletePartialMatch(labels)
	m.backToStable.DeletePartialMatch(labels)
}

// Describe lists the metrics.
func (m *Meter) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, backendDesc, weightDesc, stepDesc, phaseDesc, requestsDesc, evidenceDesc, verdictDesc, unknownDesc} {
		out <- d
	}
	for _, c := range m.vectors() {
		c.Describe(out)
	}
}

func (m *Meter) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.verdicts, m.releases, m.releaseSeconds, m.backToStable}
}

// Collect sends them as they are now.
func (m *Meter) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.vectors() {
		c.Collect(out)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, s := range m.state {
		m.collect(key.Namespace, s, func(d *prometheus.Desc, value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{key.Namespace, key.Name}, labels...)...)
		})
	}
}

func (m *Meter) collect(namespace string, s *seen, gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	is := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	r := s.status.Release
	step, version := 0, ""
	if r != nil && s.status.Step != "" {
		step, version = int(r.StepIndex)+1, r.Revision
	}
	gauge(infoDesc, 1, s.target, s.status.Stable, version)
	if s.status.Service != "" {
		gauge(backendDesc, 1, "stable", namespace, s.status.Service)
		gauge(backendDesc, 1, "canary", namespace, s.canary)
	}
	gauge(weightDesc, float64(s.status.Weight))
	gauge(stepDesc, float64(step))
	for _, p := range phases {
		gauge(phaseDesc, is(s.status.Phase == p), string(p))
	}
	unknown := time.Duration(0)
	if r != nil && r.UnknownSince != nil && s.status.Phase == v1beta1.PhaseStepping {
		unknown = max(m.now().Sub(r.UnknownSince.Time), 0)
	}
	gauge(unknownDesc, unknown.Seconds())
	if r == nil || s.status.Phase == v1beta1.PhaseIdle {
		return // what was said of a release that is over stands in its record
	}
	for _, x := range r.Metrics {
		for _, v := range results {
			gauge(verdictDesc, is(x.Verdict == v), x.Name, string(v))
		}
		gauge(evidenceDesc, float64(x.Against)/100, x.Name, "against")
		gauge(evidenceDesc, float64(x.For)/100, x.Name, "for")
		for _, arm := range []struct {
			version    string
			total, bad int64
		}{{"stable", x.StableRequests, x.StableBad}, {"canary", x.CanaryRequests, x.CanaryBad}} {
			gauge(requestsDesc, float64(arm.total-arm.bad), x.Name, arm.version, "good")
			gauge(requestsDesc, float64(arm.bad), x.Name, arm.version, "bad")
		}
	}
}
