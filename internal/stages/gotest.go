// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64
	Output      string
	ImportPath  string
	FailedBuild string
}

// tally is the last word on every test, by package and name. A test that ran in
// two stages counts once: failed if it ever failed, passed if it ever passed.
type tally map[string]string

type counts struct{ passed, failed, skipped int }

func (c counts) minus(d counts) counts {
	// A test that passed in an earlier stage and failed in this one would make this negative.
	return counts{max(c.passed-d.passed, 0), c.failed - d.failed, max(c.skipped-d.skipped, 0)}
}

func (c counts) String() string {
	if c == (counts{}) {
		return ""
	}
	s := fmt.Sprintf("%d passed, %d failed", c.passed, c.failed)
	if c.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return s
}

func (t tally) counts() (c counts) {
	for _, outcome := range t {
		switch outcome {
		case "pass":
			c.passed++
		case "fail":
			c.failed++
		case "skip":
			c.skipped++
		}
	}
	return c
}

func (t tally) skipped() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if t[name] == "skip" {
			names = append(names, name)
		}
	}
	return names
}

func (t tally) add(name, outcome string) {
	rank := map[string]int{"": 0, "skip": 1, "pass": 2, "fail": 3}
	if rank[outcome] > rank[t[name]] {
		t[name] = outcome
	}
}

// test runs go test on the packages: one line for a package that passes, and
// the whole output of every test that fails.
func (r *run) test(ctx context.Context, packages []string, flags ...string) error {
	cmd := r.exec(ctx, "go", slices.Concat([]string{"test", "-json"}, flags, packages)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = r.out
	if err := cmd.Start(); err != nil {
		return err
	}
	p := printer{out: r.out, tests: r.tests, live: r.live, output: map[string][]string{}}
	readErr := p.read(stdout)
	err = cmd.Wait()
	switch {
	case len(p.failed) > 0:
		return fmt.Errorf("%d of %d packages failed: %s", len(p.failed), p.packages, strings.Join(p.failed, " "))
	case err != nil:
		return fmt.Errorf("go test: %w", err)
	}
	return readErr
}

// printer turns the events of go test into lines for people.
type printer struct {
	out   io.Writer
	tests tally
	live  bool
	// output is what each test, or package under its own name, has printed.
	output   map[string][]string
	packages int
	failed   []string
}

func (p *printer) read(stdout io.Reader) error {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(p.out, line)
			} else {
				p.event(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the output of go test: %w", err)
		}
	}
}

func (p *printer) event(e event) {
	name := strings.TrimPrefix(e.Package, module+"/")
	if e.Test != "" {
		name += "." + e.Test
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(p.out, e.Output)
	case "output":
		p.output[name] = append(p.output[name], e.Output)
	case "pass", "skip", "fail":
		if e.Test != "" {
			p.tests.add(name, e.Action)
			if p.live && e.Action == "pass" {
				fmt.Fprintf(p.out, "pass %s (%.1fs)\n", name, e.Elapsed)
			}
		}
		p.finish(name, e)
	}
}

func (p *printer) finish(name string, e event) {
	defer delete(p.output, name)
	switch {
	case e.Test != "" && e.Action == "fail":
		fmt.Fprintf(p.out, "\nFAIL %s (%.1fs)\n", name, e.Elapsed)
		for _, line := range p.output[name] {
			if !frame(line) {
				fmt.Fprint(p.out, "    ", line)
			}
		}
	case e.Test == "":
		p.packages++
		if e.Action != "fail" {
			// The package's own line is its last: "ok  path  0.1s", "(cached)", "no test files".
			if said := p.output[name]; len(said) > 0 && e.Action == "pass" {
				fmt.Fprint(p.out, strings.ReplaceAll(said[len(said)-1], module+"/", ""))
			}
			return
		}
		p.failed = append(p.failed, name)
		fmt.Fprintf(p.out, "FAIL package %s (%.1fs)\n", name, e.Elapsed)
		for _, line := range p.output[name] {
			if !frame(line) {
				fmt.Fprint(p.out, "    ", line)
			}
		}
		p.unfinished(name)
	}
}

// unfinished prints the output of tests that never ended: a panic or a timeout
// ends the whole program, and its reason stands in the test that was running.
func (p *printer) unfinished(pkg string) {
	for _, name := range slices.Sorted(maps.Keys(p.output)) {
		if strings.HasPrefix(name, pkg+".") {
			p.tests.add(name, "fail")
			fmt.Fprintf(p.out, "\nFAIL %s (did not end)\n    %s", name, strings.Join(p.output[name], "    "))
			delete(p.output, name)
		}
	}
}

// frame says that a line only repeats what the event says.
func frame(line string) bool {
	return strings.HasPrefix(line, "=== ") || line == "FAIL\n" || line == "PASS\n" ||
		strings.HasPrefix(line, "exit status ")
}
