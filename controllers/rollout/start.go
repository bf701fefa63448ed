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

// begin opens a release of the target's present template against stable.
func (p *pass) begin(stable ReplicaSet) {
	attempt := int64(1)
	if p.release != nil {
		attempt = p.release.Attempt + 1
	}
	for p.seen.find(Revision(p.seen.Target.Template, attempt)) != nil {
		// A Canary that was made anew counts from 1: what the one before promoted
		// is the Deployment's now.
		attempt++
	}
	steps := Steps(p.in.Canary.Spec.Steps)
	p.release = &v1beta1.ReleaseProgress{
		Revision:      Revision(p.seen.Target.Template, attempt),
		Attempt:       attempt,
		Stable:        stable.Hash,
		Steps:         steps,
		StartedAt:     *p.second(p.now),
		ReadyDeadline: p.second(p.now.Add(p.progressDeadline())),
	}
	p.status.Release = p.release
	p.status.Stable = stable.Hash
	p.status.Weight = 0
	p.ended()
	p.enter(v1beta1.PhaseStarting)
	var weights []string
	for _, s := range steps {
		weights = append(weights, fmt.Sprint(s.Weight))
	}
	p.tell(v1beta1.ReasonReleaseStarted, "Version %s is held and released against %s: %s %%.", p.release.Revision, stable.Hash, strings.Join(weights, " → "))
	p.working(v1beta1.ReasonReleaseStarted, fmt.Sprintf("Releasing version %s.", p.release.Revision))
}

func (p *pass) progressDeadline() time.Duration {
	return durationOr(p.in.Canary.Spec.ProgressDeadline, defaultProgressDeadline)
}

func (p *pass) current() v1beta1.Step { return p.release.Steps[p.release.StepIndex] }

// start brings the canary up at weight 0: pods, Service and route are in place
// and confirmed before the first request.
func (p *pass) start() {
	if p.interrupted() {
		return
	}
	p.followSpec()
	if p.queued() {
		return
	}
	step := p.current()
	if p.leftovers() {
		// A proxy may still send to the pods of the attempt before: they go once
		// every proxy is known to have stopped.
		if p.seen.exposed() {
			p.weights(0)
			return
		}
		if ok, why := p.confirmed(); !ok {
			p.working(v1beta1.ReasonWaitingForGateway, "Waiting for the gateway to leave the version before: "+why+".")
			p.deadline()
			return
		}
	}
	if p.prepare(step.Weight) {
		if !p.seen.carried(0) {
			p.weights(0)
		}
		confirmed, why := p.confirmed()
		if !p.seen.carried(0) {
			confirmed, why = false, "the canary is being added to the routes at weight 0"
		}
		if !confirmed {
			p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionFalse, v1beta1.ReasonWaitingForGateway, why+".")
		} else {
			p.condition(v1beta1.ConditionWeightConfirmed, metav1.ConditionTrue, v1beta1.ReasonWeightConfirmed, "The gateway serves the routes with the canary at 0 %.")
		}
		switch ready := p.ready(step.Weight); {
		case !ready: // its sentence is set
		case !confirmed:
			p.working(v1beta1.ReasonWaitingForGateway, "Waiting for the gateway: "+why+".")
		case p.stopped():
			return
		default:
			p.enter(v1beta1.PhaseStepping)
			p.raise(step)
			return
		}
	}
	p.deadline()
}

// queued is true while another Canary's release is in a rule of this one, where
// two would take each other's weights for the user's. That may take long, and
// this release's own deadline starts after it.
func (p *pass) queued() bool {
	busy := p.seen.busy()
	if busy != nil && !p.seen.routeTraces() {
		p.release.ReadyDeadline = nil
		p.working(busy.Reason, busy.Message)
		return true
	}
	if p.release.ReadyDeadline == nil {
		p.release.ReadyDeadline = p.second(p.now.Add(p.progressDeadline()))
	}
	return false
}

// leftovers is true while something of another attempt is there.
func (p *pass) leftovers() bool {
	for _, rs := range p.seen.canaries() {
		if rs.Hash != p.release.Revision {
			return true
		}
	}
	s := p.seen.CanaryService
	return s.Presence == Ours && s.Hash != p.release.Revision
}

