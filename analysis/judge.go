// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Judge compares the canary with stable, or with the user's numbers, by all that
// was measured at this step.
//
// One metric that fails decides for Fail (the first in the order of the spec),
// else one that is unknown for Unknown, else all pass. What is not known is never
// a Fail and never a Pass: no traffic, too little, or a source that does not answer.
func Judge(p Plan, h History) Verdict {
	if len(p.Metrics) == 0 {
		return Verdict{
			Result: v1beta1.VerdictPass, Reason: v1beta1.ReasonAnalysisDisabled,
			Why: "the analysis is disabled: only time, approval and the readiness of pods decide",
		}
	}
	var v Verdict
	for _, m := range p.Metrics {
		v.Metrics = append(v.Metrics, judgeMetric(p, m, h))
	}
	for _, result := range []v1beta1.VerdictResult{v1beta1.VerdictFail, v1beta1.VerdictUnknown} {
		for _, s := range v.Metrics {
			if s.Verdict == result {
				v.Result, v.Reason, v.Why = result, s.Reason, s.Name+": "+s.Message
				return v
			}
		}
	}
	v.Result, v.Reason = v1beta1.VerdictPass, v.Metrics[0].Reason
	for i, s := range v.Metrics {
		if i > 0 {
			v.Why += "; "
		}
		v.Why += s.Name + ": " + s.Message
	}
	return v
}

func judgeMetric(p Plan, m v1beta1.Metric, h History) v1beta1.MetricStatus {
	l, err := limitsOf(m)
	if err != nil {
		return unknown(v1beta1.ReasonInvalidSpec, "%v", err).status(m.Name)
	}
	if m.Gateway != "" && p.Subject.Weight <= 0 {
		return opinion{
			result: v1beta1.VerdictPass, reason: v1beta1.ReasonNotJudged,
			message: "not judged at weight 0, where no request is sent to the canary",
		}.status(m.Name)
	}
	s := of(h, m.Name, p.Subject.Since)
	missing := whatIsMissing(p, m, h, s)
	switch KindOf(m) {
	case KindCounts:
		return judgeErrors(p, l, s, missing).status(m.Name)
	case KindHistogram:
		return judgeLatency(p, l, s, missing).status(m.Name)
	default:
		return judgeScalar(l, s, missing).status(m.Name)
	}
}

// opinion is the verdict on one metric before it has a name.
type opinion struct {
	result          v1beta1.VerdictResult
	reason, message string
	// The values compared, with units, and the sizes of the samples.
	stable, canary                 string
	stableRequests, canaryRequests float64
}

func (o opinion) status(name string) v1beta1.MetricStatus {
	return v1beta1.MetricStatus{
		Name: name, Verdict: o.result, Reason: o.reason, Message: o.message,
		Stable: o.stable, Canary: o.canary,
		StableRequests: int64(math.Round(o.stableRequests)),
		CanaryRequests: int64(math.Round(o.canaryRequests)),
	}
}

func (o opinion) say(result v1beta1.VerdictResult, reason, format string, args ...any) opinion {
	o.result, o.reason, o.message = result, reason, fmt.Sprintf(format, args...)
	return o
}

func unknown(reason, format string, args ...any) opinion {
	return opinion{}.say(v1beta1.VerdictUnknown, reason, format, args...)
}

// staleAfter is how many intervals, and how much on top, the newest measurement
// may be old before it says nothing about now.
func staleAfter(interval time.Duration) time.Duration { return 3*interval + 30*time.Second }

// whatIsMissing is why the data at hand cannot be the basis of a Pass, or nil.
// It does not excuse the canary from data that already speaks against it.
func whatIsMissing(p Plan, m v1beta1.Metric, h History, s seen) *Problem {
	switch {
	case s.failed != nil:
		return s.failed.Problem
	case needsBaseline(p, m) && s.baseline == nil:
		return &Problem{
			Reason:  v1beta1.ReasonNoMeasurementYet,
			Message: "stable's values from before the canary got all the traffic are not measured yet",
		}
	case len(s.good) == 0:
		return &Problem{
			Reason:  v1beta1.ReasonNoMeasurementYet,
			Message: "nothing was measured yet at this weight",
		}
	}
	age := h.At.Sub(s.good[len(s.good)-1].To)
	if !h.At.IsZero() && age > staleAfter(p.Interval) {
		return &Problem{
			Reason:  v1beta1.ReasonStaleMeasurements,
			Message: fmt.Sprintf("the newest measurement is %s old; newer ones are being asked for", seconds(age.Seconds())),
		}
	}
	return nil
}
