// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package view turns a Canary into what a person reads: a table, a page, an
// explanation, a refusal, a progress line. It is pure: the Canary and the time
// are arguments, text is the result.
package view

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// Outcome is where a Canary stands, as far as a script cares.
type Outcome string

// The outcomes.
const (
	// Succeeded: at rest, and the last release, if there was one, did not fail.
	Succeeded Outcome = "succeeded"
	// Rejected: the last release was rolled back or aborted.
	Rejected Outcome = "rejected"
	// NeedsPerson: nothing happens until a person acts.
	NeedsPerson Outcome = "needs a person"
	// InProgress: Headgate is at work.
	InProgress Outcome = "in progress"
)

// OutcomeOf says where the Canary stands. A status that speaks of an older spec
// is in progress.
func OutcomeOf(c v1beta1.Canary) Outcome {
	if c.Status.ObservedGeneration < c.Generation {
		return InProgress
	}
	if meta.IsStatusConditionTrue(c.Status.Conditions, v1beta1.ConditionStalled) && c.Status.Phase != v1beta1.PhaseRolledBack {
		return NeedsPerson
	}
	switch c.Status.Phase {
	case v1beta1.PhaseIdle:
		if ready(c).Status == metav1.ConditionTrue {
			return Succeeded
		}
		// A new template is held and cannot be released yet.
		if waitsForPerson(ready(c).Reason) {
			return NeedsPerson
		}
	case v1beta1.PhaseRolledBack:
		return Rejected
	case v1beta1.PhaseStarting, v1beta1.PhaseStepping:
		if waitsForPerson(ready(c).Reason) {
			return NeedsPerson
		}
	}
	return InProgress
}

func waitsForPerson(reason string) bool {
	switch reason {
	case v1beta1.ReasonWaitingForApproval, v1beta1.ReasonPaused, v1beta1.ReasonSuspended, v1beta1.ReasonTargetPaused:
		return true
	}
	return false
}

// ready is the condition whose message says what the Canary waits for.
func ready(c v1beta1.Canary) metav1.Condition {
	if found := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady); found != nil {
		return *found
	}
	return metav1.Condition{Status: metav1.ConditionUnknown, Message: "Headgate has not looked at this Canary yet."}
}

// open says whether a release has traffic or may get some.
func open(c v1beta1.Canary) bool {
	if c.Status.Release == nil {
		return false
	}
	switch c.Status.Phase {
	case v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhasePromoting, v1beta1.PhaseRollingBack:
		return true
	}
	return false
}

func phase(c v1beta1.Canary) string {
	if c.Status.Phase == "" {
		return string(v1beta1.PhaseInitializing)
	}
	return string(c.Status.Phase)
}
