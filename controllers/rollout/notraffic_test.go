// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

func TestAJobJudgesAStepWithoutTraffic(t *testing.T) {
	begin := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	job := v1beta1.Metric{Name: "smoke", Job: &v1beta1.JobSource{}}
	errors := v1beta1.Metric{Name: "errors", Gateway: v1beta1.GatewayErrorRate}
	says := func(result v1beta1.VerdictResult) analysis.Verdict {
		return analysis.Verdict{Result: result, Reason: v1beta1.ReasonOutOfTolerance, Why: "smoke: it says so"}
	}
	tests := []struct {
		name    string
		metric  v1beta1.Metric
		verdict analysis.Verdict
		phase   v1beta1.Phase
		step    int32
	}{
		{"it holds until the Job has ended", job, says(v1beta1.VerdictUnknown), v1beta1.PhaseStepping, 0},
		{"and while nothing was asked yet", job, analysis.Verdict{}, v1beta1.PhaseStepping, 0},
		{"it goes on when the Job passes", job, says(v1beta1.VerdictPass), v1beta1.PhaseStepping, 1},
		{"it is over when the Job fails", job, says(v1beta1.VerdictFail), v1beta1.PhaseRollingBack, 0},
		{"a template may be a Job", v1beta1.Metric{Name: "smoke", Template: &v1beta1.TemplateReference{Name: "smoke"}}, says(v1beta1.VerdictUnknown), v1beta1.PhaseStepping, 0},
		{"metrics of traffic have nothing to judge", errors, analysis.Verdict{}, v1beta1.PhaseStepping, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := watched(nil, begin)
			in.Canary.Spec.Steps = []v1beta1.Step{{Weight: 0}, {Weight: 50}, {Weight: 100}}
			in.Canary.Spec.Analysis.Metrics = []v1beta1.Metric{tt.metric}
			in.Canary.Status.Weight, in.Canary.Status.Release.Steps, in.Canary.Status.Release.Needed = 0, in.Canary.Spec.Steps, 0
			in.Seen.Routes[0].Percent = 0
			in.Seen.Verdict, in.Now = tt.verdict, begin.Add(time.Second)
			d := Decide(in)
			if d.Status.Phase != tt.phase || d.Status.Release.StepIndex != tt.step {
				t.Errorf("phase %s, step %d; want %s, step %d", d.Status.Phase, d.Status.Release.StepIndex, tt.phase, tt.step)
			}
			if r := d.Status.Release; tt.verdict.Result == v1beta1.VerdictFail && (r.Outcome != v1beta1.OutcomeRolledBack || !strings.Contains(r.Message, "smoke: it says so")) {
				t.Errorf("%s: %s", r.Outcome, r.Message)
			}
		})
	}
}
