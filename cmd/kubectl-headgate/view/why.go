// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Why explains in sentences where the Canary stands, how it came to that, with
// which numbers, and what to do next.
func Why(c v1beta1.Canary, now time.Time, s Style) string {
	var b strings.Builder
	section := func(title, text string) {
		if text != "" {
			b.WriteString("\n" + s.bold(title) + "\n" + indent(text))
		}
	}
	b.WriteString(answer(c, now) + "\n")
	if r := c.Status.Release; r != nil {
		section("The numbers", numbers(r.Metrics, s))
		section("What happened", journal(r.Journal, now, s))
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

func numbers(list []v1beta1.MetricStatus, s Style) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%s: %s (%s). %s\n", m.Name, s.verdict(m.Verdict), m.Reason, m.Message)
		var values []string
		if m.Canary != "" {
			values = append(values, "canary "+m.Canary+over(m.CanaryRequests))
		}
		if m.Stable != "" {
			values = append(values, "stable "+m.Stable+over(m.StableRequests))
		}
		if len(values) > 0 {
			fmt.Fprintf(&b, "  %s\n", strings.Join(values, ", "))
		}
	}
	return b.String()
}

func over(requests int64) string {
	if requests == 0 {
		return ""
	}
	return fmt.Sprintf(" over %d requests", requests)
}
