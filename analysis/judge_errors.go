// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"

	"headgate.dev/headgate/api/v1beta1"
)

func judgeErrors(p Plan, l limits, s seen, missing *Problem) opinion {
	ends, last := gather(p, l, s)
	whole := ends[len(ends)-1]
	o := opinion{
		canary: ofRequests(whole.canary), canaryRequests: whole.canary.Requests,
		stable: ofRequests(whole.stable), stableRequests: whole.stable.Requests,
	}
	numbers := fmt.Sprintf("canary fails %s", o.canary)
	var of func(stable, canary Sample) share
	switch {
	case l.compared:
		if early, yes := cannotCompare(p, l, o, whole, missing); yes {
			return early
		}
		of = func(stable, canary Sample) share {
			return share{bad: canary.Bad, n: canary.Requests, limit: l.shareOver(stable)}
		}
		numbers += fmt.Sprintf(", stable %s; allowed is %s", o.stable, percent(l.shareOver(whole.stable)))
	default:
		if lowest := ends[last].canary; l.min != nil && enoughBelow(l, whole.canary, lowest) {
			return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s; allowed is at least %s", numbers, percent(*l.min))
		}
		limit := 1.0
		if l.max != nil {
			limit = min(*l.max, 1)
		}
		of = func(_, canary Sample) share { return share{bad: canary.Bad, n: canary.Requests, limit: limit} }
		numbers += "; allowed is " + percent(limit)
	}
	e := judge(ends, last, l.minRequests, of)
	e.bad, e.unanswered = "failed", unansweredBeyond(whole.stable, whole.canary)
	return judgeShares(o, l, e, numbers, missing)
}

// cannotCompare is the opinion where there is nothing to compare, or too little.
func cannotCompare(p Plan, l limits, o opinion, a arms, missing *Problem) (opinion, bool) {
	switch {
	case a.stable.Requests >= l.minRequests:
		return o, false
	case missing != nil:
		return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message), true
	case !a.canary.Present && !a.stable.Present:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic, "%s", nothingCounted(p.Subject)), true
	case a.canary.Requests > 0:
		return tooFewOfStable(o, l, a.stable, a.seconds), true
	default:
		return o, false
	}
}

// shareOver is the share of bad requests allowed beside stable's.
func (l limits) shareOver(stable Sample) float64 {
	rate := 0.0
	if stable.Requests > 0 {
		rate = stable.Bad / stable.Requests
	}
	return min(rate*(1+l.relative)+l.absolute, 1)
}

// enoughBelow says that the canary's share of bad requests is under a lower limit,
// in the whole and in the last interval.
func enoughBelow(l limits, whole, last Sample) bool {
	return whole.Requests >= l.minRequests &&
		whole.Bad < *l.min*whole.Requests && last.Bad < *l.min*last.Requests
}

// nothingCounted is the sentence for a source that knows neither version.
func nothingCounted(s Subject) string {
	return fmt.Sprintf("Prometheus has no request counts of %s/%s and %s/%s: either no request reached them, or it does not scrape the gateway's proxies",
		s.Namespace, s.StableVersion.Service, s.Namespace, s.CanaryVersion.Service)
}
