// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"

	"headgate.dev/headgate/api/v1beta1"
)

var verbs = []string{
	v1beta1.CommandPromote, v1beta1.CommandPromoteFull, v1beta1.CommandAbort,
	v1beta1.CommandRetry, v1beta1.CommandPause, v1beta1.CommandResume,
}

// takeCommand reads the command annotation. A command is carried out in the
// pass that records it in HandledCommand, and never again until the annotation
// was seen absent: exactly once, whatever fails in between.
func (p *pass) takeCommand() {
	value, given := p.in.Canary.Annotations[v1beta1.AnnotationCommand]
	if !given {
		p.status.HandledCommand = ""
		return
	}
	p.do(ClearCommand{Value: value})
	if value == "" || value == p.status.HandledCommand {
		return
	}
	p.status.HandledCommand = value
	verb, why, _ := strings.Cut(value, ":")
	verb, why = strings.TrimSpace(verb), strings.TrimSpace(why)
	by := p.in.Canary.Annotations[v1beta1.AnnotationCommandBy]
	if refusal := p.refuse(verb); refusal != "" {
		p.event(true, v1beta1.ReasonCommandRefused, refusal)
		return
	}
	p.command, p.why, p.by = verb, why, by
	switch verb {
	case v1beta1.CommandPause:
		p.release.Paused = true
		p.tell(v1beta1.ReasonPaused, "Paused at %d %%%s.", p.status.Weight, p.because())
	case v1beta1.CommandResume:
		p.release.Paused = false
		p.tell(v1beta1.ReasonResumed, "Resumed at %d %%%s.", p.status.Weight, p.because())
	case v1beta1.CommandPromote:
		p.approve()
	case v1beta1.CommandPromoteFull:
		p.release.StepIndex = int32(len(p.release.Steps) - 1)
		p.release.Approved, p.release.Expedited = false, false
		p.release.ReadyDeadline = p.second(p.now.Add(p.progressDeadline()))
		p.tell(v1beta1.ReasonExpedited, "The remaining steps are skipped: going to 100 %%%s.", p.because())
	}
}

func (p *pass) because() string {
	if p.why == "" {
		return ""
	}
	return ": " + p.why
}

// approve gives the approval the step asks for; where that is given or not
// asked for, it ends the hold and stops waiting for evidence.
func (p *pass) approve() {
	step := p.release.Steps[p.release.StepIndex]
	if step.Approval && !p.release.Approved {
		p.release.Approved = true
		p.tell(v1beta1.ReasonApproved, "The step at %d %% is approved%s.", step.Weight, p.because())
		return
	}
	p.release.Expedited = true
	p.tell(v1beta1.ReasonExpedited, "The step at %d %% is ended early%s.", step.Weight, p.because())
}

// refuse gives the sentence that refuses a command, or nothing.
func (p *pass) refuse(verb string) string {
	phase := p.status.Phase
	late := phase == v1beta1.PhasePromoting && p.release != nil && handedOver(p.release.Promotion)
	switch verb {
	case v1beta1.CommandPromote, v1beta1.CommandPromoteFull:
		switch {
		case phase == v1beta1.PhaseStarting && verb == v1beta1.CommandPromoteFull, phase == v1beta1.PhaseStepping:
			return ""
		case phase == v1beta1.PhaseStarting:
			return "There is no step to promote yet: the canary's pods are starting. Use promote-full to go to 100 % as soon as they are ready."
		case phase == v1beta1.PhasePromoting:
			return "There is no step to promote: the new version is being promoted already."
		}
		return fmt.Sprintf("There is no release to %s: it starts when the Deployment's template changes; use retry to release a rejected version again.", verb)
	case v1beta1.CommandAbort:
		switch {
		case late:
			return "It is too late to abort: the new version belongs to the Deployment already. Apply the old version, or use kubectl rollout undo once this release is finished: that starts a release of the old one."
		case p.open():
			return ""
		}
		return "There is no release to abort."
	case v1beta1.CommandPause, v1beta1.CommandResume:
		if phase == v1beta1.PhaseStarting || phase == v1beta1.PhaseStepping {
			return ""
		}
		return fmt.Sprintf("There is no step to %s. To keep releases from starting, set spec.suspend: true.", verb)
	case v1beta1.CommandRetry:
		if phase == v1beta1.PhaseRolledBack {
			return ""
		}
		return "There is no rejected version to retry."
	}
	return fmt.Sprintf("%q is not a command: write one of %s, optionally followed by \": <reason>\".", verb, strings.Join(verbs, ", "))
}
