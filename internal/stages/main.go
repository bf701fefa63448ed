// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command stages runs the project's tests in order, with whatever each needs set
// up first, and prints at the end what every stage took:
//
//	unit ─ lint ─ generated ─ programs ─┬─ integration ─ race
//	                                    └─ cluster ─ e2e ─ recovery
//
// Cheap stages come first. A stage that fails does not stop the ones that do not
// build on it, so that one run shows everything that is wrong.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `usage: go run ./internal/stages [STAGE…]

Without a name every stage but fuzz runs. A named stage brings those it needs.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wanted, err := choose(stages(), os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "stages: %v\n%s", err, usage)
		os.Exit(2)
	}
	r := newRun(os.Stdout)
	defer r.close()
	ok := r.all(ctx, wanted)
	r.cleanUp()
	r.summary()
	if !ok {
		r.close()
		os.Exit(1)
	}
}

// choose returns the named stages and those they need, in the order of all.
func choose(all []stage, names []string) ([]stage, error) {
	wanted := map[string]bool{}
	var want func(name string) error
	want = func(name string) error {
		i := slices.IndexFunc(all, func(s stage) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.name)
			}
			return fmt.Errorf("no stage %q; there are %s", name, strings.Join(known, ", "))
		}
		wanted[name] = true
		for _, n := range all[i].needs {
			if err := want(n); err != nil {
				return err
			}
		}
		return nil
	}
	if len(names) == 0 {
		for _, s := range all {
			if !s.onDemand {
				names = append(names, s.name)
			}
		}
	}
	for _, name := range names {
		if err := want(name); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s stage) bool { return !wanted[s.name] }), nil
}
