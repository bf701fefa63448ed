// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func names(list []stage) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.name)
	}
	return out
}

func TestANamedStageBringsWhatItNeeds(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want []string
	}{
		{"all but those on demand", nil, []string{"unit", "lint", "generated", "programs", "integration", "race", "cluster", "e2e", "conformance", "recovery"}},
		{"one that needs nothing", []string{"unit"}, []string{"unit"}},
		{"one that needs another", []string{"e2e"}, []string{"cluster", "e2e"}},
		{"the order is that of the stages", []string{"race", "unit"}, []string{"unit", "programs", "race"}},
		{"on demand", []string{"fuzz"}, []string{"fuzz"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := choose(stages(), row.args)
			if err != nil || !slices.Equal(names(got), row.want) {
				t.Errorf("got %v, %v; want %v", names(got), err, row.want)
			}
		})
	}
	if _, err := choose(stages(), []string{"unti"}); err == nil || !strings.Contains(err.Error(), "there are unit, lint") {
		t.Errorf("a misspelt name: %v", err)
	}
}

func TestAFailureStopsOnlyWhatBuildsOnIt(t *testing.T) {
	var ran []string
	named := func(name string, err error, needs ...string) stage {
		return stage{name: name, needs: needs, run: func(context.Context, *run) error {
			ran = append(ran, name)
			return err
		}}
	}
	var out strings.Builder
	r := newRun(&out)
	ok := r.all(t.Context(), []stage{named("a", errors.New("broken")), named("b", nil, "a"), named("c", nil, "b"), named("d", nil)})
	r.summary()
	if ok || !slices.Equal(ran, []string{"a", "d"}) {
		t.Errorf("ran %v, ok %t", ran, ok)
	}
	for _, want := range []string{"a failed after", "broken", "not run: needs a", "not run: needs b", "\n1 passed, 3 failed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}

// The events are those of a real run: a test that passes, one that fails with its
// output, one that panics and so never ends, a build that breaks.
func TestTheOutputOfGoTestIsForPeople(t *testing.T) {
	events := `{"Action":"start","Package":"headgate.dev/headgate/a"}
{"Action":"run","Package":"headgate.dev/headgate/a","Test":"TestGood"}
{"Action":"output","Package":"headgate.dev/headgate/a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"headgate.dev/headgate/a","Test":"TestGood","Output":"    chatter\n"}
{"Action":"pass","Package":"headgate.dev/headgate/a","Test":"TestGood","Elapsed":0}
{"Action":"skip","Package":"headgate.dev/headgate/a","Test":"TestSkipped","Elapsed":0}
{"Action":"output","Package":"headgate.dev/headgate/a","Output":"ok  \theadgate.dev/headgate/a\t0.1s\n"}
{"Action":"pass","Package":"headgate.dev/headgate/a","Elapsed":0.1}
{"Action":"output","Package":"headgate.dev/headgate/b","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"headgate.dev/headgate/b","Test":"TestBad","Output":"    b_test.go:9: 1 is not 2\n"}
{"Action":"fail","Package":"headgate.dev/headgate/b","Test":"TestBad","Elapsed":0.2}
{"Action":"output","Package":"headgate.dev/headgate/b","Test":"TestPanics","Output":"panic: oh\n"}
{"Action":"output","Package":"headgate.dev/headgate/b","Output":"FAIL\n"}
{"Action":"fail","Package":"headgate.dev/headgate/b","Elapsed":0.3}
{"Action":"build-output","ImportPath":"headgate.dev/headgate/c","Output":"c.go:1:1: broken\n"}
{"Action":"fail","Package":"headgate.dev/headgate/c","Elapsed":0,"FailedBuild":"headgate.dev/headgate/c"}
`
	var out strings.Builder
	p := printer{out: &out, tests: tally{}, output: map[string][]string{}}
	if err := p.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ok  \ta\t0.1s\n", "FAIL b.TestBad (0.2s)\n        b_test.go:9: 1 is not 2\n",
		"FAIL b.TestPanics (did not end)\n    panic: oh\n", "c.go:1:1: broken\n", "FAIL package c",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "chatter") {
		t.Errorf("a test that passes is quiet:\n%s", out.String())
	}
	if want := (counts{passed: 1, failed: 2, skipped: 1}); p.tests.counts() != want {
		t.Errorf("counts %+v, want %+v", p.tests.counts(), want)
	}
	if want := []string{"b", "c"}; !slices.Equal(p.failed, want) {
		t.Errorf("failed packages %v, want %v", p.failed, want)
	}
	p.tests.add("a.TestSkipped", "pass")
	p.tests.add("a.TestGood", "skip")
	if want := (counts{passed: 2, failed: 2}); p.tests.counts() != want {
		t.Errorf("a test counts once, by the best that was seen unless it failed: %+v", p.tests.counts())
	}
}
