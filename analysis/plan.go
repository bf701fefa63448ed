// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// The defaults of a plan.
const (
	// DefaultInterval is the time between two measurements of a metric that is asked for.
	DefaultInterval = 10 * time.Second
	// DefaultWarmUp is how long after a confirmed weight latency is not judged.
	DefaultWarmUp = 15 * time.Second
	// DefaultFalseRollbackRate is the chance of rolling back a tolerable version in a release.
	DefaultFalseRollbackRate = 0.001
)

// PlanFor fills in the defaults of a spec, which may be nil, and whose metrics have no
// templates any more. A plan without metrics is an analysis that is disabled.
func PlanFor(spec *v1beta1.Analysis, subject Subject) Plan {
	p := Plan{Interval: DefaultInterval, WarmUp: DefaultWarmUp, Alpha: DefaultFalseRollbackRate, Subject: subject}
	if spec == nil {
		spec = &v1beta1.Analysis{}
	}
	if spec.Disabled {
		return p
	}
	if spec.Interval != nil && spec.Interval.Duration >= time.Second {
		p.Interval = spec.Interval.Duration
	}
	if spec.WarmUp != nil && spec.WarmUp.Duration >= 0 {
		p.WarmUp = spec.WarmUp.Duration
	}
	if alpha, err := rollbackRate(spec.FalseRollbackRate); err == nil {
		p.Alpha = alpha
	}
	metrics := spec.Metrics
	if len(metrics) == 0 {
		metrics = []v1beta1.Metric{
			{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
			{Name: "latency", Gateway: v1beta1.GatewayLatency},
			{Name: "answers", Gateway: v1beta1.GatewayAnswers},
		}
	}
	for i := range metrics {
		p.Metrics = append(p.Metrics, withDefaults(*metrics[i].DeepCopy()))
	}
	return p
}

func withDefaults(m v1beta1.Metric) v1beta1.Metric {
	kind := KindOf(m)
	counted := kind == KindCounts || kind == KindHistogram
	if counted && m.Tolerance == nil && m.Threshold == nil {
		m.Tolerance = defaultTolerance(m)
	}
	if counted && m.GoodEnough == nil && m.Gateway != v1beta1.GatewayAnswers {
		m.GoodEnough = defaultEnough(m, kind)
	}
	if kind == KindHistogram && m.Threshold != nil && m.Quantile == "" {
		m.Quantile = "0.99"
	}
	if m.Weight == nil {
		m.Weight = ptr(defaultWeight(m.Gateway))
	}
	if m.Misses == nil && !counted {
		switch {
		case kind == KindVerdict:
			m.Misses = ptr(int32(1))
		case m.Threshold != nil:
			m.Misses = ptr(int32(3))
		}
	}
	return m
}

func defaultTolerance(m v1beta1.Metric) *v1beta1.Tolerance {
	switch {
	case m.Gateway == v1beta1.GatewayAnswers:
		return &v1beta1.Tolerance{Relative: "20%"}
	case KindOf(m) == KindHistogram:
		return &v1beta1.Tolerance{Relative: "18%", Absolute: amount("5ms")}
	default:
		return &v1beta1.Tolerance{Relative: "25%", Absolute: amount("0.05%")}
	}
}

// defaultEnough is half more than stable and a point, or twice what is tolerated where that is more: a step
// that asked for less than the tolerance would never end.
func defaultEnough(m v1beta1.Metric, kind Kind) *v1beta1.Tolerance {
	relative, absolute := 0.5, 0.01
	if kind == KindCounts && m.Tolerance != nil {
		if l, err := limitsOf(m); err == nil {
			relative, absolute = max(relative, 2*l.relative), max(absolute, 2*l.absolute)
		}
	}
	return &v1beta1.Tolerance{Relative: percentText(relative), Absolute: amount(percentText(absolute))}
}

// percentText is a share as the API writes it.
func percentText(share float64) string { return strconv.FormatFloat(100*share, 'f', -1, 64) + "%" }

func defaultWeight(g v1beta1.GatewayMetric) int32 {
	switch g {
	case v1beta1.GatewayErrorRate:
		return 5
	case v1beta1.GatewayLatency:
		return 3
	default:
		return 1
	}
}

func amount(s string) *v1beta1.Amount { return ptr(v1beta1.Amount(intstr.FromString(s))) }

func ptr[T any](v T) *T { return &v }

// KindOf is the kind of measurement a metric needs.
func KindOf(m v1beta1.Metric) Kind {
	switch {
	case m.Gateway == v1beta1.GatewayLatency, m.Prometheus != nil && m.Prometheus.Histogram != "":
		return KindHistogram
	case m.Gateway != "", m.Prometheus != nil && m.Prometheus.Counters != nil:
		return KindCounts
	case m.Job != nil, m.Webhook != nil:
		return KindVerdict
	default:
		return KindScalar
	}
}

// NeedsTraffic says whether a metric says anything only of a canary that has requests. A Job and a
// webhook judge also one that has none, before the first user meets it.
func NeedsTraffic(m v1beta1.Metric) bool { return KindOf(m) != KindVerdict }

// leastWeights is what the weights of a release's metrics are at least divided by: the default
// metrics leave a tenth of the evidence for one of the user's own.
const leastWeights = 10

// share is the part of Alpha that a metric owns. The shares of the metrics that decide add up to at most 1.
func (p Plan) share(m v1beta1.Metric) float64 {
	sum := int32(0)
	for _, other := range p.Metrics {
		if !other.Observe && other.Misses == nil {
			sum += *other.Weight
		}
	}
	return float64(*m.Weight) / float64(max(sum, leastWeights, *m.Weight))
}

const (
	// beta is the allowed chance of a step calling a version good enough that is not.
	beta = 0.05
	// leastTicks is how many ticks it takes at least to roll back.
	leastTicks = 3
)

// trialOf is what the metrics of one source of counts are held against.
func (p Plan) trialOf(metrics ...v1beta1.Metric) trial.Config {
	c := trial.Config{Alpha: p.Alpha, Beta: beta, Ticks: leastTicks}
	for _, m := range metrics {
		l, err := limitsOf(m)
		if err != nil {
			continue // Judge says why it cannot be judged
		}
		t := trial.Metric{Name: m.Name, Share: p.share(m), Quantile: l.quantile}
		switch {
		case m.Gateway == v1beta1.GatewayAnswers:
			t.Kind, t.Tolerance.Ratio = trial.Answers, 1-l.relative
		case KindOf(m) == KindHistogram:
			t.Kind, t.Shift = trial.Latency, sequential.Shift{Ratio: 1 + l.relative, Seconds: l.absolute}
		default:
			t.Kind, t.Tolerance = trial.Errors, sequential.Tolerance{Ratio: 1 + l.relative, Slack: l.absolute}
		}
		t.Enough = l.enough
		if l.max != nil {
			t.Limit = *l.max
		}
		c.Metrics = append(c.Metrics, t)
	}
	return c
}

// gatewayTrial is the trial of all metrics that the gateway's proxies count.
func (p Plan) gatewayTrial() trial.Config {
	var metrics []v1beta1.Metric
	for _, m := range p.Metrics {
		if m.Gateway != "" {
			metrics = append(metrics, m)
		}
	}
	return p.trialOf(metrics...)
}

// Listens says whether the gateway's proxies are needed for any metric.
func (p Plan) Listens() bool {
	for _, m := range p.Metrics {
		if m.Gateway != "" {
			return true
		}
	}
	return false
}
