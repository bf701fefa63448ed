// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/api/v1beta1"
)

// The defaults of a plan.
const (
	// DefaultInterval is the time between two measurements of a metric.
	DefaultInterval = 10 * time.Second
	// DefaultMinRequests is how many canary requests a gateway metric needs.
	DefaultMinRequests int64 = 50
	// DefaultQuantile is the quantile of a Latency metric.
	DefaultQuantile = "0.99"
)

// PlanFor fills in the defaults of a spec, which may be nil. A plan without
// metrics is an analysis that is disabled.
func PlanFor(spec *v1beta1.Analysis, subject Subject) Plan {
	p := Plan{Interval: DefaultInterval, Subject: subject}
	if spec == nil {
		spec = &v1beta1.Analysis{}
	}
	if spec.Disabled {
		return p
	}
	if spec.Interval != nil && spec.Interval.Duration >= time.Second {
		p.Interval = spec.Interval.Duration
	}
	metrics := spec.Metrics
	if len(metrics) == 0 {
		metrics = []v1beta1.Metric{
			{Name: "errors", Gateway: v1beta1.GatewayErrorRate},
			{Name: "p99", Gateway: v1beta1.GatewayLatency},
		}
	}
	for i := range metrics {
		p.Metrics = append(p.Metrics, withDefaults(*metrics[i].DeepCopy()))
	}
	return p
}

func withDefaults(m v1beta1.Metric) v1beta1.Metric {
	if m.Gateway == "" {
		return m
	}
	if m.MinRequests == nil {
		n := DefaultMinRequests
		m.MinRequests = &n
	}
	if m.Gateway == v1beta1.GatewayLatency && m.Quantile == "" {
		m.Quantile = DefaultQuantile
	}
	if m.Tolerance == nil && m.Threshold == nil {
		m.Tolerance = defaultTolerance(m.Gateway)
	}
	return m
}

func defaultTolerance(g v1beta1.GatewayMetric) *v1beta1.Tolerance {
	relative, absolute := "25%", amount("0.5%")
	if g == v1beta1.GatewayLatency {
		relative, absolute = "20%", amount("5ms")
	}
	return &v1beta1.Tolerance{Relative: relative, Absolute: &absolute}
}

func amount(s string) v1beta1.Amount {
	return v1beta1.Amount(intstr.FromString(s))
}

// KindOf is the kind of measurement a metric needs.
func KindOf(m v1beta1.Metric) Kind {
	switch m.Gateway {
	case v1beta1.GatewayErrorRate:
		return KindCounts
	case v1beta1.GatewayLatency:
		return KindHistogram
	default:
		return KindScalar
	}
}

// limits are the numbers of a metric's tolerance or threshold, in the unit of
// its values: a share between 0 and 1 for errors, seconds for latency.
type limits struct {
	// compared with stable, or with min and max.
	compared           bool
	relative, absolute float64
	higherIsBetter     bool
	min, max           *float64
	// quantile of a latency, minRequests of a gateway metric.
	quantile    float64
	minRequests float64
}

// limitsOf reads a metric's numbers. The error is a sentence that says what to
// write instead.
func limitsOf(m v1beta1.Metric) (limits, error) {
	l := limits{minRequests: float64(DefaultMinRequests)}
	if m.MinRequests != nil {
		l.minRequests = float64(max(*m.MinRequests, 1))
	}
	if m.Gateway == v1beta1.GatewayLatency {
		q, err := strconv.ParseFloat(m.Quantile, 64)
		if err != nil || !(q > 0 && q < 1) {
			return l, fmt.Errorf("quantile %q is not between 0 and 1: write quantile: \"0.99\"", m.Quantile)
		}
		l.quantile = q
	}
	switch {
	case m.Tolerance != nil:
		l.compared = true
		return l, l.readTolerance(m)
	case m.Threshold != nil:
		return l, l.readThreshold(m)
	default:
		return l, fmt.Errorf("there is neither a tolerance nor a threshold: write tolerance: {relative: 20%%} or threshold: {max: …}")
	}
}

func (l *limits) readTolerance(m v1beta1.Metric) error {
	t := m.Tolerance
	if t.Relative != "" {
		number, isPercent := strings.CutSuffix(t.Relative, "%")
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || !isPercent || v < 0 {
			return fmt.Errorf("tolerance.relative %q is not a share of stable's value: write relative: 20%%", t.Relative)
		}
		l.relative = v / 100
	}
	if t.Absolute != nil {
		v, err := valueOf(m, "tolerance.absolute", *t.Absolute)
		if err != nil {
			return err
		}
		if v < 0 {
			return fmt.Errorf("tolerance.absolute %s is negative: it says how much worse the canary may be, 0 or more", t.Absolute)
		}
		l.absolute = v
	}
	if t.Better == "Higher" && m.Gateway != "" {
		return fmt.Errorf("better: Higher does not fit gateway: %s, where lower is always better: remove it", m.Gateway)
	}
	l.higherIsBetter = t.Better == "Higher"
	return nil
}

func (l *limits) readThreshold(m v1beta1.Metric) error {
	for _, side := range []struct {
		name string
		from *v1beta1.Amount
		to   **float64
	}{{"threshold.min", m.Threshold.Min, &l.min}, {"threshold.max", m.Threshold.Max, &l.max}} {
		if side.from == nil {
			continue
		}
		v, err := valueOf(m, side.name, *side.from)
		if err != nil {
			return err
		}
		*side.to = &v
	}
	if l.min != nil && l.max != nil && *l.min > *l.max {
		return fmt.Errorf("threshold.min %s is larger than threshold.max %s: no value lies between them", m.Threshold.Min, m.Threshold.Max)
	}
	return nil
}

// valueOf reads an amount in the unit of the metric.
func valueOf(m v1beta1.Metric, field string, a v1beta1.Amount) (float64, error) {
	v, unit, err := a.Parse()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", field, err)
	}
	switch m.Gateway {
	case v1beta1.GatewayErrorRate:
		if unit != v1beta1.UnitPercent {
			return 0, fmt.Errorf("%s %s has no percent sign: an error rate is counted in percent, write 0.5%%", field, &a)
		}
		return v / 100, nil
	case v1beta1.GatewayLatency:
		if unit != v1beta1.UnitSeconds {
			return 0, fmt.Errorf("%s %s is not a time: a latency is counted in time, write 300ms or 1.5s", field, &a)
		}
		return v, nil
	default:
		if unit != v1beta1.UnitNone {
			return 0, fmt.Errorf("%s %s has a unit, but a query gives a plain number: write it in the unit of the query, for example 0.3", field, &a)
		}
		return v, nil
	}
}
