// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// close takes the traffic back and ends the release. It waits for nothing and
// looks at nothing but where traffic may go; it is carried out before it is
// recorded. It always returns true.
func (p *pass) close(outcome v1beta1.Outcome, reason, message string) bool {
	r := p.release
	message = sentence(message)
	r.Outcome, r.Reason, r.Message = outcome, reason, message
	r.KeepUntil = p.second(p.now)
	if outcome == v1beta1.OutcomeRolledBack || outcome == v1beta1.OutcomeAborted {
		r.KeepUntil = p.second(p.now.Add(durationOr(p.in.Canary.Spec.KeepFailed, defaultKeepFailed)))
	}
	p.status.Weight = 0
	r.ConfirmedAt, r.OffRoute, r.SettleUntil, r.ReadyDeadline, r.UnknownSince = nil, nil, nil, nil, nil
	r.Needed, r.Promotion = 0, ""
	r.Approved, r.Expedited, r.Paused = false, false, false
	p.enter(v1beta1.PhaseRollingBack)
	p.actions, p.after = nil, 0
	p.stayOnStable()
	if p.seen.exposed() {
		p.do(EnsureWeights{Percent: 0, Closed: p.mark()})
		p.urgent = true
	}
	p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, "The gateway is asked for 0 %.")
	p.warn(reason, "%s All traffic goes back to version %s.", message, r.Stable)
	p.working(v1beta1.ReasonRollingBack, message)
	p.until(p.now)
	return true
}

// sentence ends with a full stop; what metrics and pods say need not.
func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// mark is what close leaves on the routes.
func (p *pass) mark() *Closing {
	r := p.release
	if r == nil || r.Outcome == "" {
		return nil
	}
	return &Closing{Attempt: r.Attempt, Outcome: r.Outcome, Reason: r.Reason, Message: r.Message}
}

// rollBack waits until no proxy sends to the canary any more and gives the
// routes back.
func (p *pass) rollBack() {
	r := p.release
	p.stayOnStable()
	p.relabel()
	if !p.emptied() {
		return
	}
	if r.Outcome == v1beta1.OutcomeSuperseded && p.releasable() && !p.in.Canary.Spec.Suspend {
		if serving := p.seen.serving(); serving != nil {
			p.begin(*serving)
			return
		}
	}
	if !p.detached() {
		return
	}
	p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionTrue, v1beta1.ReasonWeightConfirmed, "The gateway serves the stable version only.")
	p.enter(v1beta1.PhaseRolledBack)
	p.tell(v1beta1.ReasonRolledBack, "Version %s serves all traffic; the routes are as they were written.", r.Stable)
	p.until(p.now)
	p.rejected()
}

// releasable is true with a template held that is not the stable one.
func (p *pass) releasable() bool {
	t, serving := p.seen.Target, p.seen.serving()
	return t != nil && t.Paused && t.Held && t.Replicas > 0 && serving != nil && serving.Template != t.Template && p.missing() == nil
}

// emptied is true once no proxy sends to the canary, or the gateway had its
// time to say so.
func (p *pass) emptied() bool {
	if !p.seen.routeTraces() {
		return true
	}
	if p.seen.exposed() {
		p.do(EnsureWeights{Percent: 0, Closed: p.mark()})
		p.unsettle()
		p.working(v1beta1.ReasonRollingBack, p.cause("The traffic is taken back."))
		return false
	}
	return p.patient(patience)
}

// detached is true once the routes are as the user wrote them, everywhere.
func (p *pass) detached() bool {
	if p.seen.routeTraces() {
		p.do(EnsureRoutesRestored{})
		p.unsettle()
		p.working(v1beta1.ReasonRollingBack, p.cause("The routes are being restored."))
		return false
	}
	return len(p.seen.Routes) == 0 || p.patient(patience)
}

// patient waits for the gateway's confirmation, but not for ever: the way back
// must not depend on it. A deletion waits no longer than patience for anything.
func (p *pass) patient(limit time.Duration) bool {
	ok, why := p.confirmed()
	if ok {
		return true
	}
	since := p.in.Canary.DeletionTimestamp
	if since != nil {
		limit = min(limit, patience)
	}
	if p.release != nil && p.release.StageSince != nil && (since == nil || since.Before(&metav1.Time{Time: p.release.StageSince.Time})) {
		since = &metav1.Time{Time: p.release.StageSince.Time}
	}
	if since != nil {
		if !p.now.Before(since.Add(limit)) {
			return true
		}
		p.until(since.Add(limit))
	}
	p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, why+".")
	p.working(v1beta1.ReasonRollingBack, p.cause("Waiting for the gateway: "+why+"."))
	return false
}

func (p *pass) cause(now string) string {
	if p.release == nil || p.release.Message == "" {
		return now
	}
	return p.release.Message + " " + now
}

// stayOnStable keeps the Service on the stable version while canary pods exist.
// Where that version is gone or the Deployment rolls natively, narrowing would
// leave the Service without endpoints: then it is restored at once.
func (p *pass) stayOnStable() {
	s := p.seen.Service
	if s == nil || p.release == nil {
		return
	}
	gone := p.stableGone()
	switch {
	case gone && s.Traces:
		p.do(EnsureServiceRestored{})
	case !gone && s.Hash != p.release.Stable && len(p.seen.canaries()) > 0:
		p.do(EnsureServiceNarrowed{Hash: p.release.Stable})
	}
}

