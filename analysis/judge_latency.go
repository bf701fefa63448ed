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
// requests took longer than y", which is counted exactly:
//
//	 stable's bucket        limit
//	├─────────▓▓▓▓┤x──────────┊──┤y────────────▶
//	                             └─ longer than y: at most 1-q of the canary's
//
// The price is that y lies up to one bucket above the limit as written.
func judgeLatency(p Plan, l limits, s seen, missing *Problem) opinion {
	ends, last := gather(p, l, s)
	whole := ends[len(ends)-1]
	o := opinion{
		canary: quantileWords(whole.canary, l.quantile), canaryRequests: whole.canary.Requests,
		stable: quantileWords(whole.stable, l.quantile), stableRequests: whole.stable.Requests,
	}
	name := quantileName(l.quantile)
	numbers := fmt.Sprintf("canary's %s is %s", name, o.canary)
	var of func(stable, canary Sample) share
	var limit, bound float64
	switch {
	case l.compared:
		if early, yes := cannotCompare(p, l, o, whole, missing); yes {
			return early
		}
		limit = l.latencyOver(whole.stable)
		bound = whole.canary.boundFrom(limit)
		of = func(stable, canary Sample) share {
			return longer(canary, whole.canary.boundFrom(l.latencyOver(stable)), l.quantile)
		}
		numbers += fmt.Sprintf(", stable's %s; allowed is %s", o.stable, boundWords(limit, bound))
	default:
		if l.min != nil && enoughFaster(l, whole.canary, ends[last].canary) {
			return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s; allowed is at least %s", numbers, seconds(*l.min))
		}
		limit = math.Inf(1)
		if l.max != nil {
			limit = *l.max
		}
		bound = whole.canary.boundFrom(limit)
		of = func(_, canary Sample) share { return longer(canary, bound, l.quantile) }
		if l.max != nil {
			numbers += "; allowed is " + boundWords(limit, bound)
		}
	}
	e := judge(ends, last, l.minRequests, of)
	e.bad = "took longer than allowed"
	return judgeShares(o, l, e, numbers, missing)
}

// latencyOver is the latency allowed beside stable's quantile.
func (l limits) latencyOver(stable Sample) float64 {
	_, x, ok := stable.quantile(l.quantile)
	if !ok {
		return math.Inf(1)
	}
	return x*(1+l.relative) + l.absolute
}

// longer counts the requests above a bound against the share 1-q.
func longer(s Sample, bound, q float64) share {
	e := share{n: s.Requests, limit: 1 - q}
	if !math.IsInf(bound, 1) {
		e.bad = max(s.Requests-s.atMost(bound), 0)
	}
	return e
}

// enoughFaster says that the canary's quantile is certainly under a lower limit, in
// the whole and in the last interval.
func enoughFaster(l limits, whole, last Sample) bool {
	_, hi, ok := whole.quantile(l.quantile)
	_, hiLast, okLast := last.quantile(l.quantile)
	return whole.Requests >= l.minRequests && ok && okLast && hi < *l.min && hiLast < *l.min
}
