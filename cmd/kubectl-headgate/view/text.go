// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"headgate.dev/headgate/api/v1beta1"
)

// Style says what the output can show.
type Style struct {
	// Color is true on a terminal that shows colors.
	Color bool
}

func (s Style) paint(code, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s Style) bold(text string) string { return s.paint("1", text) }
func (s Style) dim(text string) string  { return s.paint("2", text) }
func (s Style) good(text string) string { return s.paint("32", text) }
func (s Style) bad(text string) string  { return s.paint("31", text) }
func (s Style) wait(text string) string { return s.paint("33", text) }

func (s Style) phase(c v1beta1.Canary) string {
	switch OutcomeOf(c) {
	case Succeeded:
		return s.good(phase(c))
	case Rejected:
		return s.bad(phase(c))
	}
	return s.wait(phase(c))
}

func (s Style) paintVerdict(v v1beta1.VerdictResult, text string) string {
	switch v {
	case v1beta1.VerdictPass:
		return s.good(text)
	case v1beta1.VerdictFail:
		return s.bad(text)
	}
	return s.wait(text)
}

// grid lays rows out in columns as wide as their widest cell. Colors are put on
// afterwards, by row and column, so that they do not count as width.
type grid struct {
	rows  [][]string
	paint func(row, column int, cell string) string
}

func (g grid) String() string {
	var widths []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for r, row := range g.rows {
		var line strings.Builder
		for i, cell := range row {
			gap := ""
			if i < len(row)-1 {
				gap = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			if g.paint != nil {
				cell = g.paint(r, i, cell)
			}
			line.WriteString(cell + gap)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// span is a duration as people say it: 45s, 3m10s, 2h5m, 4d.
func span(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	hours, minutes, seconds := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	two := func(big int, bigUnit string, small int, smallUnit string) string {
		if small == 0 {
			return fmt.Sprintf("%d%s", big, bigUnit)
		}
		return fmt.Sprintf("%d%s%d%s", big, bigUnit, small, smallUnit)
	}
	switch {
	case d < time.Minute:
		return d.String()
	case d < time.Hour:
		return two(minutes, "m", seconds, "s")
	case d < 48*time.Hour:
		return two(hours, "h", minutes, "m")
	}
	return fmt.Sprintf("%dd", hours/24)
}

// clock is a time of day; with the date when it was not today.
func clock(t, now time.Time) string {
	t = t.In(now.Location())
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

func bar(percent int32) string {
	const width = 20
	filled := int(percent) * width / 100
	if percent > 0 && filled == 0 {
		filled = 1
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
}
