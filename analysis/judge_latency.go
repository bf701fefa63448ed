// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"

	"headgate.dev/headgate/api/v1beta1"
)

// judgeLatency compares quantiles through the bounds of the histogram's buckets.
//
// A histogram does not say where in its bucket a request lies, so nothing is
// interpolated. Stable's quantile x is taken as the upper bound of its bucket; the
// canary is allowed up to y, the first bound at or above x*(1+relative)+absolute.
// "The canary's quantile is above y" is then the same as "more than 1-q of its
// requests are slower than y", which is counted exactly:
//
//	 stable's bucket        limit
//	├─────────▓▓▓▓┤x──────────┊──┤y────────────▶
//	                             └─ slower than y: at most 1-q of the canary's
//
// The price is that y lies up to one bucket above the limit as written.
func judgeLatency(p Plan, l limits, s seen, missing *Problem) opinion {
	if len(s.good) == 0 && missing != nil {
		return unknown(missing.Reason, "%s", missing.Message)
	}
	a := gather(p, l, s)
	o := opinion{
		canary: quantileWords(a.canary, l.quantile), canaryRequests: a.canary.Requests,
		stable: quantileWords(a.stable, l.quantile), stableRequests: a.stable.Requests,
	}
	if !a.canary.Present && !a.stable.Present && missing == nil {
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic, "%s", nothingCounted(p.Subject))
	}
	name := quantileName(l.quantile)
	if l.min != nil && a.canary.Requests >= l.minRequests && fasterThan(*l.min, l.quantile, a) {
		return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"canary's %s is %s, less than the %s asked for", name, o.canary, seconds(*l.min))
	}

	bound, lastBound := math.Inf(1), math.Inf(1)
	numbers := fmt.Sprintf("canary's %s is %s", name, o.canary)
	switch {
	case l.compared && a.stable.Requests < l.minRequests && a.canary.Requests > 0:
		if missing != nil {
			return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message)
		}
		return tooFewOfStable(o, l, a.stable, a.seconds)
	case l.compared:
		var limit float64
		limit, bound = l.boundOver(a.stable, a.canary)
		lastBound = bound
		if a.lastStable.Requests > 0 {
			// Stable may have slowed down too, in the last interval.
			_, last := l.boundOver(a.lastStable, a.canary)
			lastBound = max(bound, last)
		}
		numbers += fmt.Sprintf(", stable's %s; allowed is %s", o.stable, boundWords(limit, bound))
	case l.max != nil:
		bound = a.canary.boundFrom(*l.max)
		lastBound = bound
		numbers += "; allowed is " + boundWords(*l.max, bound)
	}
	return judgeShares(o, l, shares{
		whole:   slower(a.canary, bound, l.quantile),
		last:    slower(a.lastCanary, lastBound, l.quantile),
		bad:     "slower than " + seconds(lastBound),
		seconds: a.seconds,
	}, numbers, missing)
}

// boundOver is the limit beside stable's quantile, and the bound of the canary's
// histogram that stands for it.
func (l limits) boundOver(stable, canary Sample) (limit, bound float64) {
	_, x, ok := stable.quantile(l.quantile)
	if !ok {
		return math.Inf(1), math.Inf(1)
	}
	limit = x*(1+l.relative) + l.absolute
	return limit, canary.boundFrom(limit)
}

// slower counts the requests above a bound against the share 1-q.
func slower(s Sample, bound, q float64) share {
	e := share{n: s.Requests, limit: 1 - q}
	if !math.IsInf(bound, 1) {
		e.bad = max(s.Requests-s.atMost(bound), 0)
	}
	return e
}

// fasterThan says that the canary's quantile is certainly under a lower limit, in
// the whole and in the last interval.
func fasterThan(least, q float64, a arms) bool {
	_, hi, ok := a.canary.quantile(q)
	_, last, okLast := a.lastCanary.quantile(q)
	return ok && okLast && hi < least && last < least
}
