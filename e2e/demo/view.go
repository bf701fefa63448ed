// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/load"
	"headgate.dev/headgate/e2e/shop"
)

const barWidth = 50

// screen draws the live view in place on a terminal. Elsewhere it prints a line
// whenever the weight or the journal changed.
type screen struct {
	out      io.Writer
	terminal bool
	// width is the terminal's; lines is how many are drawn: one that wrapped would
	// spoil the way back up.
	width, lines int
	last         string
	told         int
	release      int64
}

func newScreen(out *os.File) *screen {
	s := &screen{out: out, terminal: term.IsTerminal(int(out.Fd())), width: 80}
	if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		s.width = width
	}
	return s
}

func (s *screen) draw(c *v1beta1.Canary, report load.Report, now time.Time) {
	if !s.terminal {
		s.tell(c, report)
		return
	}
	lines := view(c, report, now)
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
	}
	for _, line := range lines {
		fmt.Fprintln(s.out, cut(line, s.width-1))
	}
	s.lines = len(lines)
}

// end leaves what was drawn and starts below it.
func (s *screen) end() {
	s.lines, s.last = 0, ""
	fmt.Fprintln(s.out)
}

// tell prints what is new in the journal, and a line of numbers with each weight.
func (s *screen) tell(c *v1beta1.Canary, report load.Report) {
	r := c.Status.Release
	if r == nil {
		return
	}
	if r.Attempt != s.release {
		s.release, s.told = r.Attempt, 0
	}
	for ; s.told < len(r.Journal); s.told++ {
		e := r.Journal[s.told]
		fmt.Fprintf(s.out, "        %s  %-22s %s\n", e.Time.UTC().Format("15:04:05"), e.Reason, e.Message)
	}
	if line := traffic(report, recent(report)); line != s.last && len(report.Seconds)%5 == 0 {
		s.last = line
		fmt.Fprintf(s.out, "        %d %%  %s\n", c.Status.Weight, line)
	}
}

// view is the whole picture as lines.
func view(c *v1beta1.Canary, report load.Report, now time.Time) []string {
	canary := int(c.Status.Weight) * barWidth / 100
	lines := []string{
		"  " + shop.Summary(c),
		fmt.Sprintf("  stable %3d %%  %s%s  %d %% canary", 100-c.Status.Weight, strings.Repeat("█", barWidth-canary), strings.Repeat("░", canary), c.Status.Weight),
	}
	second := recent(report)
	for _, version := range slices.Sorted(maps.Keys(report.Versions)) {
		total := report.Versions[version]
		lines = append(lines, fmt.Sprintf("  %-8s %5d/s  errors %4d/s   in all %6d, errors %4d (%.2f %%), p99 %s", version,
			second.Versions[version], second.Errors[version], total.Requests, total.Errors, 100*total.ErrorRate(), total.P99.Round(100*time.Microsecond)))
	}
	lines = append(lines, fmt.Sprintf("  failed on the way, by no version's fault: %d", report.NotCaused()))
	r := c.Status.Release
	if r == nil {
		return lines
	}
	for _, m := range r.Metrics {
		lines = append(lines, fmt.Sprintf("  %-8s %-8s %s", m.Name, m.Verdict, m.Message))
	}
	for _, e := range r.Journal[max(0, len(r.Journal)-5):] {
		lines = append(lines, fmt.Sprintf("  %3.0fs ago  %-18s %s", now.Sub(e.Time.Time).Seconds(), e.Reason, e.Message))
	}
	return lines
}

// recent is the last second that is complete.
func recent(report load.Report) load.Second {
	if len(report.Seconds) < 2 {
		return load.Second{}
	}
	return report.Seconds[len(report.Seconds)-2]
}

func traffic(report load.Report, second load.Second) string {
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(second.Versions)) {
		parts = append(parts, fmt.Sprintf("%s %d/s (%d errors in all)", version, second.Versions[version], report.Versions[version].Errors))
	}
	return strings.Join(parts, ", ")
}

func cut(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}

// numbers is the end of the demo.
func numbers(w io.Writer, namespace string, report load.Report, restarted int, took time.Duration) {
	rejected := report.Versions[bad.Name]
	errors := 0
	for _, stats := range report.Versions {
		errors += stats.Errors
	}
	fmt.Fprintf(w, "  requests served                                        %d\n", report.Requests)
	fmt.Fprintf(w, "  errors users saw                                       %d (all by the bad version: %v)\n", errors, errors == rejected.Errors)
	fmt.Fprintf(w, "  failures not caused by the bad version                 %d\n", report.NotCaused()+errors-rejected.Errors)
	fmt.Fprintf(w, "  from the first bad response to the canary's last request  %.1f s\n", (rejected.Last - rejected.FirstError).Seconds())
	fmt.Fprintf(w, "  pods restarted by the promotion                        %d\n", restarted)
	fmt.Fprintf(w, "  the demo took                                          %.0f s\n\n", took.Seconds())
	fmt.Fprintf(w, `Look around (export KUBECONFIG=$(go run ./e2e/cluster kubeconfig) on the cluster of this machine):
  kubectl -n %[1]s get canary,deployment,httproute,gateway
  kubectl -n %[1]s describe canary checkout
  kubectl -n %[1]s get events --field-selector involvedObject.kind=Canary
  make build && bin/kubectl-headgate -n %[1]s why checkout
  bin/kubectl-headgate -n %[1]s retry checkout       # release the rejected version once more
`, namespace)
}
