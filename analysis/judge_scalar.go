// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// number is the verdict on a source that gives one number, or a pass or fail, at a time. The newest
// must be in range for a Pass. For a Fail so many in a row as the user said must be out of range; or, without
// that, so many more than half of them that chance would do it too rarely.
func (j judgement) number(s *Series, now time.Time) v1beta1.MetricStatus {
	missing := s.missing(j.plan, j.metric, now)
	if s.Last == nil {
		return unknown(missing.Reason, "%s", missing.Message)
	}
	numbers, canary, stable := j.scalarNumbers(s)
	out := v1beta1.MetricStatus{}
	switch misses := j.metric.Misses; {
	case misses != nil && s.Out >= int(*misses):
		out = say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s%s", numbers, inARow(s.Out))
	case misses == nil && s.Sign.Crossed:
		out = say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s (out of range more often than chance would have it, %d in a row now)", numbers, s.Out)
	case missing != nil:
		out = unknown(missing.Reason, "%s", missing.Message)
	case s.Out > 0 && misses != nil:
		out = unknown(v1beta1.ReasonInconclusive, "%s; %d of %d measurements in a row that roll back", numbers, s.Out, *misses)
	case s.Out > 0:
		out = unknown(v1beta1.ReasonInconclusive, "%s; out of range %d times in a row", numbers, s.Out)
	default:
		out = say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s", numbers)
	}
	out.Canary, out.Stable = canary, stable
	if misses := j.metric.Misses; misses != nil {
		out.Against = share100(float64(s.Out), float64(*misses))
	} else {
		out.Against = share100(math.Log(s.Sign.Evidence()), -math.Log(j.plan.Alpha*j.plan.share(j.metric)))
	}
	return out
}

func inARow(n int) string {
	if n < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d measurements in a row)", n)
}

func (j judgement) scalarNumbers(s *Series) (sentence, canary, stable string) {
	m := s.Last
	if m.Kind == KindVerdict {
		sentence, canary = "it passed", "pass"
		if m.Canary.Value != 0 {
			sentence, canary = "it failed", "fail"
		}
		if m.Says != "" {
			sentence += ": " + m.Says
		}
		return sentence, canary, ""
	}
	beside := s.stable(*m, j.limits)
	_, allowed := j.limits.inRange(beside, m.Canary)
	canary = number(m.Canary.Value)
	sentence = "canary is " + canary
	if j.limits.compared {
		stable = number(beside.Value)
		sentence += ", stable is " + stable
	}
	return sentence + "; allowed is " + allowed, canary, stable
}

// inRange says whether the canary's value is allowed, and which values are.
func (l limits) inRange(stable, canary Sample) (bool, string) {
	v := canary.Value
	if l.compared {
		slack := math.Abs(stable.Value)*l.relative + l.absolute
		if l.higherIsBetter {
			limit := stable.Value - slack
			return v >= limit, "at least " + number(limit)
		}
		limit := stable.Value + slack
		return v <= limit, "at most " + number(limit)
	}
	switch {
	case l.min != nil && l.max != nil:
		return v >= *l.min && v <= *l.max, fmt.Sprintf("from %s to %s", number(*l.min), number(*l.max))
	case l.min != nil:
		return v >= *l.min, "at least " + number(*l.min)
	case l.max != nil:
		return v <= *l.max, "at most " + number(*l.max)
	}
	return true, "anything"
}
