// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// judgement is the verdict on one metric in the making.
type judgement struct {
	plan   Plan
	metric v1beta1.Metric
	limits limits
	// elapsed is how long the step lasts already, in seconds.
	elapsed float64
}

// counted is the verdict on what is counted in requests.
func (j judgement) counted(f trial.Finding, missing *Problem, e *Evidence) v1beta1.MetricStatus {
	if j.metric.Gateway == v1beta1.GatewayAnswers && f.Result != trial.Bad && missing == nil {
		if why := j.cannotCount(); why != "" {
			return say(v1beta1.VerdictPass, v1beta1.ReasonNotJudged, "%s", why)
		}
	}
	s := j.verdict(f, missing, e)
	s.StableRequests, s.StableBad = rounded(f.Stable.N), rounded(f.Stable.X)
	s.CanaryRequests, s.CanaryBad = rounded(f.Canary.N), rounded(f.Canary.X)
	if j.metric.Gateway != v1beta1.GatewayAnswers {
		s.Stable, s.Canary = ofRequests(f.Stable), ofRequests(f.Canary)
		if f.Canary.N > 0 {
			s.CanaryRange = percent(f.Low) + "-" + percent(f.High)
		}
	}
	s.Against, s.For = share100(f.Against, f.AgainstBound), share100(f.For, f.ForBound)
	if f.NeededKnown && f.Result == trial.Unknown {
		s.Needed = int64(math.Ceil(f.Needed))
	}
	return s
}

// cannotCount is why nothing can be concluded from how many requests are answered.
func (j judgement) cannotCount() string {
	switch {
	case j.plan.Subject.Weight >= 100:
		return "not judged at weight 100, where no request is answered beside the canary's"
	case j.plan.Subject.Mixed:
		return "not judged, because requests reach the versions by other ways than by weight too, or not at random: a version that does not answer is not promoted all the same, for want of requests"
	}
	return ""
}

// share100 is evidence in percent of its bound, from 0 to 999.
func share100(nats, bound float64) int32 {
	if !(bound > 0) || math.IsNaN(nats) {
		return 0
	}
	return int32(math.Round(100 * min(max(nats/bound, 0), 9.99)))
}

func (j judgement) verdict(f trial.Finding, missing *Problem, e *Evidence) v1beta1.MetricStatus {
	numbers := j.numbers(f)
	if f.Result == trial.Bad {
		return say(v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, "%s: that is %s; a version that is not would show it in at most one release in %s",
			numbers, j.beyond(), count(math.Exp(f.AgainstBound)))
	}
	switch f.Reason {
	case trial.PodsFailTogether:
		return unknown(v1beta1.ReasonPodsFailTogether,
			"%s; but pod %s of stable, where nothing changed, looks as bad as a version that would be rolled back: requests of one pod fail together here, so a person decides", numbers, f.Pod)
	case trial.MixExplains:
		return unknown(v1beta1.ReasonSplitNotAsAsked, "%s; but %s and may alone be why, so a person decides; a threshold, or a metric of your own, can tell", numbers, j.extra(f))
	case trial.SplitNotAsAsked:
		return unknown(v1beta1.ReasonSplitNotAsAsked,
			"the canary answers more than its %d %% of the requests: no comparison can be trusted; look for another way by which requests reach %s", j.plan.Subject.Weight, j.plan.Subject.CanaryVersion.Service)
	}
	if missing != nil {
		return unknown(missing.Reason, "%s", missing.Message)
	}
	switch f.Reason {
	case trial.GoodEnough:
		return say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s", numbers)
	case trial.ComparedBefore:
		return say(v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance, "%s: nothing serves beside it to compare with, and it was good enough while something did", numbers)
	case trial.Learning:
		if j.plan.Subject.Weight >= 100 {
			return unknown(v1beta1.ReasonLearning, "too few requests of stable were counted before the canary got all of them, so there is nothing to compare it with: begin with a step below 100, or give the metric a threshold; now a person decides")
		}
		return j.learning(e)
	case trial.TooFewRequests:
		return unknown(v1beta1.ReasonTooFewRequests, "%s; %s more canary requests are needed%s", numbers, count(math.Ceil(f.Needed)), j.within(f))
	case trial.NotGoodEnough:
		return unknown(v1beta1.ReasonNotGoodEnough, "%s: at these rates it will neither be shown to be %s nor to be %s; a person decides", numbers, j.goodEnough(), j.beyond())
	}
	if f.Stable.N <= 0 && f.Canary.N > 0 && j.plan.Subject.Weight < 100 {
		return unknown(v1beta1.ReasonNoTraffic, "no request of stable was answered, so there is nothing to compare the canary with")
	}
	return unknown(v1beta1.ReasonNoTraffic, "no request of the canary was answered in %s", waited(j.elapsed))
}

