// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

func window(schedule string, d time.Duration, zone string) v1beta1.Window {
	return v1beta1.Window{Schedule: schedule, Duration: metav1.Duration{Duration: d}, TimeZone: zone}
}

func TestWindowOpen(t *testing.T) {
	weekdays := window("0 9 * * 1-4", 8*time.Hour, "")
	tests := []struct {
		name    string
		windows []v1beta1.Window
		now     string
		open    bool
		next    string
	}{
		{"without windows it is always open", nil, "2026-11-21T03:00:00Z", true, ""},
		{"it opens on the minute", []v1beta1.Window{weekdays}, "2026-11-23T09:00:00Z", true, ""},
		{"it is open until its duration is over", []v1beta1.Window{weekdays}, "2026-11-23T16:59:59Z", true, ""},
		{"it closes when its duration is over", []v1beta1.Window{weekdays}, "2026-11-23T17:00:00Z", false, "2026-11-24T09:00:00Z"},
		{"a weekend waits for Monday", []v1beta1.Window{weekdays}, "2026-11-27T10:00:00Z", false, "2026-11-30T09:00:00Z"},
		{"a window may be open over midnight", []v1beta1.Window{window("0 22 * * *", 4*time.Hour, "")}, "2026-11-23T01:30:00Z", true, ""},
		{"the time zone is the schedule's", []v1beta1.Window{window("0 9 * * *", time.Hour, "Europe/Berlin")}, "2026-11-23T08:30:00Z", true, ""},
		{"the earliest window is the next", []v1beta1.Window{window("0 12 * * *", time.Hour, ""), window("0 10 * * *", time.Hour, "")}, "2026-11-23T08:00:00Z", false, "2026-11-23T10:00:00Z"},
		{"one open window is enough", []v1beta1.Window{window("0 12 * * *", time.Hour, ""), window("0 8 * * *", time.Hour, "")}, "2026-11-23T08:30:00Z", true, ""},
		{"a day that never comes opens nothing", []v1beta1.Window{window("0 0 31 2 *", time.Hour, "")}, "2026-11-23T08:30:00Z", false, ""},
		{"what cannot be read is closed", []v1beta1.Window{window("nine o'clock on every day", time.Hour, "")}, "2026-11-23T08:30:00Z", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			open, next := windowOpen(tt.windows, now)
			got := ""
			if !next.IsZero() {
				got = next.UTC().Format(time.RFC3339)
			}
			if open != tt.open || got != tt.next {
				t.Errorf("windowOpen() = %v, %q; want %v, %q", open, got, tt.open, tt.next)
			}
		})
	}
}

func TestASpecThatCannotBeUsedSaysWhatToWrite(t *testing.T) {
	relative := "20%"
	tests := []struct {
		name, want string
		spec       v1beta1.CanarySpec
	}{
		{"an hour of 25", "spec.windows[0]: schedule \"0 25 * * *\" cannot be read", v1beta1.CanarySpec{Windows: []v1beta1.Window{window("0 25 * * *", time.Hour, "")}}},
		{"an unknown time zone", "IANA name such as Europe/Berlin", v1beta1.CanarySpec{Windows: []v1beta1.Window{window("0 9 * * *", time.Hour, "Mars/Olympus")}}},
		{"the machine's own time zone", "IANA name such as Europe/Berlin", v1beta1.CanarySpec{Windows: []v1beta1.Window{window("0 9 * * *", time.Hour, "Local")}}},
		{"a window of no length", "at least 1m", v1beta1.CanarySpec{Windows: []v1beta1.Window{window("0 9 * * *", 0, "")}}},
		{"a template with an unknown field", "Pod", v1beta1.CanarySpec{Analysis: &v1beta1.Analysis{Metrics: []v1beta1.Metric{{
			Name: "orders", Prometheus: &v1beta1.PrometheusSource{Query: "up{pod=~\"{{.Pod}}\"}"}, Tolerance: &v1beta1.Tolerance{Relative: relative},
		}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := begin(Input{Canary: &v1beta1.Canary{Spec: tt.spec}})
			problem := p.invalidSpec()
			if problem == nil || problem.Reason != v1beta1.ReasonInvalidSpec || !strings.Contains(problem.Message, tt.want) {
				t.Errorf("invalidSpec() = %+v, want a sentence with %q", problem, tt.want)
			}
		})
	}
}

func TestOutsideOfTheWindowsAStepWaitsAndAPersonMayGoOn(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC) // a Saturday
	canary := func(r v1beta1.ReleaseProgress) *v1beta1.Canary {
		return &v1beta1.Canary{
			Spec:   v1beta1.CanarySpec{Windows: []v1beta1.Window{window("0 9 * * 1-4", 8*time.Hour, "")}},
			Status: v1beta1.CanaryStatus{Phase: v1beta1.PhaseStepping, Weight: 25, Release: &r},
		}
	}
	p := begin(Input{Canary: canary(v1beta1.ReleaseProgress{}), Now: now})
	if !p.stopped() {
		t.Fatal("a step is taken on a Saturday")
	}
	if want := 47 * time.Hour; p.after != want {
		t.Errorf("decides again after %s, want %s: Monday at nine", p.after, want)
	}
	ready := p.status.Conditions
	var message string
	for _, c := range ready {
		if c.Type == v1beta1.ConditionReady {
			message = c.Message
		}
	}
	if want := "Staying at 25 % outside of the release windows; the next one opens at 2026-11-30 09:00 UTC."; message != want {
		t.Errorf("says %q, want %q", message, want)
	}
	for _, r := range []v1beta1.ReleaseProgress{{Approved: true}, {Expedited: true}} {
		if p := begin(Input{Canary: canary(r), Now: now}); p.stopped() {
			t.Errorf("a person's promote does not go through: %+v", r)
		}
	}
}
