// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// History is one line per record of a release, the newest first.
func History(list []v1beta1.Release, now time.Time, s Style) string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b v1beta1.Release) int {
		return cmp.Or(cmp.Compare(b.Spec.Attempt, a.Spec.Attempt), cmp.Compare(a.Name, b.Name))
	})
	g := grid{rows: [][]string{{"ATTEMPT", "VERSION", "OUTCOME", "STARTED", "TOOK", "REASON", "MESSAGE"}}}
	for _, r := range list {
		started := "-"
		if at := r.Status.StartedAt; at != nil {
			started = clock(at.Time, now)
		}
		g.rows = append(g.rows, []string{
			fmt.Sprint(r.Spec.Attempt), version(r.Spec.Revision, r.Spec.Images), outcomeOf(r),
			started, took(r, now), dash(r.Status.Reason), r.Status.Message,
		})
	}
	g.paint = func(row, column int, cell string) string {
		switch {
		case row == 0:
			return s.bold(cell)
		case column == 2:
			return s.outcome(list[row-1].Status.Outcome, cell)
		}
		return cell
	}
	return g.String()
}

func (s Style) outcome(o v1beta1.Outcome, text string) string {
	switch o {
	case v1beta1.OutcomeSucceeded:
		return s.good(text)
	case v1beta1.OutcomeRolledBack, v1beta1.OutcomeAborted:
		return s.bad(text)
	}
	return s.wait(text)
}

// outcomeOf is how a release ended, or where it stands.
func outcomeOf(r v1beta1.Release) string {
	if r.Status.Outcome != "" {
		return string(r.Status.Outcome)
	}
	if r.Status.Phase == "" {
		return "-"
	}
	return fmt.Sprintf("%s %d %%", r.Status.Phase, r.Status.Weight)
}

// took is how long it was until a release was decided, or is going on.
func took(r v1beta1.Release, now time.Time) string {
	end := now
	switch s := r.Status; {
	case s.StartedAt == nil:
		return "-"
	case s.DecidedAt != nil:
		end = s.DecidedAt.Time
	case s.FinishedAt != nil:
		end = s.FinishedAt.Time
	}
	return span(end.Sub(r.Status.StartedAt.Time))
}

// version names a revision by its image too, where it is one of a single container.
func version(revision string, images []v1beta1.ContainerImage) string {
	if len(images) == 1 {
		return revision + " (" + images[0].Image + ")"
	}
	return revision
}

// Story tells what happened to a release, from its record.
func Story(r v1beta1.Release, now time.Time, s Style) string {
	var b strings.Builder
	section := func(title, text string) {
		if text != "" {
			b.WriteString("\n" + s.bold(title) + "\n" + indent(text))
		}
	}
	b.WriteString(ending(r, now) + "\n")
	section("What was released", changes(r.Spec))
	section("The steps", stepStory(r.Status.Steps, now, s))
	section("What happened", entries(r.Status, now, s))
	return b.String()
}

// ending is the first paragraph of a story: what, against what, and how it ended.
func ending(r v1beta1.Release, now time.Time) string {
	text := fmt.Sprintf("%s/%s: attempt %d released version %s against %s.", r.Namespace, r.Spec.Canary, r.Spec.Attempt,
		version(r.Spec.Revision, r.Spec.Images), version(r.Spec.Stable, r.Spec.StableImages))
	ago := ""
	if at := r.Status.DecidedAt; at != nil {
		ago = ", " + span(now.Sub(at.Time)) + " ago"
	}
	after := " after " + took(r, now) + ago
	person := by(r.Status.Journal, r.Status.Reason)
	switch r.Status.Outcome {
	case v1beta1.OutcomeSucceeded:
		text += " It was promoted" + after + "."
	case v1beta1.OutcomeRolledBack:
		text += " It was rolled back" + after + ". The cause, " + r.Status.Reason + ":"
	case v1beta1.OutcomeAborted:
		text += " It was aborted" + person + after + "."
	case v1beta1.OutcomeSuperseded:
		text += " It gave way to something newer" + after + "."
	case v1beta1.OutcomeReverted:
		text += " It was taken back" + after + ", because the Deployment went back."
	case "":
		if r.Status.StartedAt == nil {
			return text + " It has just begun."
		}
		text += " It is under way since " + took(r, now) + fmt.Sprintf(", with %d %% of the traffic.", r.Status.Weight)
	}
	if m := r.Status.Message; m != "" {
		text += " " + m
	}
	return text
}

// changes are the images of both versions, container by container.
func changes(spec v1beta1.ReleaseSpec) string {
	g := grid{}
	before := map[string]string{}
	for _, i := range spec.StableImages {
		before[i.Name] = i.Image
	}
	for _, i := range spec.Images {
		what := i.Image
		switch old, ok := before[i.Name]; {
		case !ok && len(before) > 0:
			what += " (new)"
		case ok && old == i.Image:
			what += " (as before)"
		case ok:
			what = old + " → " + what
		}
		g.rows = append(g.rows, []string{i.Name, what})
		delete(before, i.Name)
	}
	for _, i := range spec.StableImages {
		if _, gone := before[i.Name]; gone && len(spec.Images) > 0 {
			g.rows = append(g.rows, []string{i.Name, i.Image + " → (none)"})
		}
	}
	return g.String()
}

// stepStory tells each weight that the version had: from when to when, with which verdict and numbers.
func stepStory(steps []v1beta1.ReleaseStep, now time.Time, s Style) string {
	var b strings.Builder
	for _, step := range steps {
		fmt.Fprintf(&b, "%3d %%  %s", step.Weight, when(step, now))
		switch {
		case step.Verdict != "":
			fmt.Fprintf(&b, ": %s", s.paintVerdict(step.Verdict, string(step.Verdict)))
		case step.Why != "":
			b.WriteString(": " + step.Why)
		}
		b.WriteString("\n")
		if len(step.Metrics) > 0 {
			b.WriteString(indent(indent(numbers(step.Metrics, s))))
		} else if step.Verdict != "" && step.Why != "" {
			b.WriteString(indent(indent(step.Why + "\n")))
		}
	}
	return b.String()
}

func when(step v1beta1.ReleaseStep, now time.Time) string {
	if step.SetAt == nil {
		return "at a time that is not known"
	}
	end, text := now, "since "+clock(step.SetAt.Time, now)
	if step.LeftAt != nil {
		end = step.LeftAt.Time
		text = clock(step.SetAt.Time, now) + " to " + clock(end, now)
	}
	text += ", " + span(end.Sub(step.SetAt.Time))
	if step.ConfirmedAt == nil {
		return text + ", never confirmed by the gateway"
	}
	return text + ", confirmed after " + span(step.ConfirmedAt.Sub(step.SetAt.Time))
}

func entries(status v1beta1.ReleaseStatus, now time.Time, s Style) string {
	text := journal(status.Journal, now, s)
	if missing := status.Told - int64(len(status.Journal)); missing > 0 {
		text = s.dim(fmt.Sprintf("(%d earlier entries are not kept)", missing)) + "\n" + text
	}
	return text
}
