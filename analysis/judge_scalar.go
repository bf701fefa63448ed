// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"

	"headgate.dev/headgate/api/v1beta1"
)

// misses is how many measurements in a row must be out of range for a Fail of a
// metric that gives one number at a time.
const misses = 3

// judgeScalar compares single numbers: the newest must be in range for a Pass,
// the newest three out of range for a Fail.
func judgeScalar(l limits, s seen, missing *Problem) opinion {
	out := 0
	for i := len(s.good) - 1; i >= 0; i-- {
		if in, _ := l.inRange(s.stable(i, l), s.good[i].Canary); in {
			break
		}
		out++
	}
	var o opinion
	var allowed string
	if n := len(s.good); n > 0 {
		stable, canary := s.stable(n-1, l), s.good[n-1].Canary
		_, allowed = l.inRange(stable, canary)
		o.canary = number(canary.Value)
		if l.compared {
			o.stable = number(stable.Value)
		}
	}
	numbers := "canary is " + o.canary
	if o.stable != "" {
		numbers += ", stable is " + o.stable
	}
	numbers += "; allowed is " + allowed
	baselined := !l.compared || missing == nil || s.failed != nil
	switch {
	case out >= misses && baselined:
		return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s (%d measurements in a row)", numbers, out)
	case missing != nil:
		return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message)
	case out > 0:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "%s; %d of %d measurements in a row that roll back", numbers, out, misses)
	}
	return o.say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s", numbers)
}

// stable is what measurement i of the canary is compared with.
func (s seen) stable(i int, l limits) Sample {
	if l.compared && s.baseline != nil {
		return s.baseline.Stable
	}
	return s.good[i].Stable
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
