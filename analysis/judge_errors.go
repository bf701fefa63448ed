// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"

	"headgate.dev/headgate/api/v1beta1"
)

// arms is what a gateway metric has seen: the step as a whole and its last interval.
type arms struct {
	stable, canary         Sample
	lastStable, lastCanary Sample
	seconds                float64
}

// gather adds the measurements up. Where the canary has all the traffic, stable
// is what it was before.
func gather(p Plan, l limits, s seen) arms {
	a := arms{seconds: measured(s.good)}
	a.stable, a.canary = total(s.good)
	a.lastStable, a.lastCanary = total(recent(s.good))
	if l.compared && p.Subject.Weight >= 100 {
		a.stable, a.lastStable = Sample{}, Sample{}
		if s.baseline != nil {
			a.stable, a.lastStable = s.baseline.Stable, s.baseline.Stable
		}
	}
	return a
}

func judgeErrors(p Plan, l limits, s seen, missing *Problem) opinion {
	if len(s.good) == 0 && missing != nil {
		return unknown(missing.Reason, "%s", missing.Message)
	}
	a := gather(p, l, s)
	o := opinion{
		canary: ofRequests(a.canary), canaryRequests: a.canary.Requests,
		stable: ofRequests(a.stable), stableRequests: a.stable.Requests,
	}
	if !a.canary.Present && !a.stable.Present && missing == nil {
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic, "%s", nothingCounted(p.Subject))
	}
	if l.min != nil && a.canary.Requests >= l.minRequests && belowMin(*l.min, a) {
		return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance,
			"canary fails %s of requests, less than the %s asked for", ofRequests(a.canary), percent(*l.min))
	}

	limit, lastLimit := 1.0, 1.0
	numbers := fmt.Sprintf("canary fails %s", ofRequests(a.canary))
	switch {
	case l.compared && a.stable.Requests < l.minRequests && a.canary.Requests > 0:
		if missing != nil {
			return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message)
		}
		return tooFewOfStable(o, l, a.stable, a.seconds)
	case l.compared:
		limit, lastLimit = l.shareOver(a.stable), l.shareOver(a.lastStable)
		if a.lastStable.Requests <= 0 {
			lastLimit = limit
		}
		numbers += fmt.Sprintf(", stable %s; allowed is %s", ofRequests(a.stable), percent(limit))
	case l.max != nil:
		limit, lastLimit = *l.max, *l.max
		numbers += "; allowed is " + percent(limit)
	}
	return judgeShares(o, l, shares{
		whole:      share{bad: a.canary.Bad, n: a.canary.Requests, limit: limit},
		last:       share{bad: a.lastCanary.Bad, n: a.lastCanary.Requests, limit: lastLimit},
		bad:        "failed",
		unanswered: unansweredBeyond(a.stable, a.canary),
		seconds:    a.seconds,
	}, numbers, missing)
}

// shareOver is the share of bad requests allowed beside stable's.
func (l limits) shareOver(stable Sample) float64 {
	rate := 0.0
	if stable.Requests > 0 {
		rate = stable.Bad / stable.Requests
	}
	return min(rate*(1+l.relative)+l.absolute, 1)
}

// belowMin says that the canary's share of bad requests is under a lower limit,
// in the whole and in the last interval.
func belowMin(least float64, a arms) bool {
	return a.canary.Bad < least*a.canary.Requests && a.lastCanary.Bad < least*a.lastCanary.Requests
}

// nothingCounted is the sentence for a source that knows neither version.
func nothingCounted(s Subject) string {
	return fmt.Sprintf("Prometheus has no request counts of %s/%s and %s/%s: either no request reached them, or it does not scrape the gateway's proxies",
		s.Namespace, s.StableVersion.Service, s.Namespace, s.CanaryVersion.Service)
}
