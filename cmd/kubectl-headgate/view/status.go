// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// journalTail is how many entries the page shows; why shows all.
const journalTail = 8

// Status is the page about one Canary.
func Status(c v1beta1.Canary, now time.Time, s Style) string {
	var b strings.Builder
	b.WriteString(overview(c, now, s))
	r := c.Status.Release
	if r == nil {
		b.WriteString("\n" + s.dim("No release yet: the next new version of the Deployment starts the first one.") + "\n")
		b.WriteString(nextSteps(c, s))
		return b.String()
	}
	b.WriteString("\n" + s.bold("STEPS") + "\n" + steps(c, now, s))
	if len(r.Metrics) > 0 {
		b.WriteString("\n" + metrics(r.Metrics, s))
	}
	if len(r.Journal) > 0 {
		b.WriteString("\n" + s.bold("JOURNAL") + "\n")
		b.WriteString(indent(journal(r.Journal[max(0, len(r.Journal)-journalTail):], now, s)))
	}
	b.WriteString(nextSteps(c, s))
	return b.String()
}

func overview(c v1beta1.Canary, now time.Time, s Style) string {
	g := grid{}
	add := func(name, text string) { g.rows = append(g.rows, []string{name, text}) }
	add("Canary", c.Namespace+"/"+c.Name)
	add("Target", strings.Join(attached(c), " · "))
	add("Phase", s.phase(c)+"  "+ready(c).Message)
	for _, fact := range c.Status.Conditions {
		// Facts that explain why it does not go on; what is fine is not repeated.
		if (fact.Type == v1beta1.ConditionAttached || fact.Type == v1beta1.ConditionCanaryReady) &&
			fact.Status == metav1.ConditionFalse && fact.Message != ready(c).Message {
			add("", s.wait(fact.Type+": "+fact.Message))
		}
	}
	if stable := c.Status.Stable; stable != "" {
		traffic := fmt.Sprintf("stable %s %d %%", stable, 100-c.Status.Weight)
		if open(c) {
			traffic = fmt.Sprintf("%s  canary %s %d %%  %s", traffic, c.Status.Release.Revision, c.Status.Weight, bar(c.Status.Weight))
		}
		add("Traffic", traffic)
	}
	if r := c.Status.Release; r != nil {
		add("Release", release(*r, now))
	}
	return g.String()
}

func attached(c v1beta1.Canary) []string {
	kind := c.Spec.Target.Kind
	if kind == "" {
		kind = "Deployment"
	}
	list := []string{kind + "/" + c.Spec.Target.Name}
	if c.Status.Service != "" {
		list = append(list, "Service/"+c.Status.Service)
	}
	for _, route := range c.Status.Routes {
		list = append(list, route.Kind+"/"+route.Name)
	}
	return list
}

func release(r v1beta1.ReleaseProgress, now time.Time) string {
	text := fmt.Sprintf("attempt %d: %s against %s, started %s ago", r.Attempt, r.Revision, r.Stable, span(now.Sub(r.StartedAt.Time)))
	switch {
	case r.Outcome != "" && r.FinishedAt != nil:
		text += fmt.Sprintf(", %s after %s", strings.ToLower(words(string(r.Outcome))), span(r.FinishedAt.Sub(r.StartedAt.Time)))
	case r.Outcome != "":
		text += ", " + strings.ToLower(words(string(r.Outcome)))
	case r.Paused:
		text += ", paused"
	}
	return text
}

func steps(c v1beta1.Canary, now time.Time, s Style) string {
	r := c.Status.Release
	g := grid{}
	for i, step := range r.Steps {
		mark := " "
		note := ""
		switch {
		case r.Outcome == v1beta1.OutcomeSucceeded || int32(i) < r.StepIndex || c.Status.Phase == v1beta1.PhasePromoting:
			mark = "✔"
		case int32(i) == r.StepIndex && r.Outcome != "":
			mark = "✘"
		case int32(i) == r.StepIndex:
			mark, note = "▶", progress(c, step, now)
		}
		g.rows = append(g.rows, []string{mark, fmt.Sprintf("%3d %%", step.Weight), conditions(step), note})
	}
	g.paint = func(_, column int, cell string) string {
		switch {
		case column == 0 && cell == "✔":
			return s.good(cell)
		case column == 0 && cell == "✘":
			return s.bad(cell)
		case column == 0:
			return s.wait(cell)
		}
		return cell
	}
	return indent(g.String())
}

// conditions says what a step asks for before it is left.
func conditions(step v1beta1.Step) string {
	var list []string
	if step.Hold != nil {
		list = append(list, "hold "+span(step.Hold.Duration))
	}
	if step.Bake != nil {
		list = append(list, "bake "+span(step.Bake.Duration))
	}
	if step.Approval {
		list = append(list, "approval")
	}
	return strings.Join(list, ", ")
}

// progress says how far the current step is.
func progress(c v1beta1.Canary, step v1beta1.Step, now time.Time) string {
	r := c.Status.Release
	switch {
	case c.Status.Phase == v1beta1.PhaseStarting:
		return "waiting for the canary's pods"
	case r.ConfirmedAt == nil:
		return "waiting for the gateway to serve this weight"
	}
	since := span(now.Sub(r.ConfirmedAt.Time))
	rest := step.Hold
	if step.Weight == 100 {
		rest = step.Bake
	}
	text := since + " so far"
	if rest != nil && now.Sub(r.ConfirmedAt.Time) < rest.Duration {
		text = since + " of " + span(rest.Duration)
	}
	if step.Approval && r.Approved {
		text += ", approved"
	}
	return text
}

func journal(list []v1beta1.JournalEntry, now time.Time, s Style) string {
	g := grid{}
	for _, e := range list {
		message := e.Message
		if e.By != "" {
			message += " (" + e.By + ")"
		}
		g.rows = append(g.rows, []string{clock(e.Time.Time, now), fmt.Sprintf("%3d %%", e.Weight), e.Reason, message})
	}
	g.paint = func(_, column int, cell string) string {
		if column == 0 {
			return s.dim(cell)
		}
		return cell
	}
	return g.String()
}

func nextSteps(c v1beta1.Canary, s Style) string {
	list := Advice(c)
	if len(list) == 0 {
		return ""
	}
	return "\n" + s.bold("NEXT") + "\n" + indent(strings.Join(list, "\n")+"\n")
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// words splits CamelCase: RolledBack becomes Rolled Back.
func words(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
