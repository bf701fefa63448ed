// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
)

// baseline is the committed list of tests that passed once, one name a line, sorted.
type baseline []string

func readBaseline(path string) (baseline, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the tests that passed before: %w", err)
	}
	return strings.Fields(string(data)), nil
}

// lost are the tests of the baseline that a run should have passed and did not:
// they failed, were skipped, or are no longer there. Tests that run does not name are not
// asked for; nil names all.
func (b baseline) lost(passed sets.Set[string], run *regexp.Regexp) []string {
	var out []string
	for _, name := range b {
		if !passed.Has(name) && (run == nil || run.MatchString(name)) {
			out = append(out, name)
		}
	}
	return out
}

// with is the baseline and what passed now, as the file has it.
func (b baseline) with(passed sets.Set[string]) []byte {
	return []byte(strings.Join(sets.List(passed.Clone().Insert(b...)), "\n") + "\n")
}

// picked is what the flag -test.run of a run of TestConformance says of its
// subtests, or nil for all of them.
func picked(flag string) (*regexp.Regexp, error) {
	_, subtests, ok := strings.Cut(flag, "/")
	if !ok {
		return nil, nil
	}
	return regexp.Compile(subtests)
}

// outcomes collects which tests passed. The suite tells them from several
// goroutines.
type outcomes struct {
	mu     sync.Mutex
	passed sets.Set[string]
	failed []string
}

func (o *outcomes) add(name string, failed, skipped bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case failed:
		o.failed = append(o.failed, name)
		slices.Sort(o.failed)
	case !skipped:
		o.passed.Insert(name)
	}
}
