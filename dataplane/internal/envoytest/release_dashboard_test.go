// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/canary/meter"
)

// releases makes a meter whose Canary web releases one version after the other through the Services web
// and web-canary: each call of next is a step that is watched, or the end of the release.
func releases() (m *meter.Meter, next func()) {
	m = meter.New(time.Now)
	var attempt int64
	var last v1beta1.CanaryStatus
	watched := true
	return m, func() {
		now := time.Now()
		since := metav1.NewMicroTime(now.Add(-time.Second))
		s := v1beta1.CanaryStatus{
			Phase: v1beta1.PhaseStepping, Weight: 50, Step: "1/2", Stable: "old", Service: "web",
			Release: &v1beta1.ReleaseProgress{
				Revision: "new", Attempt: attempt, StartedAt: metav1.NewTime(now.Add(-time.Minute)), UnknownSince: &since,
				Metrics: []v1beta1.MetricStatus{{
					Name: "errors", Verdict: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonTooFewRequests,
					StableRequests: 90, StableBad: 1, CanaryRequests: 90, CanaryBad: 9, Against: 70, For: 10,
				}},
			},
		}
		if watched {
			attempt++
			s.Release.Attempt = attempt
		} else {
			s.Phase, s.Weight, s.Step = v1beta1.PhaseRollingBack, 0, ""
			r := s.Release
			r.Outcome, r.Reason, r.StageSince = v1beta1.OutcomeRolledBack, v1beta1.ReasonMetricFailed, &since
			r.Metrics[0].Verdict, r.Metrics[0].Reason, r.Metrics[0].Against = v1beta1.VerdictFail, v1beta1.ReasonOutOfTolerance, 101
		}
		m.Saw(types.NamespacedName{Namespace: "shop", Name: "web"}, meter.Pass{
			Before: last, After: s, Target: "web", CanaryService: "web-canary", Emptied: !watched, Now: now,
		})
		last, watched = s, !watched
	}
}
