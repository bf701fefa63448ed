// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Why explains in sentences where the Canary stands, how it came to that, with
// which numbers, and what to do next. The record is that of its release, or nil.
func Why(c v1beta1.Canary, record *v1beta1.Release, now time.Time, s Style) string {
	var b strings.Builder
	section := func(title, text string) {
		if text != "" {
			b.WriteString("\n" + s.bold(title) + "\n" + indent(text))
		}
	}
	b.WriteString(answer(c, now) + "\n")
	if r := c.Status.Release; r != nil {
		if record != nil && record.Spec.Attempt == r.Attempt && len(record.Status.Steps) > 0 {
			section("What was released", changes(record.Spec))
			section("The steps", stepStory(fresh(record.Status.Steps, *r), now, s))
			section("What happened", entries(longer(record.Status, *r), now, s))
		} else {
			section("The numbers", numbers(r.Metrics, s))
			section("What happened", journal(r.Journal, now, s))
		}
	}
	if list := Advice(c); len(list) > 0 {
		section("What to do", strings.Join(list, "\n")+"\n")
	}
	return b.String()
}

// answer is the first paragraph: the state and its cause.
func answer(c v1beta1.Canary, now time.Time) string {
	r := c.Status.Release
	name := c.Namespace + "/" + c.Name
	if r == nil {
		return fmt.Sprintf("%s is %s. %s No release has run yet.", name, strings.ToLower(words(phase(c))), ready(c).Message)
	}
	version := fmt.Sprintf("version %s (attempt %d, against %s)", r.Revision, r.Attempt, r.Stable)
	ago := ""
	if r.FinishedAt != nil {
		ago = " " + span(now.Sub(r.FinishedAt.Time)) + " ago"
	}
	switch r.Outcome {
	case v1beta1.OutcomeSucceeded:
		text := fmt.Sprintf("%s: %s was promoted%s and serves all traffic.", name, version, ago)
		if OutcomeOf(c) != Succeeded {
			text += " Now: " + ready(c).Message
		}
		return text
	case v1beta1.OutcomeRolledBack:
		return fmt.Sprintf("%s: %s was rolled back%s; %s serves all traffic. The cause, %s: %s", name, version, ago, r.Stable, r.Reason, r.Message)
	case v1beta1.OutcomeAborted:
		return fmt.Sprintf("%s: %s was aborted%s%s; %s serves all traffic. %s", name, version, ago, by(r.Journal, v1beta1.ReasonAborted), r.Stable, r.Message)
	case v1beta1.OutcomeSuperseded:
		return fmt.Sprintf("%s: %s gave way to something newer%s. %s Now: %s", name, version, ago, r.Message, ready(c).Message)
	case v1beta1.OutcomeReverted:
		return fmt.Sprintf("%s: %s was taken back%s because the Deployment went back to %s. %s", name, version, ago, r.Stable, r.Message)
	}
	return fmt.Sprintf("%s: %s is being released since %s; it has %d %% of the traffic (step %s). %s",
		name, version, span(now.Sub(r.StartedAt.Time)), c.Status.Weight, dash(c.Status.Step), ready(c).Message)
}

// by names the person of the newest entry with a reason.
func by(list []v1beta1.JournalEntry, reason string) string {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Reason == reason && list[i].By != "" {
			return " by " + list[i].By
		}
	}
	return ""
}

// fresh gives the last step the numbers of the status, which are a few seconds newer than the record's.
func fresh(steps []v1beta1.ReleaseStep, r v1beta1.ReleaseProgress) []v1beta1.ReleaseStep {
	if len(r.Metrics) == 0 {
		return steps
	}
	steps = slices.Clone(steps)
	steps[len(steps)-1].Metrics = r.Metrics
	return steps
}

// longer is the record's journal, or the status's where that has entries that were not recorded.
func longer(record v1beta1.ReleaseStatus, r v1beta1.ReleaseProgress) v1beta1.ReleaseStatus {
	if r.Told > record.Told {
		return v1beta1.ReleaseStatus{Journal: r.Journal, Told: r.Told}
	}
	return record
}
