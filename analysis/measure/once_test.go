// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
)

// A Job that ended may be found again by every process that asks. It counts once, so one that failed does not roll back
// a release that allows for one miss, however often Headgate is restarted.
func TestAnAnswerThatIsFoundAgainCountsOnce(t *testing.T) {
	misses := int32(2)
	spec := &v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "smoke", Job: &v1beta1.JobSource{}, Misses: &misses}}}
	found := func(_ context.Context, q analysis.Query) analysis.Measurement {
		if q.Counted == "first" {
			return analysis.Measurement{Problem: &analysis.Problem{Reason: v1beta1.ReasonJobRunning, Message: "the second one runs"}}
		}
		return analysis.Measurement{ID: "first", Canary: analysis.Sample{Value: 1, Present: true}, Says: "Job first failed"}
	}
	spec.Metrics[0].Interval = &metav1.Duration{Duration: 10 * time.Second}
	var saved []byte
	var since time.Time
	for process := range 4 {
		play(t, measure.Options{}, func(w *world) {
			w.answer = found
			if process == 0 {
				since = time.Now()
				time.Sleep(time.Second)
			}
			p := analysis.PlanFor(spec, analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5})
			w.Follow(key, measure.Release{Attempt: 1, Plan: p, Saved: saved})
			time.Sleep(time.Minute)
			synctest.Wait()
			if v := w.Follow(key, measure.Release{Attempt: 1, Plan: p}); v.Result == v1beta1.VerdictFail || len(w.fails) > 0 {
				t.Errorf("process %d: %+v", process, v)
			}
			saved = w.Evidence(key)
		})
	}
}
