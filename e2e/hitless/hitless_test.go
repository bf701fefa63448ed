// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
)

// The short form of make hitless: every kind of change and every event.
func TestNothingIsLostWhileEverythingChanges(t *testing.T) {
	env.ForTest(t) // skips without a cluster
	if err := run(t.Context(), options{changes: 96, rate: 500, rounds: 1, pause: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
}

func TestTheJournalBlamesWhatWasDone(t *testing.T) {
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	j := &journal{took: 10 * time.Second, entries: []entry{
		{kind: "weights", begin: at(1000), end: at(1010)},
		{kind: "weights", begin: at(2000), end: at(2030)},
		{kind: "filters", begin: at(3000), end: at(3040)},
		{kind: "weights", begin: at(6000), end: at(9000)},
		{kind: "killed", begin: at(5000), served: at(5500), end: at(7000), event: true, away: true},
	}}
	lost := func(ms int, f load.Failure) load.Result {
		return load.Result{Due: time.Duration(ms-5) * time.Millisecond, Latency: 5 * time.Millisecond, Failure: f, Detail: "gone"}
	}
	j.charge("HTTP/1.1", load.Report{Start: begin, Requests: 1000, Failures: []load.Result{
		lost(500, load.Reset), lost(2500, load.Reset), lost(3001, load.Misdirected), lost(7900, load.NoVersion),
	}})
	if got := j.lost(); got != 3 {
		t.Errorf("%d lost, want 3: a client asks again for what is misdirected", got)
	}
	got := j.String()
	for _, want := range []string{
		"5 changes in 10s under 100 requests/s: HTTP/1.1 1000; lost: 3 of 1000\n",
		"| weights | 2 | 1 | 0 | 30 / 30 |\n",
		"| filters | 1 | 0 | 1 | 40 / 40 |\n",
		"| " + whileAway + " | 1 | 0 | 0 | 3000 / 3000 |\n",
		"| killed | 1 | 1 | 0 | 500 / 500 |\n",
		"| " + between + " | 0 | 1 | 0 | – |\n",
		"connection lost: gone, after 5ms; during: weights\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the journal lacks %q:\n%s", want, got)
		}
	}
}

func TestOnlyTheFirstOfTwoEqualRulesServes(t *testing.T) {
	r := routeState{kind: "HTTPRoute", services: [2]string{"blue", "green"}, weight: 100}
	first := func() string { return jsonOf(r.rules()[0]) }
	if !strings.Contains(first(), `"X-Rule","value":"a"`) && !strings.Contains(first(), `"value":"a"`) {
		t.Errorf("the first rule is %s", first())
	}
	r.swapped = true
	if !strings.Contains(first(), `"value":"b"`) {
		t.Errorf("after the swap the first rule is %s", first())
	}
}
