// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"strconv"
	"strings"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/api/v1beta1"
)

// limits are the numbers of a metric's tolerance or threshold, in the unit of
// its values: a share between 0 and 1 for errors, seconds for latency.
type limits struct {
	// compared with stable, or with min and max.
	compared           bool
	relative, absolute float64
	higherIsBetter     bool
	min, max           *float64
	// quantile of a latency; 0 for six of them.
	quantile float64
	// enough is what lets a step pass, for what is counted in requests.
	enough sequential.Tolerance
}

// limitsOf reads a metric's numbers. The error is a sentence that says what to
// write instead.
func limitsOf(m v1beta1.Metric) (limits, error) {
	var l limits
	if m.Quantile != "" {
		q, err := strconv.ParseFloat(m.Quantile, 64)
		if err != nil || !(q > 0 && q < 1) {
			return l, fmt.Errorf("quantile %q is not between 0 and 1: write quantile: \"0.99\"", m.Quantile)
		}
		l.quantile = q
	}
	if err := l.readEnough(m); err != nil {
		return l, err
	}
	switch {
	case m.Tolerance != nil:
		l.compared = true
		return l, l.readTolerance(m)
	case m.Threshold != nil:
		return l, l.readThreshold(m)
	case KindOf(m) == KindVerdict:
		return l, nil
	default:
		return l, fmt.Errorf("there is neither a tolerance nor a threshold: write tolerance: {relative: 20%%} or threshold: {max: …}")
	}
}

func (l *limits) readTolerance(m v1beta1.Metric) error {
	t := m.Tolerance
	var err error
	if l.relative, err = relativeOf("tolerance.relative", t.Relative); err != nil {
		return err
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
	counted := KindOf(m) == KindCounts || KindOf(m) == KindHistogram
	if t.Better == "Higher" && counted {
		return fmt.Errorf("better: Higher does not fit what is counted in bad requests, where lower is always better: remove it")
	}
	l.higherIsBetter = t.Better == "Higher"
	return nil
}

// readEnough reads what lets a step pass: shares of requests, whatever the metric's unit.
func (l *limits) readEnough(m v1beta1.Metric) error {
	g := m.GoodEnough
	if g == nil {
		return nil
	}
	relative, err := relativeOf("goodEnough.relative", g.Relative)
	if err != nil {
		return err
	}
	l.enough = sequential.Tolerance{Ratio: 1 + relative}
	if g.Absolute == nil {
		return nil
	}
	v, unit, err := g.Absolute.Parse()
	if err != nil {
		return fmt.Errorf("goodEnough.absolute: %w", err)
	}
	if unit != v1beta1.UnitPercent || v < 0 {
		return fmt.Errorf("goodEnough.absolute %s is not a share of the requests: write goodEnough: {absolute: 1%%}", g.Absolute)
	}
	l.enough.Slack = v / 100
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
	switch KindOf(m) {
	case KindCounts:
		if l.min != nil || l.max == nil || !(*l.max > 0 && *l.max < 1) {
			return fmt.Errorf("a share of bad requests is compared with its largest allowed value, between 0 and 100%%: write threshold: {max: 1%%}")
		}
	case KindHistogram:
		if l.min != nil || l.max == nil || !(*l.max > 0) {
			return fmt.Errorf("a latency is compared with its largest allowed value: write threshold: {max: 300ms}")
		}
	}
	return nil
}

func relativeOf(field, s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	number, isPercent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercent || !(v >= 0 && v <= 1e6) {
		return 0, fmt.Errorf("%s %q is not a share of stable's value: write relative: 20%%", field, s)
	}
	return v / 100, nil
}

// rollbackRate reads falseRollbackRate: a chance in percent.
func rollbackRate(s string) (float64, error) {
	if s == "" {
		return DefaultFalseRollbackRate, nil
	}
	number, isPercent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !isPercent || !(v >= 0.0001 && v <= 10) {
		return 0, fmt.Errorf("analysis.falseRollbackRate %q is not a chance from 0.0001%% to 10%%: write 0.1%% for one release in a thousand", s)
	}
	return v / 100, nil
}

// valueOf reads an amount in the unit of the metric.
func valueOf(m v1beta1.Metric, field string, a v1beta1.Amount) (float64, error) {
	v, unit, err := a.Parse()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", field, err)
	}
	switch KindOf(m) {
	case KindCounts:
		if unit != v1beta1.UnitPercent {
			return 0, fmt.Errorf("%s %s has no percent sign: an error rate is counted in percent, write 0.5%%", field, &a)
		}
		return v / 100, nil
	case KindHistogram:
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
