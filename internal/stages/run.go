// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const module = "headgate.dev/headgate"

// run is one run of some stages: what they have set up and what came of them.
type run struct {
	out io.Writer
	// kubeconfig is the KUBECONFIG of the caller. Only the stages that follow
	// "cluster" see it: no other test may find somebody's cluster.
	kubeconfig string
	// env is what stages tell the ones after them.
	env []string
	// live prints a line per test, for packages that take minutes.
	live bool
	// after runs at the end, last first; remove is deleted then.
	after   []func(context.Context) error
	remove  []string
	results []result
	tests   tally
}

type result struct {
	stage   stage
	took    time.Duration
	err     error
	without string // the needed stage that failed; err is nil and nothing ran
	counts  counts
}

func newRun(out io.Writer) *run {
	return &run{out: out, tests: tally{}, kubeconfig: os.Getenv("KUBECONFIG"), env: []string{"KUBECONFIG="}}
}

// all runs the stages and says whether everything passed.
func (r *run) all(ctx context.Context, list []stage) bool {
	ok := true
	for _, s := range list {
		res := result{stage: s, without: r.missing(s)}
		if res.without == "" {
			fmt.Fprintf(r.out, "\n=== %s: %s\n", s.name, s.does)
			begin, before := time.Now(), r.tests.counts()
			res.err = s.run(ctx, r)
			res.took, res.counts = time.Since(begin), r.tests.counts().minus(before)
			if res.err != nil {
				fmt.Fprintf(r.out, "--- %s failed after %s: %v\n", s.name, round(res.took), res.err)
			}
		}
		ok = ok && res.err == nil && res.without == ""
		r.results = append(r.results, res)
		if ctx.Err() != nil {
			return false
		}
	}
	return ok
}

func (r *run) missing(s stage) string {
	for _, done := range r.results {
		if slices.Contains(s.needs, done.stage.name) && (done.err != nil || done.without != "") {
			return done.stage.name
		}
	}
	return ""
}

// cleanUp undoes what stages have set up, also after an interrupt.
func (r *run) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, f := range slices.Backward(r.after) {
		if err := f(ctx); err != nil {
			fmt.Fprintf(r.out, "cleaning up: %v\n", err)
		}
	}
	r.after = nil
}

func (r *run) close() {
	for _, path := range r.remove {
		_ = os.RemoveAll(path)
	}
}

// summary prints the table, and as the last line the count of everything.
func (r *run) summary() {
	w := tabwriter.NewWriter(r.out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\nSTAGE\tRESULT\tTOOK\tTESTS\n")
	var total time.Duration
	passed, failed := 0, 0
	for _, res := range r.results {
		verdict := "passed"
		switch {
		case res.without != "":
			verdict = "not run: needs " + res.without
		case res.err != nil:
			verdict = "FAILED"
		}
		total += res.took
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", res.stage.name, verdict, round(res.took), res.counts)
		// A stage without tests of its own counts as one; so does a failure that no test explains.
		switch {
		case verdict != "passed" && res.counts.failed == 0:
			failed++
		case verdict == "passed" && res.counts == counts{}:
			passed++
		}
	}
	fmt.Fprintf(w, "total\t\t%s\t\n", round(total))
	_ = w.Flush()
	all := r.tests.counts()
	if names := r.tests.skipped(); len(names) > 0 {
		fmt.Fprintf(r.out, "\nskipped everywhere:\n  %s\n", strings.Join(names, "\n  "))
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed\n", passed+all.passed, failed+all.failed)
}

func round(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

func (r *run) set(name, value string) {
	fmt.Fprintf(r.out, "%s=%s\n", name, value)
	r.env = append(r.env, name+"="+value)
}

// packages lists the packages of the module whose path, without the module's,
// is wanted.
func (r *run) packages(ctx context.Context, wanted func(path string) bool) ([]string, error) {
	out, err := r.output(ctx, "go", "list", "./...")
	if err != nil {
		return nil, err
	}
	var list []string
	for p := range strings.FieldsSeq(out) {
		if wanted(strings.TrimPrefix(p, module+"/")) {
			list = append(list, p)
		}
	}
	return list, nil
}

func command(name string, args ...string) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error { return r.command(ctx, name, args...) }
}

// command runs a program and shows what it prints.
func (r *run) command(ctx context.Context, name string, args ...string) error {
	cmd := r.exec(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = r.out, r.out
	return explain(cmd.Run(), cmd)
}

// output runs a program and returns what it prints on stdout; what it prints on
// stderr is shown.
func (r *run) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := r.exec(ctx, name, args...)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, r.out
	err := cmd.Run()
	return stdout.String(), explain(err, cmd)
}

func (r *run) exec(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), r.env...)
	// Interrupted, not killed: what runs below it has things to put back.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

func explain(err error, cmd *exec.Cmd) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return err
}
