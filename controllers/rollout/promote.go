// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	"headgate.dev/headgate/api/v1beta1"
)

// handedOver is true for the stages from which there is no way back: the old
// version's pods are given up.
func handedOver(s v1beta1.PromotionStage) bool {
	switch s {
	case v1beta1.PromotionHandOver, v1beta1.PromotionNative, v1beta1.PromotionCleanup:
		return true
	}
	return false
}

// givenUp is true for the stages in which a failed verdict comes too late. In HandOver itself it does not before
// the pods are the Deployment's, or after they were taken back.
func givenUp(s v1beta1.PromotionStage) bool {
	return s == v1beta1.PromotionNative || s == v1beta1.PromotionCleanup
}

// promote hands the new version, which has all traffic, to the Deployment. Until
// the stage HandOver the stable pods can take everything back.
func (p *pass) promote() {
	stage := p.release.Promotion
	if !handedOver(stage) && p.interrupted() {
		return
	}
	if stage != v1beta1.PromotionRoutes && !handedOver(stage) {
		p.onRoute()
	}
	switch stage {
	case v1beta1.PromotionService:
		p.switchService()
	case v1beta1.PromotionRoutes:
		p.restoreRoutes()
	case v1beta1.PromotionHandOver:
		p.handOver()
	case v1beta1.PromotionNative:
		p.rollNatively()
	case v1beta1.PromotionCleanup:
		p.cleanUp()
	default:
		p.scale()
	}
}

func (p *pass) stage(s v1beta1.PromotionStage, message string) {
	p.release.Promotion = s
	p.release.StageSince = p.micro(p.now)
	p.unsettle()
	p.working(v1beta1.ReasonPromoting, message)
	p.until(p.now)
}

// scale brings the canary to the Deployment's replica count.
func (p *pass) scale() {
	p.release.Promotion = v1beta1.PromotionScaling
	if !p.prepare(100) {
		p.deadline()
		return
	}
	if !p.seen.carried(100) {
		p.repair()
		return
	}
	if !p.ready(100) {
		p.deadline()
		return
	}
	p.stage(v1beta1.PromotionService, "The Service is switched to the new version.")
}

// saturated says whether the canary has exactly the Deployment's replicas, all
// available, and asks for it.
func (p *pass) saturated() bool {
	rs, want := p.seen.find(p.release.Revision), p.seen.Target.Replicas
	if rs == nil {
		return false
	}
	if rs.Replicas != want {
		p.do(EnsureCanaryReplicaSet{Hash: rs.Hash, Replicas: want})
	}
	if rs.Replicas != want || rs.Available < want {
		p.working(v1beta1.ReasonWaitingForPods, fmt.Sprintf("%d of %d pods of the new version are ready.", rs.Available, want))
		return false
	}
	return true
}

// switchService makes the stable Service select the new version. No traffic
// goes there through the gateway: the canary's backend still has all of it.
func (p *pass) switchService() {
	r, svc := p.release, p.seen.Service
	if !p.saturated() || p.withoutService() || p.withoutRoute() {
		return
	}
	if !p.seen.carried(100) {
		p.repair()
		return
	}
	if svc.Hash != r.Revision {
		p.do(EnsureServiceNarrowed{Hash: r.Revision})
		p.unsettle()
		return
	}
	if svc.Ready[r.Revision] < p.seen.Target.Replicas || svc.Ready[r.Stable] > 0 {
		p.unsettle()
		return
	}
	if r.SettleUntil == nil {
		r.SettleUntil = p.micro(p.now.Add(settle))
	}
	if p.now.Before(r.SettleUntil.Time) {
		p.until(r.SettleUntil.Time)
		return
	}
	p.stage(v1beta1.PromotionRoutes, "The routes are put back to the Service, which is the new version now.")
}

func (p *pass) withoutService() bool {
	if p.seen.Service != nil {
		return false
	}
	problem := p.seen.ServiceProblem
	if problem == nil {
		problem = &Problem{v1beta1.ReasonServiceNotFound, "The Service is gone: create it again."}
	}
	p.stalled(problem.Reason, problem.Message)
	return true
}

