// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// initialize looks for the target, its Service and its routes, waits for a
// native rollout to end, and then comes to rest.
func (p *pass) initialize() {
	p.status.Phase = v1beta1.PhaseInitializing
	p.ended()
	if !p.sweep() {
		return
	}
	if problem := p.attach(); problem != nil && problem == p.seen.busy() {
		p.working(problem.Reason, problem.Message)
		return
	} else if problem != nil {
		p.stalled(problem.Reason, problem.Message)
		return
	}
	target, serving := p.seen.Target, p.seen.serving()
	if serving == nil && target.Paused && target.Held {
		// Nothing serves alone that a release could be compared with: the
		// Deployment has no replicas, or the template came in the middle of a
		// rollout that was not Headgate's.
		p.do(EnsureUnpaused{})
		if p.news(v1beta1.ReasonNativeRollout, "The new version rolls out natively: there is no single version to compare it with.") {
			p.event(true, v1beta1.ReasonNativeRollout, "The new version rolls out natively: there is no single version to compare it with.")
		}
		return
	}
	if serving == nil || !target.Paused && serving.Template != target.Template {
		p.working(v1beta1.ReasonTargetRollingOut, "The Deployment is rolling out by itself; releases start once it is done.")
		return
	}
	if target.Bypass && p.status.Stable != "" && p.status.Stable != serving.Hash {
		p.do(ClearBypass{})
		p.event(false, v1beta1.ReasonBypassed, "The new version was rolled out natively, as the annotation "+v1beta1.AnnotationBypass+" asked.")
	}
	if target.Label == "" {
		// At rest means that the next template is held, so the mark comes first: a
		// pipeline may wait for Ready and apply at once.
		p.label()
		p.working(v1beta1.ReasonInitializing, "The Deployment is being marked, so that its next version is held.")
		return
	}
	p.rest(*serving, nil)
	p.event(false, v1beta1.ReasonAttached, fmt.Sprintf("Service %s and %d route(s) were found; new versions of the Deployment are released in steps.",
		p.seen.Service.Name, len(p.seen.Routes)))
}

// attach checks in order what a release needs, and records the answer.
func (p *pass) attach() *Problem {
	problem := p.missing()
	if problem == nil || problem == p.seen.busy() {
		p.condition(v1beta1.ConditionAttached, metav1.ConditionTrue, v1beta1.ReasonAttached, "Target, Service and routes were found.")
		return problem
	}
	p.condition(v1beta1.ConditionAttached, metav1.ConditionFalse, problem.Reason, problem.Message)
	return problem
}

func (p *pass) missing() *Problem {
	target := p.seen.Target
	if invalid := p.invalidSpec(); invalid != nil {
		return invalid
	}
	switch {
	case target == nil:
		return &Problem{v1beta1.ReasonTargetNotFound, fmt.Sprintf("There is no Deployment %q in this namespace: create it, or correct spec.target.name in a new Canary.", p.in.Canary.Spec.Target.Name)}
	case target.Label != "" && target.Label != p.in.Canary.Name:
		return &Problem{v1beta1.ReasonTargetTaken, fmt.Sprintf("Canary %q watches this Deployment already: delete one of the two.", target.Label)}
	case p.seen.ServiceProblem != nil:
		return p.seen.ServiceProblem
	case p.seen.RouteProblem != nil:
		return p.seen.RouteProblem
	case p.seen.Service == nil || len(p.seen.Routes) == 0:
		return &Problem{v1beta1.ReasonRouteNotFound, "No route of this namespace names a Service of the target: create an HTTPRoute or GRPCRoute with the Service as a backend."}
	}
	return nil
}

// rest is the state without a release: nothing is asked for but the label. A
// problem is something the next release will lack.
func (p *pass) rest(serving ReplicaSet, problem *Problem) {
	p.status.Phase = v1beta1.PhaseIdle
	p.status.Stable = serving.Hash
	p.status.Weight = 0
	p.label()
	if problem != nil && problem != p.seen.busy() {
		p.stalled(problem.Reason, problem.Message)
		return
	}
	p.resting(v1beta1.ReasonIdle, fmt.Sprintf("Version %s serves all traffic.", serving.Hash))
}

func (p *pass) label() {
	if p.seen.Target.Label == "" {
		p.do(EnsureHoldLabel{})
	}
}

// relabel is label where the Deployment may be gone.
func (p *pass) relabel() {
	if p.seen.Target != nil {
		p.label()
	}
}

// idle waits for a new template.
func (p *pass) idle() {
	if !p.sweep() {
		return
	}
	problem := p.attach()
	target, serving := p.seen.Target, p.seen.serving()
	if target == nil {
		p.status.Phase = v1beta1.PhaseInitializing
		p.stalled(problem.Reason, problem.Message)
		return
	}
	held := target.Paused && target.Held
	switch {
	case held && target.Replicas == 0:
		p.do(EnsureUnpaused{})
		if p.news(v1beta1.ReasonScaledToZero, "The Deployment has no replicas: the new version is taken over without steps.") {
			p.event(false, v1beta1.ReasonScaledToZero, "The Deployment has no replicas: the new version is taken over without steps.")
		}
	case serving == nil, !target.Paused && serving.Template != target.Template:
		p.rollsNatively()
	case serving.Template == target.Template:
		if held {
			p.do(EnsureUnpaused{})
		}
		p.rest(*serving, problem)
	case !held:
		p.label()
		p.working(v1beta1.ReasonTargetPaused, "The Deployment is paused with a new template, and not by Headgate: the release starts with kubectl rollout resume.")
	case p.in.Canary.Spec.Suspend:
		p.label()
		p.working(v1beta1.ReasonSuspended, "A new version is held; its release starts when spec.suspend is false.")
	case problem != nil && problem == p.seen.busy():
		p.label()
		p.working(problem.Reason, problem.Message)
	case problem != nil:
		p.stalled(problem.Reason, "A new version is held and cannot be released: "+problem.Message)
	case p.closed():
		p.label()
	default:
		p.begin(*serving)
	}
}

// rollsNatively waits for a rollout that is not Headgate's: let through by the
// bypass annotation, or made where the admission policy is not installed.
func (p *pass) rollsNatively() {
	p.status.Phase = v1beta1.PhaseInitializing
	if p.seen.Target.Bypass {
		p.working(v1beta1.ReasonBypassed, "The new version is rolled out natively, as the annotation "+v1beta1.AnnotationBypass+" asks.")
		return
	}
	p.event(true, v1beta1.ReasonNativeRollout, "The Deployment rolls out without a release. If its template changed, check that the admission policy of Headgate's chart is installed.")
	p.working(v1beta1.ReasonNativeRollout, "The Deployment rolls out without a release.")
}
