// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// Measuring is true while a verdict counts: at a confirmed weight that is not on its way out, until the
// old version is given up, and at 0 with a Job or a webhook.
func Measuring(c *v1beta1.Canary) bool {
	s := c.Status
	open := s.Release != nil && (s.Phase == v1beta1.PhaseStepping || s.Phase == v1beta1.PhasePromoting && !givenUp(s.Release.Promotion))
	return open && s.Release.ConfirmedAt != nil && !disabled(c.Spec) && (s.Weight > 0 || judgedWithoutTraffic(c.Spec))
}

// Counting is true while what is measured is of the confirmed weight: the routes carry it, and it was
// confirmed again if they did not for a while.
func Counting(c *v1beta1.Canary, seen Observation) bool {
	return Measuring(c) && !offRoute(c.Status.Release) && seen.carried(c.Status.Weight)
}

func offRoute(r *v1beta1.ReleaseProgress) bool { return r.OffRoute != nil && r.OffRoute.Since != nil }

// judgedWithoutTraffic says whether a metric may judge a canary that no request reaches. What
// a template will turn out to be is not known here.
func judgedWithoutTraffic(s v1beta1.CanarySpec) bool {
	return s.Analysis != nil && slices.ContainsFunc(s.Analysis.Metrics, func(m v1beta1.Metric) bool {
		return m.Template != nil || !analysis.NeedsTraffic(m)
	})
}

// Unjudged is true for a Canary whose analysis is turned off.
func Unjudged(c *v1beta1.Canary) bool { return disabled(c.Spec) }

func disabled(s v1beta1.CanarySpec) bool { return s.Analysis != nil && s.Analysis.Disabled }

// step watches the present share and goes on to the next.
func (p *pass) step() {
	if p.interrupted() {
		return
	}
	p.followSpec()
	step := p.current()
	p.onRoute()
	complete := p.prepare(max(step.Weight, p.status.Weight))
	p.repair()
	switch {
	case !complete: // its sentence is set
		p.deadline()
	case p.status.Weight != step.Weight:
		p.advance(step)
	case p.release.ConfirmedAt == nil:
		p.await()
	default:
		p.watch(step)
	}
}

// repair puts the asked weight back where somebody changed a route.
func (p *pass) repair() {
	if len(p.seen.Routes) == 0 || p.seen.carried(p.status.Weight) {
		return
	}
	p.weights(p.status.Weight)
	if p.conditionIs(v1beta1.ConditionWeightConfirmed, metav1.ConditionTrue) {
		p.warn(v1beta1.ReasonRouteRepaired, "Somebody changed a route during the release; the canary is put back at %d %%, every other change is kept.", p.status.Weight)
		p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonRouteRepaired, "A route was changed by somebody else and is being repaired.")
	}
}

// onRoute notes whether the routes carry the weight that was confirmed. While they do not, requests do not reach
// the canary as the analysis takes for granted, whatever becomes of the repair.
func (p *pass) onRoute() {
	r := p.release
	if r.ConfirmedAt == nil {
		return
	}
	if r.OffRoute == nil {
		r.OffRoute = &v1beta1.OffRoute{}
	}
	off := r.OffRoute
	switch {
	case !p.seen.carried(p.status.Weight):
		if off.Since == nil {
			off.Since = p.micro(p.now)
		}
	case off.Since != nil:
		if ok, _ := p.confirmed(); ok {
			off.Lost.Duration += max(p.now.Sub(off.Since.Time), 0)
			off.Since, off.Until = nil, p.micro(p.now)
			r.UnknownSince = nil
		}
	}
	if *off == (v1beta1.OffRoute{}) {
		r.OffRoute = nil
	}
}

// advance raises the weight once the pods for it are there.
func (p *pass) advance(step v1beta1.Step) {
	p.judged()
	if !p.ready(step.Weight) {
		p.deadline()
		return
	}
	if p.stopped() {
		return
	}
	p.raise(step)
}

// raise asks for the step's share. Its clock starts when it is confirmed.
func (p *pass) raise(step v1beta1.Step) {
	r := p.release
	p.status.Weight = step.Weight
	r.ConfirmedAt, r.OffRoute, r.ReadyDeadline, r.UnknownSince = nil, nil, nil, nil
	r.Metrics = nil
	r.Needed = 0
	if step.Weight > 0 {
		r.Needed = replicasFor(step.Weight, p.seen.Target.Replicas)
	}
	p.weights(step.Weight)
	p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, fmt.Sprintf("The gateway is asked for %d %%.", step.Weight))
	p.forget(v1beta1.ConditionAnalysis)
	p.tell(v1beta1.ReasonWeightSet, "The canary is given %d %% of the traffic.", step.Weight)
	p.working(v1beta1.ReasonWaitingForGateway, fmt.Sprintf("The gateway is asked for %d %%.", step.Weight))
}

