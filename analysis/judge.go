// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"

	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// Judge says what the evidence means for the present step.
//
// One metric that fails decides for Fail (the first in the order of the spec),
// else one that is unknown for Unknown, else all pass. What is not known is never
// a Fail and never a Pass: no traffic, too little, or a source that does not answer.
// Metrics that only observe do not decide.
func Judge(p Plan, e *Evidence, now time.Time) Verdict {
	if len(p.Metrics) == 0 {
		return Verdict{
			Result: v1beta1.VerdictPass, Reason: v1beta1.ReasonAnalysisDisabled,
			Why: "the analysis is disabled: only time, approval and the readiness of pods decide",
		}
	}
	current := *e
	current.Begin(p)
	gateway := p.gatewayTrial()
	found := current.Gateway.Verdict(&gateway)
	var v Verdict
	for _, m := range p.Metrics {
		status, finding := judgeMetric(p, m, &current, found, now)
		status.Name, status.Observed = m.Name, m.Observe
		v.Metrics, v.Findings = append(v.Metrics, status), append(v.Findings, finding)
	}
	v.decide()
	return v
}

func (v *Verdict) decide() {
	for _, result := range []v1beta1.VerdictResult{v1beta1.VerdictFail, v1beta1.VerdictUnknown} {
		for _, s := range v.Metrics {
			if s.Verdict == result && !s.Observed {
				v.Result, v.Reason, v.Why = result, s.Reason, s.Name+": "+s.Message
				return
			}
		}
	}
	v.Result, v.Reason = v1beta1.VerdictPass, v1beta1.ReasonWithinTolerance
	for _, s := range v.Metrics {
		if s.Observed {
			continue
		}
		if v.Why != "" {
			v.Why += "; "
		}
		v.Why += s.Name + ": " + s.Message
	}
	if v.Why == "" {
		v.Why = "every metric only observes: time, approval and the readiness of pods decide"
	}
}

func judgeMetric(p Plan, m v1beta1.Metric, e *Evidence, found trial.Verdict, now time.Time) (v1beta1.MetricStatus, trial.Finding) {
	if problem, ok := p.Problems[m.Name]; ok {
		return unknown(problem.Reason, "%s", problem.Message), trial.Finding{}
	}
	l, err := limitsOf(m)
	if err != nil {
		return unknown(v1beta1.ReasonInvalidSpec, "%v", err), trial.Finding{}
	}
	if p.Subject.Weight <= 0 && NeedsTraffic(m) {
		return say(v1beta1.VerdictPass, v1beta1.ReasonNotJudged, "not judged at weight 0, where no request is sent to the canary"), trial.Finding{}
	}
	j := judgement{plan: p, metric: m, limits: l, elapsed: now.Sub(p.Subject.Since).Seconds()}
	kind := KindOf(m)
	switch {
	case m.Gateway != "":
		f := findingOf(found, m.Name)
		return j.counted(f, e.silent(p, m, now), e), f
	case kind == KindCounts, kind == KindHistogram:
		s := e.seriesOf(m.Name)
		c := p.trialOf(m)
		f := findingOf(s.Trial.Verdict(&c), m.Name)
		return j.counted(f, s.missing(p, m, now), e), f
	default:
		return j.number(e.seriesOf(m.Name), now), trial.Finding{}
	}
}

func findingOf(v trial.Verdict, name string) trial.Finding {
	for _, f := range v.Metrics {
		if f.Name == name {
			return f
		}
	}
	return trial.Finding{Name: name, Result: trial.Unknown, Reason: trial.NoTraffic}
}

func (e *Evidence) seriesOf(name string) *Series {
	if s := e.Series[name]; s != nil {
		return s
	}
	return &Series{}
}

func say(result v1beta1.VerdictResult, reason, format string, args ...any) v1beta1.MetricStatus {
	return v1beta1.MetricStatus{Verdict: result, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func unknown(reason, format string, args ...any) v1beta1.MetricStatus {
	return say(v1beta1.VerdictUnknown, reason, format, args...)
}

// quiet is how long no proxy may report before nothing is known of now: three of the times that usually
// pass from report to report, and what a busy machine may add.
func (e *Evidence) quiet() time.Duration {
	return 3*min(max(e.Usual, time.Second), maxUsual) + 2*time.Second
}

// maxUsual is the longest time from report to report that Envoy can be told.
const maxUsual = 5 * time.Minute

// silent is why what the proxies counted cannot be the basis of a Pass, or nil.
func (e *Evidence) silent(p Plan, m v1beta1.Metric, now time.Time) *Problem {
	since := later(p.Subject.Since, e.Newest)
	age := now.Sub(since)
	switch {
	case age <= e.quiet():
	case e.Newest.IsZero() || e.Proxies == 0 && e.Newest.Before(p.Subject.Since):
		return &Problem{
			Reason: v1beta1.ReasonNoProxies,
			Message: fmt.Sprintf("no proxy of a Gateway of class headgate reports requests of %s: where another gateway serves the routes, judge by metrics with prometheus, http, job or webhook",
				versions(p.Subject)),
		}
	default:
		return &Problem{
			Reason:  v1beta1.ReasonStaleMeasurements,
			Message: fmt.Sprintf("the proxies last reported %s ago; what they count is kept until they can", waited(age.Seconds())),
		}
	}
	if m.Gateway == v1beta1.GatewayLatency && !e.Warm {
		left := p.Subject.Since.Add(p.WarmUp).Sub(now).Seconds()
		if left > 0 {
			return &Problem{Reason: v1beta1.ReasonWarmingUp, Message: fmt.Sprintf("the new pods have %s to warm up", waited(p.WarmUp.Seconds()))}
		}
	}
	return nil
}

func versions(s Subject) string {
	return fmt.Sprintf("%s/%s and %s", s.Namespace, s.StableVersion.Service, s.CanaryVersion.Service)
}

// staleAfter is how many intervals, and how much on top, the newest measurement
// may be old before it says nothing about now.
func staleAfter(interval time.Duration) time.Duration { return 3*interval + 30*time.Second }

// missing is why what was asked for cannot be the basis of a Pass, or nil.
// It does not excuse the canary from data that already speaks against it.
func (s *Series) missing(p Plan, m v1beta1.Metric, now time.Time) *Problem {
	switch {
	case s.Failed != nil:
		return s.Failed.Problem
	case needsBaseline(p, m) && !s.BaselineTaken && KindOf(m) == KindScalar:
		return &Problem{
			Reason:  v1beta1.ReasonNoMeasurementYet,
			Message: "stable's values from before the canary got all the traffic are not measured yet",
		}
	case s.Last == nil:
		return &Problem{
			Reason:  v1beta1.ReasonNoMeasurementYet,
			Message: "nothing was measured yet at this weight",
		}
	}
	interval := p.Interval
	if m.Interval != nil {
		interval = m.Interval.Duration
	}
	age := now.Sub(s.Last.To)
	if age > staleAfter(interval) && !(KindOf(m) == KindVerdict && m.Interval == nil) {
		return &Problem{
			Reason:  v1beta1.ReasonStaleMeasurements,
			Message: fmt.Sprintf("the newest measurement is %s old; newer ones are being asked for", waited(age.Seconds())),
		}
	}
	return nil
}

func rounded(n float64) int64 { return int64(math.Round(n)) }
