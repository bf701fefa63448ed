// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"headgate.dev/headgate/api/v1beta1"
)

// metrics is the table of the verdicts with their numbers. Columns that are empty for
// every metric are left out.
func metrics(list []v1beta1.MetricStatus, s Style) string {
	columns := []struct {
		head string
		cell func(m v1beta1.MetricStatus) string
	}{
		{"METRIC", func(m v1beta1.MetricStatus) string { return m.Name }},
		{"VERDICT", verdictOf},
		{"CANARY", func(m v1beta1.MetricStatus) string { return m.Canary }},
		{"RANGE", func(m v1beta1.MetricStatus) string { return m.CanaryRange }},
		{"STABLE", func(m v1beta1.MetricStatus) string { return m.Stable }},
		{"REQUESTS", func(m v1beta1.MetricStatus) string {
			return pair(m.CanaryRequests, m.StableRequests, m.CanaryRequests+m.StableRequests > 0)
		}},
		{"BAD", func(m v1beta1.MetricStatus) string {
			return pair(m.CanaryBad, m.StableBad, m.CanaryBad+m.StableBad > 0)
		}},
		{"AGAINST", func(m v1beta1.MetricStatus) string { return gauge(m.Against) }},
		{"FOR", func(m v1beta1.MetricStatus) string { return gauge(m.For) }},
		{"NEEDED", func(m v1beta1.MetricStatus) string {
			if m.Needed == 0 {
				return ""
			}
			return fmt.Sprint(m.Needed)
		}},
		{"WHY", func(m v1beta1.MetricStatus) string { return m.Message }},
	}
	g := grid{rows: make([][]string, len(list)+1)}
	for _, c := range columns {
		cells, filled := []string{c.head}, always(c.head)
		for _, m := range list {
			cell := c.cell(m)
			filled = filled || cell != ""
			cells = append(cells, dash(cell))
		}
		if !filled {
			continue
		}
		for i, cell := range cells {
			g.rows[i] = append(g.rows[i], cell)
		}
	}
	g.paint = func(row, column int, cell string) string {
		switch {
		case row == 0:
			return s.bold(cell)
		case column == 1:
			return s.paintVerdict(list[row-1].Verdict, cell)
		}
		return cell
	}
	return g.String()
}

// always is true for the columns that are always there.
func always(head string) bool {
	switch head {
	case "RANGE", "BAD", "AGAINST", "FOR", "NEEDED":
		return false
	}
	return true
}

func verdictOf(m v1beta1.MetricStatus) string {
	if m.Observed {
		return string(m.Verdict) + " (observed)"
	}
	return string(m.Verdict)
}

func pair(canary, stable int64, counted bool) string {
	if !counted {
		return ""
	}
	return fmt.Sprintf("%d / %d", canary, stable)
}

// gauge draws evidence, in percent of its bound.
func gauge(percent int32) string {
	if percent <= 0 {
		return ""
	}
	const width = 8
	filled := min(max(int(percent)*width/100, 1), width)
	if percent < 100 {
		filled = min(filled, width-1)
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", width-filled) + fmt.Sprintf(" %d %%", percent)
}

// numbers are the verdicts in sentences.
func numbers(list []v1beta1.MetricStatus, s Style) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%s: %s (%s). %s\n", m.Name, s.paintVerdict(m.Verdict, verdictOf(m)), m.Reason, m.Message)
		var values []string
		if m.Canary != "" {
			values = append(values, "canary "+m.Canary+over(m.CanaryRequests, m.CanaryBad, m.StableBad))
		}
		if m.Stable != "" {
			values = append(values, "stable "+m.Stable+over(m.StableRequests, m.StableBad, m.CanaryBad))
		}
		if m.CanaryRange != "" {
			values = append(values, "the canary's true share is "+m.CanaryRange)
		}
		if len(values) > 0 {
			fmt.Fprintf(&b, "  %s\n", strings.Join(values, ", "))
		}
		values = nil
		if m.Against > 0 {
			values = append(values, fmt.Sprintf("against it %d %% of what rolls back", m.Against))
		}
		if m.For > 0 {
			values = append(values, fmt.Sprintf("for it %d %% of what the step takes", m.For))
		}
		if m.Needed > 0 {
			values = append(values, fmt.Sprintf("%d more requests are needed", m.Needed))
		}
		if len(values) > 0 {
			fmt.Fprintf(&b, "  evidence: %s\n", strings.Join(values, ", "))
		}
	}
	return b.String()
}

// over is the size of a sample; the bad ones are named where either version has any.
func over(requests, bad, others int64) string {
	switch {
	case requests == 0:
		return ""
	case bad+others > 0:
		return fmt.Sprintf(" over %d requests, %d of them bad", requests, bad)
	}
	return fmt.Sprintf(" over %d requests", requests)
}