// await waits until the proxies serve the asked weight.
func (p *pass) await() {
	confirmed, why := p.confirmed()
	if !p.seen.carried(p.status.Weight) {
		confirmed, why = false, "the routes do not carry the weight yet"
	}
	if !confirmed {
		p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, why+".")
		p.working(v1beta1.ReasonWaitingForGateway, fmt.Sprintf("Waiting for the gateway to serve %d %%: %s.", p.status.Weight, why))
		return
	}
	p.release.ConfirmedAt = p.micro(p.now)
	p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionTrue, v1beta1.ReasonWeightConfirmed, fmt.Sprintf("The gateway serves %d %%.", p.status.Weight))
	p.tell(v1beta1.ReasonWeightConfirmed, "The gateway serves %d %%.", p.status.Weight)
	p.working(v1beta1.ReasonHolding, fmt.Sprintf("%d %% of the traffic is on the new version.", p.status.Weight))
}

// watch leaves the step when its time has passed, the verdict is Pass, and a
// person approved where one is asked for. A failed verdict never gets here.
func (p *pass) watch(step v1beta1.Step) {
	r := p.release
	verdict := p.judged()
	if p.seen.carried(p.status.Weight) {
		if ok, why := p.confirmed(); ok {
			p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionTrue, v1beta1.ReasonWeightConfirmed, fmt.Sprintf("The gateway serves %d %%.", p.status.Weight))
		} else {
			p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, why+".")
			p.working(v1beta1.ReasonWaitingForGateway, "Waiting for the gateway: "+why+".")
			return
		}
	} else {
		p.working(v1beta1.ReasonRouteRepaired, fmt.Sprintf("Staying at %d %%: %s", p.status.Weight, p.notCounted()))
		return
	}
	if p.stopped() {
		return
	}
	rest := step.Hold
	if step.Weight == 100 {
		rest = step.Bake
	}
	end := r.ConfirmedAt.Add(durationOr(rest, 0))
	if r.OffRoute != nil {
		end = end.Add(r.OffRoute.Lost.Duration)
	}
	if p.now.Before(end) && !r.Expedited {
		p.working(v1beta1.ReasonHolding, fmt.Sprintf("Watching %d %% until %s.", step.Weight, end.UTC().Format("15:04:05 MST")))
		p.until(end)
		return
	}
	open := verdict != v1beta1.VerdictPass && !r.Expedited
	overdue := open && p.overdue(end)
	switch {
	case overdue && p.onUnknown().Then != v1beta1.UnknownPromote:
		p.unresolved(step)
	case open && !overdue:
		p.working(v1beta1.ReasonWaitingForVerdict, fmt.Sprintf("Staying at %d %%: %s", step.Weight, p.seen.Verdict.Why))
	case step.Approval && !r.Approved:
		ask := fmt.Sprintf("The step at %d %% waits for a person: kubectl headgate promote %s", step.Weight, p.in.Canary.Name)
		if p.news(v1beta1.ReasonWaitingForApproval, ask) {
			p.event(false, v1beta1.ReasonWaitingForApproval, ask)
		}
	case overdue:
		p.unresolved(step)
	default:
		p.leave(step)
	}
}

// overdue says whether the step is without a verdict for longer than the spec allows.
func (p *pass) overdue(end time.Time) bool {
	policy := p.onUnknown()
	if policy == nil || p.release.UnknownSince == nil {
		return false
	}
	if since := p.release.UnknownSince.Time; since.After(end) {
		end = since
	}
	deadline := end.Add(policy.After.Duration)
	if p.now.Before(deadline) {
		p.until(deadline)
		return false
	}
	return true
}

func (p *pass) onUnknown() *v1beta1.OnUnknown {
	if a := p.in.Canary.Spec.Analysis; a != nil {
		return a.OnUnknown
	}
	return nil
}

