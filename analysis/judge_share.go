// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"

	"headgate.dev/headgate/api/v1beta1"
)

// share is a number of bad requests among all, and the share that is allowed.
type share struct {
	bad, n, limit float64
}

func (s share) out() bool { return s.n > 0 && s.bad > s.limit*s.n }

// nats is how much speaks for the share being above its limit: e^-nats bounds how
// probable as many bad requests are at the limit (Chernoff). 0 within the limit.
func (s share) nats() float64 {
	switch {
	case !s.out():
		return 0
	case s.limit <= 0:
		return math.Inf(1)
	}
	p := min(s.bad/s.n, 1)
	nats := p * math.Log(p/s.limit)
	if p < 1 {
		nats += (1 - p) * math.Log((1-p)/(1-s.limit))
	}
	return s.n * nats
}

const (
	// leastBad is how many bad requests it takes to speak against a canary.
	leastBad = 3
	// suspectNats, 1 in 1,000 at the limit, is how clear an excess over the whole
	// step must be to roll back, and one over its end to hold. Without it a 99th
	// percentile over a hundred requests rolls back healthy versions.
	suspectNats = 6.9
	// lateNats, 1 in 10,000, is how clear an excess over the end of a step must be to
	// roll back: more, because it is looked for at every possible beginning.
	lateNats = 9.2
)

func (s share) clearly(nats float64) bool { return s.bad >= leastBad && s.nats() >= nats }

// window is the end of a step: some of its measurements up to the newest, added up.
type window struct {
	share
	measurements int
	seconds      float64
}

// shares is the evidence of a gateway metric.
type shares struct {
	// ends are the windows from the newest measurement alone to the whole step;
	// last is the one that counts as the last interval. Neither is ever empty.
	ends []window
	last window
	// bad says what the requests did: "failed", "took longer than 250ms".
	bad string
	// unanswered is the number of canary requests without an answer, beyond what
	// is usual for stable.
	unanswered float64
}

func (e shares) whole() window { return e.ends[len(e.ends)-1] }

// late is the end of the step that speaks most clearly against the canary, over
// at least so many measurements and requests.
func (e shares) late(nats float64, measurements int, requests float64) (window, bool) {
	var worst window
	for _, w := range e.ends {
		if w.measurements >= measurements && w.n >= requests && w.clearly(nats) && (worst.n == 0 || w.nats() > worst.nats()) {
			worst = w
		}
	}
	return worst, worst.n > 0
}

// judgeShares is the rule of the gateway's metrics.
//
// Fail: the step as a whole is out of tolerance, with enough requests and clearly;
// or its end is, since whenever, over at least two measurements and more clearly.
// In both cases the last interval must be out of tolerance too: a fault that is
// over does not roll back.
//
// Pass: the step as a whole is within tolerance, with enough requests, and no end
// of it is clearly out. More bad requests of the canary thus never make a Fail a
// Pass: they only make each of the windows worse.
func judgeShares(o opinion, l limits, e shares, numbers string, missing *Problem) opinion {
	whole := e.whole()
	enough := whole.n >= l.minRequests
	if enough && e.last.out() {
		if whole.clearly(suspectNats) {
			return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s", numbers)
		}
		if late, ok := e.late(lateNats, 2, l.minRequests); ok {
			return o.say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s, but %s", numbers, e.words(late))
		}
	}
	switch {
	case missing != nil:
		return o.say(v1beta1.VerdictUnknown, missing.Reason, "%s", missing.Message)
	case e.unanswered > unansweredShare*(whole.n+e.unanswered) && e.unanswered >= leastBad:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonUnanswered,
			"%s of %s requests sent to the canary have no answer; it must answer before it can pass",
			count(e.unanswered), count(whole.n+e.unanswered))
	case whole.n <= 0:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"no request of the canary was answered in %s", waited(whole.seconds))
	case !enough:
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
			"%s of %s canary requests seen%s", count(whole.n), count(l.minRequests),
			moreTime(l.minRequests-whole.n, whole.n, whole.seconds))
	case whole.clearly(suspectNats):
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"%s; it is not rolled back while the last interval is within tolerance (%s of %s %s)",
			numbers, count(e.last.bad), count(e.last.n), e.bad)
	case whole.out():
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive,
			"%s; that is too close to call, as chance alone could do it with %s requests", numbers, count(whole.n))
	}
	if late, ok := e.late(suspectNats, 1, 0); ok {
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonInconclusive, "%s, but %s", numbers, e.words(late))
	}
	return o.say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s", numbers)
}

// words says what happened in a window.
func (e shares) words(w window) string {
	return fmt.Sprintf("in its last %s %s of %s %s, where %s is allowed",
		seconds(w.seconds), count(w.bad), count(w.n), e.bad, percent(w.limit))
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

// tooFewOfStable is the opinion when stable's sample is too small to compare with.
func tooFewOfStable(o opinion, l limits, stable Sample, inSeconds float64) opinion {
	if stable.Requests <= 0 {
		return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonNoTraffic,
			"no request of stable was answered, so there is nothing to compare the canary with")
	}
	return o.say(v1beta1.VerdictUnknown, v1beta1.ReasonTooFewRequests,
		"%s of %s stable requests seen%s", count(stable.Requests), count(l.minRequests),
		moreTime(l.minRequests-stable.Requests, stable.Requests, inSeconds))
}