// prepare asks for everything a share of the traffic needs and says whether it
// exists. The Service is narrowed before there is a second version to select.
func (p *pass) prepare(weight int32) (complete bool) {
	r, seen := p.release, p.seen
	switch {
	case p.withoutService(), p.withoutRoute():
		return false
	case seen.CanaryService.Presence == Foreign:
		p.stalled(v1beta1.ReasonServiceNameTaken, fmt.Sprintf("Service %q exists and is not Headgate's: rename or delete it, the canary's pods need that name.", seen.CanaryService.Name))
		return false
	}
	p.label()
	p.holdScalers()
	if seen.Service.Hash != r.Stable {
		p.do(EnsureServiceNarrowed{Hash: r.Stable})
		if len(seen.canaries()) == 0 {
			p.working(v1beta1.ReasonReleaseStarted, "The Service is being narrowed to the stable version.")
			return false
		}
	}
	complete = p.pods(weight)
	if s := seen.CanaryService; s.Presence != Ours || s.Hash != r.Revision || !s.InSync {
		p.do(EnsureCanaryService{Hash: r.Revision})
		complete = complete && s.Presence == Ours && s.Hash == r.Revision
	}
	if !complete {
		p.working(v1beta1.ReasonWaitingForPods, "The canary's pods are being created.")
		p.condition(v1beta1.ConditionCanaryReady, metav1.ConditionFalse, v1beta1.ReasonWaitingForPods, "The canary's pods are being created.")
	}
	return complete
}

// pods asks for the pods of a share, and for nothing of other canaries.
func (p *pass) pods(weight int32) (exist bool) {
	for _, rs := range p.seen.canaries() {
		if rs.Hash != p.release.Revision {
			p.do(EnsureCanaryRemoved{Hash: rs.Hash})
		}
	}
	want := replicasFor(weight, p.seen.Target.Replicas)
	rs := p.seen.find(p.release.Revision)
	if rs == nil || rs.Replicas != want {
		p.do(EnsureCanaryReplicaSet{Hash: p.release.Revision, Replicas: want})
	}
	return rs != nil
}

func (p *pass) holdScalers() {
	for _, s := range p.seen.Scalers {
		if !s.Held {
			p.do(EnsureScaleDownHeld{})
			return
		}
	}
}

// ready says whether the canary can take a share: the pods are available and
// the Service knows their endpoints.
func (p *pass) ready(weight int32) bool {
	need := replicasFor(weight, p.seen.Target.Replicas)
	rs := p.seen.find(p.release.Revision)
	if rs != nil && rs.Available >= need && p.seen.CanaryService.Ready >= need {
		p.condition(v1beta1.ConditionCanaryReady, metav1.ConditionTrue, v1beta1.ReasonPodsReady, fmt.Sprintf("%d of %d canary pods are ready.", rs.Available, need))
		return true
	}
	message := fmt.Sprintf("Waiting for %d canary pod(s)", need)
	if rs != nil {
		message = fmt.Sprintf("%d of %d canary pods are ready", min(rs.Available, p.seen.CanaryService.Ready), need)
		if rs.Trouble != "" {
			message += ": " + rs.Trouble
		} else if rs.Waiting != "" {
			message += ": " + rs.Waiting
		}
	}
	p.condition(v1beta1.ConditionCanaryReady, metav1.ConditionFalse, v1beta1.ReasonWaitingForPods, message+".")
	p.working(v1beta1.ReasonWaitingForPods, message+".")
	return false
}

// deadline ends a release whose next share could not be prepared in time.
func (p *pass) deadline() {
	r := p.release
	if r.ReadyDeadline == nil {
		return
	}
	if p.now.Before(r.ReadyDeadline.Time) {
		p.until(r.ReadyDeadline.Time)
		return
	}
	why := "the gateway did not confirm the routes"
	for _, c := range p.status.Conditions {
		if c.Type == v1beta1.ConditionReady {
			why = strings.TrimSuffix(c.Message, ".")
		}
	}
	if f := p.seen.Failure; f != "" {
		why += "; " + strings.TrimSuffix(f, ".")
	}
	p.close(v1beta1.OutcomeRolledBack, v1beta1.ReasonProgressDeadline,
		fmt.Sprintf("The canary was not ready for %d %% of the traffic within %s: %s.", p.current().Weight, p.progressDeadline(), why))
}

// weights asks for a share in every route. What the gateway said before does
// not count for it.
func (p *pass) weights(percent int32) {
	p.do(EnsureWeights{Percent: percent})
	p.unsettle()
}

func (p *pass) unsettle() {
	if p.release != nil {
		p.release.SettleUntil = nil
	}
}

// confirmed says whether every proxy serves the routes as they are in the API,
// and else what is waited for.
func (p *pass) confirmed() (ok bool, why string) {
	ok, foreign, why := p.seen.programmed()
	if !ok || len(p.seen.Routes) == 0 {
		p.unsettle()
		if why == "" {
			why = "no route names the Service"
		}
		return false, why
	}
	if !foreign || p.release == nil {
		return true, ""
	}
	if p.release.SettleUntil == nil {
		p.release.SettleUntil = p.micro(p.now.Add(settle))
	}
	if p.now.Before(p.release.SettleUntil.Time) {
		p.until(p.release.SettleUntil.Time)
		return false, fmt.Sprintf("the routes are accepted; %s for the gateway's proxies to follow", settle)
	}
	return true, ""
}
