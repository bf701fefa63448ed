// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// watched is a release that serves 5 % since begin, with what is needed to watch it.
func watched(policy *v1beta1.OnUnknown, begin time.Time) Input {
	hold := &metav1.Duration{Duration: time.Minute}
	confirmed := metav1.NewMicroTime(begin)
	c := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "checkout", Finalizers: []string{v1beta1.Finalizer}}}
	c.Spec.Steps = []v1beta1.Step{{Weight: 5, Hold: hold}, {Weight: 100}}
	c.Spec.Analysis = &v1beta1.Analysis{OnUnknown: policy}
	canary := Revision("new", 1)
	c.Status = v1beta1.CanaryStatus{
		Phase: v1beta1.PhaseStepping, Weight: 5, Stable: "old", Service: "checkout",
		Release: &v1beta1.ReleaseProgress{
			Revision: canary, Attempt: 1, Stable: "old", Steps: c.Spec.Steps, ConfirmedAt: &confirmed, Needed: 1,
		},
	}
	return Input{Canary: c, Now: begin, Seen: Observation{
		Target: &Target{Template: "new", Replicas: 1, Paused: true, Held: true, Label: "checkout"},
		ReplicaSets: []ReplicaSet{
			{Name: "checkout-old", Hash: "old", Template: "old", Owner: OwnerTarget, Replicas: 1, Pods: 1, Ready: 1, Available: 1},
			{Name: "checkout-new", Hash: canary, Template: "new", Owner: OwnerCanary, Replicas: 1, Pods: 1, Ready: 1, Available: 1},
		},
		Service:       &Service{Name: "checkout", Hash: "old", Traces: true, Ready: map[string]int32{"old": 1}},
		CanaryService: CanaryService{Name: "checkout-canary", Presence: Ours, Hash: canary, InSync: true, Ready: 1},
		Routes: []Route{{
			Ref: v1beta1.RouteReference{Kind: "HTTPRoute", Name: "checkout"}, Percent: 5, Reaches: true, Traces: true, Programmed: true,
		}},
		Verdict: analysis.Verdict{Result: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonNoTraffic, Why: "errors: no request of the canary was answered"},
	}}
}

// TestGoingOnWithoutAVerdictTakesNoApproval: the policy stands in for the verdict, not for the person.
func TestGoingOnWithoutAVerdictTakesNoApproval(t *testing.T) {
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	in := watched(&v1beta1.OnUnknown{After: metav1.Duration{Duration: time.Minute}, Then: v1beta1.UnknownPromote}, begin)
	in.Canary.Spec.Steps[0].Approval = true
	in.Canary.Status.Release.Steps = in.Canary.Spec.Steps
	pass := func(at time.Duration) (int32, string) {
		in.Now = begin.Add(at)
		in.Canary.Status = Decide(in).Status
		return in.Canary.Status.Release.StepIndex, meta.FindStatusCondition(in.Canary.Status.Conditions, v1beta1.ConditionReady).Reason
	}
	pass(time.Second)
	if step, reason := pass(10 * time.Minute); step != 0 || reason != v1beta1.ReasonWaitingForApproval {
		t.Errorf("nobody approved it: step %d, %s", step, reason)
	}
	in.Canary.Status.Release.Approved = true
	if step, reason := pass(11 * time.Minute); step != 1 {
		t.Errorf("somebody approved it: step %d, %s", step, reason)
	}
}

func TestAStepThatStaysUnknown(t *testing.T) {
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	policy := func(then v1beta1.UnknownAction) *v1beta1.OnUnknown {
		return &v1beta1.OnUnknown{After: metav1.Duration{Duration: 5 * time.Minute}, Then: then}
	}
	tests := []struct {
		name    string
		policy  *v1beta1.OnUnknown
		after   time.Duration
		recover time.Duration // when the verdict is a Pass for a moment; 0 for never
		phase   v1beta1.Phase
		step    int32
		reason  string // of Ready
	}{
		{"waits without a policy, however long", nil, 240 * time.Hour, 0, v1beta1.PhaseStepping, 0, v1beta1.ReasonWaitingForVerdict},
		{"waits for the time of the policy after its hold", policy(v1beta1.UnknownRollBack), 5*time.Minute + 59*time.Second, 0, v1beta1.PhaseStepping, 0, v1beta1.ReasonWaitingForVerdict},
		{"then holds and asks a person", policy(v1beta1.UnknownHold), 6 * time.Minute, 0, v1beta1.PhaseStepping, 0, v1beta1.ReasonStillUnknown},
		{"or goes on", policy(v1beta1.UnknownPromote), 6 * time.Minute, 0, v1beta1.PhaseStepping, 1, v1beta1.ReasonWaitingForPods},
		{"or goes back", policy(v1beta1.UnknownRollBack), 6 * time.Minute, 0, v1beta1.PhaseRollingBack, 0, v1beta1.ReasonRollingBack},
		{"a verdict in between begins the time anew", policy(v1beta1.UnknownRollBack), 6 * time.Minute, 50 * time.Second, v1beta1.PhaseStepping, 0, v1beta1.ReasonWaitingForVerdict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := watched(tt.policy, begin)
			warnings := 0
			pass := func(at time.Duration, result v1beta1.VerdictResult) {
				in.Now = begin.Add(at)
				in.Seen.Verdict.Result = result
				d := Decide(in)
				in.Canary.Status = d.Status
				for _, e := range d.Events {
					if e.Reason == v1beta1.ReasonStillUnknown {
						warnings++
					}
				}
			}
			pass(time.Second, v1beta1.VerdictUnknown)
			if tt.recover > 0 {
				pass(tt.recover, v1beta1.VerdictPass)
				pass(2*tt.recover, v1beta1.VerdictUnknown)
			}
			pass(2*time.Minute, v1beta1.VerdictUnknown)
			pass(tt.after, v1beta1.VerdictUnknown)
			s := in.Canary.Status
			ready := meta.FindStatusCondition(s.Conditions, v1beta1.ConditionReady)
			if s.Phase != tt.phase || s.Release.StepIndex != tt.step || ready.Reason != tt.reason {
				t.Errorf("%s, step %d, %s: %s", s.Phase, s.Release.StepIndex, ready.Reason, ready.Message)
			}
			if tt.reason == v1beta1.ReasonStillUnknown {
				pass(tt.after+time.Minute, v1beta1.VerdictUnknown)
				if warnings != 1 || !strings.Contains(ready.Message, "kubectl headgate promote checkout") {
					t.Errorf("%d warnings: %s", warnings, ready.Message)
				}
			}
		})
	}
}