// withoutRoute is true while there is no route that traffic could be moved in.
func (p *pass) withoutRoute() bool {
	if len(p.seen.Routes) > 0 {
		return false
	}
	problem := p.seen.RouteProblem
	if problem == nil {
		problem = &Problem{v1beta1.ReasonRouteNotFound, fmt.Sprintf("No route names Service %q any more: put it back as a backend, or end the release with kubectl headgate abort %s.", p.seen.Service.Name, p.in.Canary.Name)}
	}
	p.stalled(problem.Reason, problem.Message)
	return true
}

// restoreRoutes gives the routes back to the user. The Service they name is the
// new version.
func (p *pass) restoreRoutes() {
	if !p.saturated() || p.withoutService() {
		return
	}
	if p.seen.Service.Hash != p.release.Revision {
		// Somebody undid the narrowing: as long as the canary's backend has the
		// traffic nothing is lost by going one stage back.
		p.stage(v1beta1.PromotionService, "The Service is switched to the new version.")
		return
	}
	if p.seen.routeTraces() {
		p.do(EnsureRoutesRestored{})
		p.unsettle()
		return
	}
	p.status.Weight = 100
	if ok, why := p.confirmed(); !ok && len(p.seen.Routes) > 0 {
		p.working(v1beta1.ReasonWaitingForGateway, "Waiting for the gateway to serve the routes as they were: "+why+".")
		return
	}
	p.stage(v1beta1.PromotionHandOver, "The Deployment takes the pods over.")
}

// handOver makes the Deployment adopt the ReplicaSet. The Deployment controller
// finds it saturated and scales the old one down, paused or not.
func (p *pass) handOver() {
	r, target := p.release, p.seen.Target
	rs := p.seen.find(r.Revision)
	if target == nil || rs == nil {
		p.stage(v1beta1.PromotionCleanup, "The Deployment or its pods were deleted; what is left of the release is removed.")
		return
	}
	if Revision(target.Template, r.Attempt) != r.Revision {
		p.overtaken(*rs)
		return
	}
	if p.rejectedLate(*rs) {
		return
	}
	p.keepOnCanary()
	if !p.saturated() {
		return
	}
	if rs.Owner != OwnerTarget {
		if old := p.forerunners(*rs); len(old) > 0 {
			p.do(EnsureHistoryMerged{Names: old})
		}
		p.do(EnsureHandedOver{Hash: r.Revision})
	}
	switch {
	case rs.Owner == OwnerTarget && p.onlyActive(*rs):
		p.tell(v1beta1.ReasonHandedOver, "The Deployment owns the pods of version %s; no pod was restarted.", r.Revision)
		p.stage(v1beta1.PromotionCleanup, "What the release added is removed.")
	case p.stageAge() >= adoption:
		p.warn(v1beta1.ReasonNativeRollout, "The Deployment did not take the pods over within %s; it rolls the version out by itself while the canary keeps serving.", adoption)
		p.stage(v1beta1.PromotionNative, "The Deployment rolls the new version out by itself.")
	default:
		p.working(v1beta1.ReasonPromoting, "Waiting for the Deployment to take the pods over.")
		p.until(r.StageSince.Add(adoption))
	}
}

// rejectedLate takes the traffic back on a failed verdict that came when the routes were given back already:
// as long as the pods are the Canary's, the stable ones are complete.
func (p *pass) rejectedLate(rs ReplicaSet) bool {
	stable := p.seen.find(p.release.Stable)
	if rs.Owner == OwnerTarget || !p.failing() || stable == nil || stable.Owner != OwnerTarget || stable.Available < p.seen.Target.Replicas {
		return false
	}
	p.judged()
	return p.close(v1beta1.OutcomeRolledBack, v1beta1.ReasonMetricFailed, fmt.Sprintf("While the new version was handed over: %s", p.seen.Verdict.Why))
}

// keepOnCanary keeps the Service on the new version while the old one goes.
func (p *pass) keepOnCanary() {
	if s := p.seen.Service; s != nil && s.Hash != p.release.Revision {
		p.do(EnsureServiceNarrowed{Hash: p.release.Revision})
	}
}

// forerunners are old ReplicaSets without pods that have the new template.
func (p *pass) forerunners(current ReplicaSet) []string {
	var names []string
	for _, rs := range p.seen.ReplicaSets {
		if rs.Owner == OwnerTarget && rs.Template == current.Template && rs.Replicas == 0 && rs.Pods == 0 {
			names = append(names, rs.Name)
		}
	}
	return names
}