// learning says what is missing of stable before latencies can be compared.
func (j judgement) learning(e *Evidence) v1beta1.MetricStatus {
	t := &e.Gateway
	if j.metric.Gateway == "" {
		t = &e.seriesOf(j.metric.Name).Trial
	}
	seen := t.StableEver.N
	const enough = 1000
	if seen < 2*enough || len(t.Before) == 0 {
		return unknown(v1beta1.ReasonLearning, "stable is not known well enough yet to compare with: %s of about %d of its requests were seen", count(seen), enough)
	}
	return unknown(v1beta1.ReasonLearning, "the histogram is too coarse to compare with: %s; or give the metric a threshold", j.coarse(t.Before))
}

// coarse says which bound a histogram needs.
func (j judgement) coarse(h []sequential.Bucket) string {
	q := j.limits.quantile
	if q == 0 {
		q = sequential.Quantiles()[0]
	}
	x, _ := sequential.QuantileBound(h, q)
	if !math.IsInf(x, 1) {
		shift := sequential.Shift{Ratio: 1 + j.limits.relative, Seconds: j.limits.absolute}
		return fmt.Sprintf("%s of stable's requests took at most %s, and it has no bound above that from which a request is out of tolerance: give it one at %s or a little more, and some beyond",
			percent(q), seconds(x), seconds(shift.From(x)))
	}
	if len(h) < 2 {
		return "it has no bucket but +Inf: give it bounds around the times that stable takes"
	}
	return fmt.Sprintf("less than %s of stable's requests took at most %s, its largest bound: give it larger ones", percent(q), seconds(h[len(h)-2].Le))
}

// extra says what came by other ways than by the weight.
func (j judgement) extra(f trial.Finding) string {
	what := fmt.Sprintf("requests reach %s and %s by other ways than the weight too, such as a rule for testers or another route,",
		j.plan.Subject.StableVersion.Service, j.plan.Subject.CanaryVersion.Service)
	if f.Extra >= 1 {
		return fmt.Sprintf("%s about %s of these of the canary,", what, count(math.Round(f.Extra)))
	}
	return what
}

// numbers says what was counted at this step.
func (j judgement) numbers(f trial.Finding) string {
	switch {
	case j.metric.Gateway == v1beta1.GatewayAnswers:
		return fmt.Sprintf("the canary answered %s requests of %s, with %d %% of the traffic", count(f.Canary.N), count(f.Canary.N+f.Stable.N), j.plan.Subject.Weight)
	case KindOf(j.metric) == KindHistogram && f.Edge != (sequential.Edge{}):
		if !j.limits.compared {
			return fmt.Sprintf("%s of the canary's requests took longer than %s", ofRequests(f.Canary), seconds(f.Edge.Canary))
		}
		if f.Stable.N <= 0 {
			return fmt.Sprintf("%s of the canary's requests took longer than %s", ofRequests(f.Canary), seconds(f.Edge.Canary))
		}
		return fmt.Sprintf("%s of the canary's requests took longer than %s, %s of stable's longer than %s",
			ofRequests(f.Canary), seconds(f.Edge.Canary), ofRequests(f.Stable), seconds(f.Edge.Stable))
	case j.limits.compared && f.Stable.N > 0:
		return fmt.Sprintf("canary fails %s, stable %s", ofRequests(f.Canary), ofRequests(f.Stable))
	default:
		return "canary fails " + ofRequests(f.Canary)
	}
}

// beyond says what the canary is when it is rolled back.
func (j judgement) beyond() string {
	l := j.limits
	switch {
	case j.metric.Gateway == v1beta1.GatewayAnswers:
		return fmt.Sprintf("less than %s of its share", percent(1-l.relative))
	case !l.compared && KindOf(j.metric) == KindHistogram:
		return fmt.Sprintf("more than %s of them slower than %s", percent(1-l.quantile), seconds(*l.max))
	case !l.compared:
		return "more than " + percent(*l.max)
	case KindOf(j.metric) == KindHistogram:
		return fmt.Sprintf("slower than stable by more than %s or %s", percent(l.relative), seconds(l.absolute))
	default:
		return fmt.Sprintf("more than stable by more than %s of its rate plus %s", percent(l.relative), percent(l.absolute))
	}
}

// goodEnough says what the canary is when a step passes.
func (j judgement) goodEnough() string {
	return fmt.Sprintf("within %s of its rate plus %s", percent(j.limits.enough.Ratio-1), percent(j.limits.enough.Slack))
}

// within is how long the missing requests will take at the rate so far.
func (j judgement) within(f trial.Finding) string {
	if f.Canary.N <= 0 || j.elapsed <= 0 {
		return ""
	}
	return fmt.Sprintf(", about %s at the present rate", waited(math.Ceil(f.Needed*j.elapsed/f.Canary.N)))
}
