// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
)

// The demo is its own test: run fails when what it shows is not true.
func TestTheDemoRunsToItsEnd(t *testing.T) {
	env.ForTest(t) // skips without a cluster
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func release3(at time.Time) *v1beta1.Canary {
	return &v1beta1.Canary{Status: v1beta1.CanaryStatus{
		Phase: v1beta1.PhaseStepping, Weight: 25, Step: "2/4",
		Conditions: []metav1.Condition{{Type: v1beta1.ConditionReady, Reason: "Holding", Message: "Watching 25 %."}},
		Release: &v1beta1.ReleaseProgress{
			Attempt: 1,
			Metrics: []v1beta1.MetricStatus{{Name: "errors", Verdict: v1beta1.VerdictPass, Message: "0 of 100"}},
			Journal: []v1beta1.JournalEntry{{Time: metav1.NewTime(at.Add(-3 * time.Second)), Reason: "WeightSet", Message: "The canary is given 25 % of the traffic.", Weight: 25}},
		},
	}}
}

func report3() load.Report {
	return load.Report{
		Requests: 600,
		Versions: map[string]load.Stats{
			"v1": {Requests: 500, P99: 3 * time.Millisecond},
			"v2": {Requests: 100, Errors: 5, P99: 4 * time.Millisecond},
		},
		Seconds: []load.Second{
			{Versions: map[string]int{"v1": 300, "v2": 100}, Errors: map[string]int{"v2": 5}},
			{Versions: map[string]int{"v1": 200}},
		},
	}
}

func TestTheLiveViewShowsWeightsRequestsErrorsAndReasons(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	want := []string{
		"  Stepping, weight 25, step 2/4: Holding: Watching 25 %.",
		"  stable  75 %  " + strings.Repeat("█", 38) + strings.Repeat("░", 12) + "  25 % canary",
		"  v1         300/s  errors    0/s   in all    500, errors    0 (0.00 %), p99 3ms",
		"  v2         100/s  errors    5/s   in all    100, errors    5 (5.00 %), p99 4ms",
		"  failed on the way, by no version's fault: 0",
		"  errors   Pass     0 of 100",
		"    3s ago  WeightSet          The canary is given 25 % of the traffic.",
	}
	if diff := cmp.Diff(want, view(release3(at), report3(), at)); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
}

func TestWithoutATerminalEachJournalEntryIsPrintedOnce(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	s := &screen{out: &out}
	for range 3 {
		s.draw(release3(at), report3(), at)
	}
	if n := strings.Count(out.String(), "WeightSet"); n != 1 {
		t.Errorf("the entry was printed %d times:\n%s", n, out.String())
	}
}