// unresolved does what the spec says about a step that never gets to a verdict.
func (p *pass) unresolved(step v1beta1.Step) {
	policy := p.onUnknown()
	what := fmt.Sprintf("The step at %d %% had no verdict for %s: %s", step.Weight, policy.After.Duration, sentence(p.seen.Verdict.Why))
	switch policy.Then {
	case v1beta1.UnknownRollBack:
		p.close(v1beta1.OutcomeRolledBack, v1beta1.ReasonStillUnknown, what+" The spec says to roll back then.")
	case v1beta1.UnknownPromote:
		p.warn(v1beta1.ReasonStillUnknown, "%s The spec says to go on then.", what)
		p.leave(step)
	default:
		p.stalled(v1beta1.ReasonStillUnknown, fmt.Sprintf("%s A person decides: kubectl headgate promote %s, or abort.", what, p.in.Canary.Name))
	}
}

// leave goes to the next step, or to the promotion after the last.
func (p *pass) leave(step v1beta1.Step) {
	r := p.release
	r.Approved, r.Expedited = false, false
	p.tell(v1beta1.ReasonStepCompleted, "The step at %d %% is completed.", step.Weight)
	if int(r.StepIndex) < len(r.Steps)-1 {
		r.StepIndex++
		r.ReadyDeadline = p.second(p.now.Add(p.progressDeadline()))
		p.working(v1beta1.ReasonWaitingForPods, fmt.Sprintf("Preparing %d %%.", p.current().Weight))
		p.until(p.now)
		return
	}
	r.Promotion = v1beta1.PromotionScaling
	r.ReadyDeadline = p.second(p.now.Add(p.progressDeadline()))
	p.enter(v1beta1.PhasePromoting)
	p.tell(v1beta1.ReasonPromoting, "All steps are passed: version %s becomes the stable one.", r.Revision)
	p.working(v1beta1.ReasonPromoting, "The new version is handed over to the Deployment.")
	p.until(p.now)
}

// judged records what the analysis says of the confirmed weight.
func (p *pass) judged() v1beta1.VerdictResult {
	v := p.seen.Verdict
	switch {
	case disabled(p.in.Canary.Spec):
		p.condition(v1beta1.ConditionAnalysis, metav1.ConditionTrue, v1beta1.ReasonAnalysisDisabled, "The analysis is turned off in the spec.")
		return v1beta1.VerdictPass
	case p.status.Weight == 0 && (p.release.ConfirmedAt == nil || !judgedWithoutTraffic(p.in.Canary.Spec)):
		return v1beta1.VerdictPass // a step without traffic has nothing to judge
	case offRoute(p.release) && v.Result != v1beta1.VerdictFail:
		v = analysis.Verdict{Result: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonRouteRepaired, Why: p.notCounted(), Metrics: p.release.Metrics}
	case v.Result == "":
		v.Result, v.Reason, v.Why = v1beta1.VerdictUnknown, v1beta1.ReasonNoMeasurementYet, "Nothing was measured yet."
	}
	p.seen.Verdict = v
	p.release.Metrics = v.Metrics
	switch {
	case v.Result != v1beta1.VerdictUnknown:
		p.release.UnknownSince = nil
	case p.release.UnknownSince == nil:
		p.release.UnknownSince = p.micro(p.now)
	}
	if v.Reason == "" {
		v.Reason = string(v.Result)
	}
	status := map[v1beta1.VerdictResult]metav1.ConditionStatus{
		v1beta1.VerdictPass: metav1.ConditionTrue, v1beta1.VerdictFail: metav1.ConditionFalse,
	}[v.Result]
	if status == "" {
		status = metav1.ConditionUnknown
	}
	news := p.condition(v1beta1.ConditionAnalysis, status, v.Reason, v.Why)
	if news && status == metav1.ConditionUnknown {
		p.event(v.Reason == v1beta1.ReasonSourceUnavailable || v.Reason == v1beta1.ReasonSourceNotConfigured || v.Reason == v1beta1.ReasonUnusableAnswer,
			v.Reason, fmt.Sprintf("No verdict at %d %% yet: %s", p.status.Weight, v.Why))
	}
	return v.Result
}

// notCounted is why a step does not go on while the routes do not carry its weight.
func (p *pass) notCounted() string {
	return fmt.Sprintf("somebody changed a route, and the canary is being put back at %d %%; nothing is counted, and the step's time stands still, until the gateway serves that again.", p.status.Weight)
}

// stopped says whether a person, or the calendar, stopped the release where it
// stands.
func (p *pass) stopped() bool {
	switch {
	case p.in.Canary.Spec.Suspend:
		p.working(v1beta1.ReasonSuspended, fmt.Sprintf("Suspended at %d %%: set spec.suspend to false to go on.", p.status.Weight))
	case p.release.Paused:
		p.working(v1beta1.ReasonPaused, fmt.Sprintf("Paused at %d %%: kubectl headgate resume %s", p.status.Weight, p.in.Canary.Name))
	default:
		return p.closed()
	}
	return true
}