// stableGone is true when the Deployment does not keep the stable pods any more.
func (p *pass) stableGone() bool {
	stable, target := p.seen.find(p.release.Stable), p.seen.Target
	return target == nil || stable == nil || stable.Owner != OwnerTarget || !target.Paused && target.Template != stable.Template
}

// rolledBack keeps the rejected pods for a while, removes them, and waits for
// what the user does about the rejected version.
func (p *pass) rolledBack() {
	r, target := p.release, p.seen.Target
	if p.seen.exposed() {
		// Somebody put the canary back into a route, for example by applying a
		// copy of it that was taken during the release.
		p.enter(v1beta1.PhaseRollingBack)
		p.rollBack()
		return
	}
	p.relabel()
	serving := p.seen.serving()
	switch {
	case target == nil, serving == nil, !target.Paused && serving.Template != target.Template:
		r.KeepUntil = p.second(p.now)
		p.stayOnStable()
		if p.removed(r.Stable) {
			p.finish()
			p.status.Phase = v1beta1.PhaseInitializing
			p.working(v1beta1.ReasonTargetRollingOut, "The Deployment rolls out by itself.")
			p.until(p.now)
		}
		return
	case serving.Template == target.Template:
		p.reverted(*serving)
		return
	case p.releasable() && !p.in.Canary.Spec.Suspend && (p.command == v1beta1.CommandRetry || Revision(target.Template, r.Attempt) != r.Revision):
		p.begin(*serving)
		return
	}
	if p.command == v1beta1.CommandRetry {
		why := "the Deployment holds no version to release"
		if p.in.Canary.Spec.Suspend {
			why = "spec.suspend is true"
		} else if m := p.missing(); m != nil {
			why = strings.TrimSuffix(m.Message, ".")
		}
		p.event(true, v1beta1.ReasonCommandRefused, "Retry is not possible now: "+why+".")
	}
	p.keep()
	p.rejected()
}

// keep leaves the rejected pods until their time is over.
func (p *pass) keep() {
	r := p.release
	if p.seen.routeTraces() {
		p.do(EnsureRoutesRestored{})
		return
	}
	if r.KeepUntil != nil && p.now.Before(r.KeepUntil.Time) && len(p.seen.canaries()) > 0 {
		p.stayOnStable()
		p.restoreScalers()
		p.until(r.KeepUntil.Time)
		return
	}
	if p.removed(r.Stable) {
		p.finish()
	}
}

func (p *pass) finish() {
	if p.release.FinishedAt == nil {
		p.release.FinishedAt = p.second(p.now)
		p.tell(v1beta1.ReasonRestored, "The rejected pods are removed; every object is as it was written.")
	}
}

// rejected is the sentence of a release that was rolled back: the user's turn.
func (p *pass) rejected() {
	r := p.release
	p.summary(metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, r.Reason, fmt.Sprintf(
		"Version %s was rejected, %s serves. %s Apply a new version, go back by applying the one that serves, or try again with kubectl headgate retry %s.",
		r.Revision, r.Stable, r.Message, p.in.Canary.Name))
}

// reverted comes to rest: the template is the stable one again.
func (p *pass) reverted(serving ReplicaSet) {
	r := p.release
	r.KeepUntil = p.second(p.now)
	if p.seen.routeTraces() {
		p.do(EnsureRoutesRestored{})
		return
	}
	if !p.removed(r.Stable) {
		p.working(v1beta1.ReasonReverted, "The Deployment is the stable version again; what is left of the release is removed.")
		return
	}
	if p.seen.Target.Paused && p.seen.Target.Held {
		p.do(EnsureUnpaused{})
		return
	}
	p.finish()
	p.tell(v1beta1.ReasonReverted, "The Deployment is the stable version again.")
	p.rest(serving, nil)
}

// removed takes away the canary's pods and Service and what the release changed
// on the stable Service and the autoscalers, and says when all of it is gone.
// The Service stays narrowed until there is no canary pod it could select.
func (p *pass) removed(stable string) bool {
	pods := false
	for _, rs := range p.seen.canaries() {
		switch {
		case stable != "" && p.release != nil && !p.stableGone() && p.seen.Service != nil && p.seen.Service.Ready[rs.Hash] > 0:
			pods = true // the Service is on its way back to the stable pods
		case rs.Replicas > 0 && stable != "" && len(p.seen.Routes) > 0 && !p.patient(drain):
			pods = true // a proxy may still send requests to them
		case rs.Replicas > 0:
			p.do(EnsureCanaryReplicaSet{Hash: rs.Hash, Replicas: 0})
			pods = true
		case rs.Pods > 0:
			pods = true
		default:
			p.do(EnsureCanaryRemoved{Hash: rs.Hash})
		}
	}
	if pods {
		if stable != "" {
			p.stayOnStable()
		}
		return false
	}
	clean := len(p.seen.canaries()) == 0
	if s := p.seen.Service; s != nil && s.Traces {
		p.do(EnsureServiceRestored{})
		clean = false
	}
	if p.seen.CanaryService.Presence == Ours {
		p.do(EnsureCanaryServiceRemoved{})
		clean = false
	}
	return p.restoreScalers() && clean
}

func (p *pass) restoreScalers() (clean bool) {
	for _, s := range p.seen.Scalers {
		if s.Traces {
			p.do(EnsureScaleDownRestored{})
			return false
		}
	}
	return true
}
