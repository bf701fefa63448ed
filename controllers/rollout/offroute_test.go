// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// TestAStepWhoseRoutesSomebodyWrote: 5 % for a minute, and after 20 s somebody takes the canary out of the route. The
// repair is refused for 10 minutes; then it is taken, and the gateway confirms it a second later.
func TestAStepWhoseRoutesSomebodyWrote(t *testing.T) {
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	in := watched(&v1beta1.OnUnknown{After: metav1.Duration{Duration: time.Minute}, Then: v1beta1.UnknownRollBack}, begin)
	pass := func(at time.Duration, result v1beta1.VerdictResult) Decision {
		in.Now = begin.Add(at)
		in.Seen.Verdict = analysis.Verdict{Result: result, Reason: v1beta1.ReasonWithinTolerance, Why: "fine", Metrics: []v1beta1.MetricStatus{{Name: "errors", CanaryRequests: int64(at.Seconds())}}}
		d := Decide(in)
		in.Canary.Status = d.Status
		return d
	}
	counting := func(want bool, when string) {
		t.Helper()
		if got := Counting(in.Canary, in.Seen); got != want {
			t.Errorf("%s: counted is %v", when, got)
		}
	}
	pass(10*time.Second, v1beta1.VerdictPass)
	counting(true, "at first")
	route := &in.Seen.Routes[0]
	route.Percent, route.Programmed = Detached, false
	counting(false, "before any pass")
	in.Seen.Failure = `admission webhook "routes.example.com" denied the request`
	for at := 20 * time.Second; at < 10*time.Minute; at += 10 * time.Second {
		d := pass(at, v1beta1.VerdictPass)
		ready := meta.FindStatusCondition(d.Status.Conditions, v1beta1.ConditionReady)
		judged := meta.FindStatusCondition(d.Status.Conditions, v1beta1.ConditionAnalysis)
		if d.Status.Phase != v1beta1.PhaseStepping || ready.Reason != v1beta1.ReasonRouteRepaired || !strings.Contains(ready.Message, "nothing is counted") || !strings.Contains(ready.Message, "routes.example.com") {
			t.Fatalf("after %s: %s, %s: %s", at, d.Status.Phase, ready.Reason, ready.Message)
		}
		if judged.Status != metav1.ConditionUnknown || judged.Reason != v1beta1.ReasonRouteRepaired || d.Status.Release.Metrics[0].CanaryRequests != 10 {
			t.Fatalf("after %s: %s %s, %+v", at, judged.Status, judged.Reason, d.Status.Release.Metrics)
		}
		if !slices.Contains(d.Actions, Action(EnsureWeights{Percent: 5})) {
			t.Fatalf("after %s it is not repaired: %v", at, d.Actions)
		}
		counting(false, "while it is refused")
	}
	route.Percent, in.Seen.Failure = 5, ""
	pass(10*time.Minute, v1beta1.VerdictPass)
	counting(false, "before the gateway confirms it")
	route.Programmed = true
	counting(false, "before that is recorded") // a process that starts here knows no better
	pass(10*time.Minute+time.Second, v1beta1.VerdictPass)
	counting(true, "from then on")
	off := in.Canary.Status.Release.OffRoute
	if off == nil || off.Since != nil || off.Lost.Duration != 9*time.Minute+41*time.Second || !off.Until.Time.Equal(in.Now) {
		t.Fatalf("%+v", off)
	}
	if s := pass(10*time.Minute+40*time.Second, v1beta1.VerdictPass).Status; s.Release.StepIndex != 0 {
		t.Error("the minute of the step went on meanwhile")
	}
	if s := pass(10*time.Minute+42*time.Second, v1beta1.VerdictPass).Status; s.Release.StepIndex != 1 {
		t.Error("the step does not end after its minute")
	}
}

func TestWhatWasFoundBeforeTheRoutesWereWrittenCounts(t *testing.T) {
	in := watched(nil, time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	in.Seen.Routes[0].Percent = Detached
	in.Seen.Verdict = analysis.Verdict{Result: v1beta1.VerdictFail, Reason: v1beta1.ReasonOutOfTolerance, Why: "errors: 5 of 5"}
	if d := Decide(in); d.Status.Phase != v1beta1.PhaseRollingBack {
		t.Errorf("a failed verdict leads to %s", d.Status.Phase)
	}
}