// followSpec takes over steps that were edited during the release. The present
// step is then the first one that allows the present weight.
func (p *pass) followSpec() {
	r, steps := p.release, Steps(p.in.Canary.Spec.Steps)
	if equality.Semantic.DeepEqual(r.Steps, steps) {
		return
	}
	index := slices.IndexFunc(steps, func(s v1beta1.Step) bool { return s.Weight >= p.status.Weight })
	if index < 0 {
		return // steps that do not end with 100 are refused by the API
	}
	r.Steps, r.StepIndex = steps, int32(index)
	r.Approved, r.Expedited = false, false
	r.ReadyDeadline = p.second(p.now.Add(p.progressDeadline()))
	p.tell(v1beta1.ReasonStepsChanged, "The steps were edited: the release goes on towards %d %%.", steps[index].Weight)
}

// interrupted checks, in the order of what overrides what, whether an open
// release must end, and ends it. Nothing here waits for anything.
func (p *pass) interrupted() bool {
	r, target := p.release, p.seen.Target
	for _, route := range p.seen.Routes {
		if c := route.Closed; c != nil && c.Attempt == r.Attempt {
			// The traffic was taken back and the status could not be recorded.
			if p.failing() {
				p.judged() // the numbers are still at hand
			}
			return p.close(c.Outcome, c.Reason, c.Message)
		}
	}
	if p.command == v1beta1.CommandAbort {
		return p.close(v1beta1.OutcomeAborted, v1beta1.ReasonAborted, fmt.Sprintf("A person aborted the release at %d %%%s.", p.status.Weight, p.because()))
	}
	if target == nil {
		return p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonTargetNotFound, "The Deployment was deleted during the release.")
	}
	stable := p.seen.find(r.Stable)
	switch {
	case stable == nil || stable.Owner != OwnerTarget:
		return p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonTargetChanged, "The pods of the stable version are not the Deployment's any more: it was recreated during the release.")
	case stable.Template == target.Template:
		return p.close(v1beta1.OutcomeReverted, v1beta1.ReasonReverted, fmt.Sprintf("The Deployment was put back to the stable version at %d %%.", p.status.Weight))
	case !target.Paused:
		return p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonBypassed, "The Deployment was let go during the release and rolls out natively.")
	case Revision(target.Template, r.Attempt) != r.Revision:
		return p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonSuperseded, fmt.Sprintf("A newer version came at %d %%; its release starts from the first step.", p.status.Weight))
	case target.Replicas == 0:
		return p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonScaledToZero, "The Deployment was scaled to zero during the release.")
	}
	if why, faulty := p.fault(); faulty {
		p.condition(v1beta1.ConditionCanaryReady, metav1.ConditionFalse, v1beta1.ReasonPodsNotReady, why)
		return p.close(v1beta1.OutcomeRolledBack, v1beta1.ReasonPodsNotReady, fmt.Sprintf("At %d %% of the traffic: %s", p.status.Weight, why))
	}
	if p.failing() && p.judged() == v1beta1.VerdictFail {
		return p.close(v1beta1.OutcomeRolledBack, v1beta1.ReasonMetricFailed, fmt.Sprintf("At %d %% of the traffic: %s", p.status.Weight, p.seen.Verdict.Why))
	}
	return false
}

// failing is true with a failed verdict on a confirmed weight, as long as there is a way back.
func (p *pass) failing() bool {
	r := p.release
	there := p.status.Phase == v1beta1.PhaseStepping || p.status.Phase == v1beta1.PhasePromoting && !givenUp(r.Promotion)
	return there && r.ConfirmedAt != nil && p.seen.Verdict.Result == v1beta1.VerdictFail
}

// fault says what is wrong with canary pods that have traffic. A scale-up is no
// fault: what counts is what the share needed when it was given.
func (p *pass) fault() (why string, faulty bool) {
	r := p.release
	if p.status.Weight == 0 || r.Needed == 0 {
		return "", false
	}
	r.Needed = min(r.Needed, replicasFor(p.status.Weight, p.seen.Target.Replicas))
	rs := p.seen.find(r.Revision)
	switch {
	case rs == nil:
		return "the canary's ReplicaSet was deleted.", true
	case rs.Trouble != "":
		return fmt.Sprintf("%d of %d canary pods are ready: %s.", rs.Ready, r.Needed, rs.Trouble), true
	case rs.Ready < r.Needed:
		return fmt.Sprintf("only %d of the %d canary pods it needs are ready.", rs.Ready, r.Needed), true
	}
	return "", false
}
