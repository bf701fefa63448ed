// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Table is one line per Canary, in the order given.
func Table(list []v1beta1.Canary, withNamespace bool, now time.Time, s Style) string {
	head := []string{"NAME", "TARGET", "PHASE", "STEP", "WEIGHT", "AGE", "MESSAGE"}
	if withNamespace {
		head = append([]string{"NAMESPACE"}, head...)
	}
	g := grid{rows: [][]string{head}}
	for _, c := range list {
		row := []string{
			c.Name, c.Spec.Target.Name, phase(c), dash(c.Status.Step), fmt.Sprintf("%d%%", c.Status.Weight),
			span(now.Sub(c.CreationTimestamp.Time)), ready(c).Message,
		}
		if withNamespace {
			row = append([]string{c.Namespace}, row...)
		}
		g.rows = append(g.rows, row)
	}
	column := 2
	if withNamespace {
		column = 3
	}
	g.paint = func(row, i int, cell string) string {
		if row > 0 && i == column {
			return s.phase(list[row-1])
		}
		return cell
	}
	return g.String()
}

// Line is the Canary on one line, for logs.
func Line(c v1beta1.Canary) string {
	line := fmt.Sprintf("%s/%s %s", c.Namespace, c.Name, phase(c))
	if c.Status.Step != "" {
		line += fmt.Sprintf(" step %s at %d %%", c.Status.Step, c.Status.Weight)
	}
	return line + ": " + ready(c).Message
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
