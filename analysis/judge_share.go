// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"

	"headgate.dev/headgate/api/v1beta1"
)

// share is a number of bad requests among all, and the share that is allowed.
type share struct {
	bad, n, limit float64
}

func (s share) rate() float64 {
	if s.n <= 0 {
		return 0
	}
	return s.bad / s.n
}

func (s share) out() bool { return s.n > 0 && s.bad > s.limit*s.n }

const (
	// leastBad is how many bad requests it takes to speak against a canary.
	leastBad = 3
	// clearNats is how unlikely an excess must be by chance at the limit, e^-6.9 =
	// 1 in 1000 for one look (Chernoff's bound on the binomial tail). Without it,
	// a 99th percentile over a hundred requests rolls back healthy versions.
	clearNats = 6.9
)

// clearlyOut says that the share is above the limit and not by chance.
func (s share) clearlyOut() bool {
	if !s.out() || s.bad < leastBad {
		return false
	}
	p := min(s.rate(), 1)
	if s.limit <= 0 {
		return true
	}
	nats := p * math.Log(p/s.limit)
	if p < 1 {
		nats += (1 - p) * math.Log((1-p)/(1-s.limit))
	}
	return s.n*nats >= clearNats
}

// shares is the evidence of a gateway metric: bad requests of the canary in the
// whole step and in the last interval, each against its own limit.
type shares struct {
	whole, last share
	// bad is what the requests are called, "5xx" or "slower than 250ms".
	bad string
	// unanswered is the number of canary requests without an answer, beyond what
	// is usual for stable.
	unanswered float64
	// seconds is how long the canary has been measured.
	seconds float64
}

// judgeShares is the rule of the gateway's metrics.
//
// Fail takes the step as a whole being out of tolerance, with enough requests and
// clearly, and the last interval too: the noise of one interval does not roll
// back, nor does a fault that is over. Pass takes the step as a whole within
// tolerance, and nothing that speaks against it in the last interval.
func judgeShares(o opinion, l limits, e shares, numbers string, missing *Problem) opinion {
	enough := e.whole.n >= l.minRequests
	if enough && e.whole.clearlyOut() && e.last.out() {
		return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s", numbers)
	}
	switch {
	case missing != nil:
		return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message)
	case e.unanswered > unansweredShare*(e.whole.n+e.unanswered) && e.unanswered >= leastBad:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonUnanswered,
			"%s of %s requests sent to the canary have no answer; it must answer before it can pass",
			count(e.unanswered), count(e.whole.n+e.unanswered))
	case e.whole.n <= 0:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"no request of the canary was answered in %s", seconds(e.seconds))
	case !enough:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
			"%s of %s canary requests seen%s", count(e.whole.n), count(l.minRequests),
			moreTime(l.minRequests-e.whole.n, e.whole.n, e.seconds))
	case e.whole.out() && e.whole.clearlyOut():
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"%s; it is not rolled back while the last interval is within tolerance (%s of %s %s)",
			numbers, count(e.last.bad), count(e.last.n), e.bad)
	case e.whole.out():
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"%s; that is too close to call with %s bad requests", numbers, count(e.whole.bad))
	case e.last.clearlyOut():
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"%s, but the last interval is out of tolerance (%s of %s %s)",
			numbers, count(e.last.bad), count(e.last.n), e.bad)
	}
	return o.say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s", numbers)
}

// unansweredShare is how large a share of the canary's requests may be without
// an answer, beyond stable's own share, for a Pass.
const unansweredShare = 0.2

// unansweredBeyond is how many of the canary's requests wait beyond the share
// that is usual for stable.
func unansweredBeyond(stable, canary Sample) float64 {
	usual := 0.0
	if u := max(stable.Unanswered, 0); u+stable.Requests > 0 {
		usual = u / (u + stable.Requests)
	}
	u := max(canary.Unanswered, 0)
	return max(u-usual*(u+canary.Requests), 0)
}

// measured is the time from the first to the last measurement in seconds.
func measured(ms []Measurement) float64 {
	if len(ms) == 0 {
		return 0
	}
	return ms[len(ms)-1].To.Sub(ms[0].From).Seconds()
}

// tooFewOfStable is the opinion when stable's sample is too small to compare with.
func tooFewOfStable(o opinion, l limits, stable Sample, seconds float64) opinion {
	if stable.Requests <= 0 {
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"no request of stable was answered, so there is nothing to compare the canary with")
	}
	return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
		"%s of %s stable requests seen%s", count(stable.Requests), count(l.minRequests),
		moreTime(l.minRequests-stable.Requests, stable.Requests, seconds))
}