// onlyActive is true once no other version of the Deployment has pods.
func (p *pass) onlyActive(current ReplicaSet) bool {
	for _, rs := range p.seen.ReplicaSets {
		if rs.Owner == OwnerTarget && rs.Name != current.Name && (rs.Replicas > 0 || rs.Pods > 0) {
			return false
		}
	}
	return true
}

// overtaken handles a template that came during the hand-over. If the old
// version is gone already, this release is over and the next one follows. If
// not, the pods are taken back, the Deployment controller fills the old version
// up again, and the release is superseded from there.
func (p *pass) overtaken(rs ReplicaSet) {
	r := p.release
	stable := p.seen.find(r.Stable)
	switch {
	case rs.Owner == OwnerTarget && (stable == nil || stable.Replicas == 0):
		p.stage(v1beta1.PromotionCleanup, "What the release added is removed.")
	case rs.Owner == OwnerTarget:
		p.keepOnCanary()
		p.do(EnsureTakenBack{Hash: r.Revision})
		p.working(v1beta1.ReasonSuperseded, "A newer version came during the hand-over.")
	case stable == nil || stable.Owner != OwnerTarget || stable.Available < p.seen.Target.Replicas:
		p.keepOnCanary()
		p.saturated()
		p.working(v1beta1.ReasonSuperseded, "A newer version came during the hand-over; waiting for the stable version to be complete again.")
	default:
		p.close(v1beta1.OutcomeSuperseded, v1beta1.ReasonSuperseded, "A newer version came during the hand-over; its release starts from the first step.")
	}
}

// rollNatively is the way out when the Deployment did not adopt: the canary
// stays the Canary's and keeps serving while the Deployment rolls.
func (p *pass) rollNatively() {
	r, target := p.release, p.seen.Target
	rs := p.seen.find(r.Revision)
	if target == nil || rs == nil {
		p.stage(v1beta1.PromotionCleanup, "The Deployment or its pods were deleted; what is left of the release is removed.")
		return
	}
	p.keepOnCanary()
	if rs.Owner == OwnerTarget {
		p.do(EnsureTakenBack{Hash: r.Revision})
		return
	}
	if !p.saturated() {
		return
	}
	if target.Paused {
		p.do(EnsureUnpaused{})
		p.working(v1beta1.ReasonNativeRollout, "The Deployment rolls the new version out by itself.")
		return
	}
	now := p.seen.serving()
	if now == nil || now.Template != target.Template || now.Available < target.Replicas {
		p.working(v1beta1.ReasonNativeRollout, "The Deployment rolls the new version out by itself.")
		return
	}
	p.stage(v1beta1.PromotionCleanup, "What the release added is removed.")
}

// cleanUp removes what the release added and comes to rest.
func (p *pass) cleanUp() {
	r, target := p.release, p.seen.Target
	if target != nil && target.Paused && target.Held && Revision(target.Template, r.Attempt) == r.Revision {
		p.do(EnsureUnpaused{})
		return
	}
	if p.seen.routeTraces() {
		p.do(EnsureRoutesRestored{})
		return
	}
	// The Service is widened before a leftover canary goes: it serves until then.
	if s := p.seen.Service; s != nil && s.Traces {
		p.do(EnsureServiceRestored{})
		return
	}
	if target != nil {
		if now := p.seen.serving(); now != nil && p.seen.Service != nil && p.seen.Service.Ready[now.Hash] < min(1, target.Replicas) {
			p.working(v1beta1.ReasonPromoting, "Waiting for the Service's endpoints.")
			return
		}
	}
	if !p.removed("") {
		p.working(v1beta1.ReasonPromoting, "What the release added is removed.")
		return
	}
	p.status.Weight = 0
	r.Promotion = ""
	r.Outcome, r.Reason = v1beta1.OutcomeSucceeded, v1beta1.ReasonPromoted
	r.Message = fmt.Sprintf("Version %s serves all traffic.", r.Revision)
	r.FinishedAt = p.second(p.now)
	r.ReadyDeadline, r.ConfirmedAt, r.OffRoute = nil, nil, nil
	p.ended()
	p.tell(v1beta1.ReasonPromoted, "Version %s serves all traffic; every object is as it was written.", r.Revision)
	now := p.seen.serving()
	if target == nil || now == nil {
		p.status.Phase = v1beta1.PhaseInitializing
		p.working(v1beta1.ReasonTargetRollingOut, "The Deployment is rolling out by itself.")
		return
	}
	p.rest(*now, nil)
}
