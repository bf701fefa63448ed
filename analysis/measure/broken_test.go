// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
)

// A release whose analysis panics holds, and nothing else does.
func TestAnAnalysisThatPanicsHoldsItsReleaseAlone(t *testing.T) {
	broke := map[types.NamespacedName]int{}
	play(t, measure.Options{Broke: func(key types.NamespacedName, what any, stack []byte) {
		broke[key]++
		if !strings.Contains(string(stack), "Take") || fmt.Sprint(what) == "" {
			t.Errorf("%v: %s", what, stack)
		}
	}}, func(w *world) {
		since := time.Now()
		w.follow(counted, 1, 5, since)
		w.seconds(5, .05)
		saved := w.Evidence(key)
		other := types.NamespacedName{Namespace: "shop", Name: "other"}
		follow := func() analysis.Verdict {
			return w.Follow(other, measure.Release{Attempt: 1, Plan: analysis.PlanFor(counted, analysis.Subject{Namespace: "shop", Canary: "other", Since: since, Weight: 5})})
		}
		w.taps[0].mu.Lock()
		w.taps[0].panics = true
		w.taps[0].mu.Unlock()
		w.news = nil
		w.seconds(3, .05)
		v := w.follow(counted, 1, 5, since)
		if v.Result != v1beta1.VerdictUnknown || v.Reason != v1beta1.ReasonAnalysisBroken || !strings.Contains(v.Why, "nobody thought of") || len(v.Metrics) != 1 {
			t.Errorf("%+v", v)
		}
		if len(w.news) != 1 || broke[key] != 1 || len(broke) != 1 || len(saved) == 0 || w.Evidence(key) != nil {
			t.Errorf("told %d times, logged %v, stored %s", len(w.news), broke, w.Evidence(key))
		}
		w.taps[0].mu.Lock()
		w.taps[0].panics = false
		w.taps[0].mu.Unlock()
		follow()
		w.seconds(5, .05)
		if v := follow(); v.Metrics[0].CanaryRequests == 0 {
			t.Errorf("another release does not go on: %+v", v)
		}
		if v := w.follow(counted, 1, 5, since); v.Reason != v1beta1.ReasonAnalysisBroken {
			t.Errorf("it goes on with evidence that may be torn: %+v", v)
		}
		since = time.Now()
		w.Forget(other)
		w.follow(counted, 2, 5, since)
		w.taps = w.taps[:1]
		w.seconds(5, .05)
		if v := w.follow(counted, 2, 5, since); v.Metrics[0].CanaryRequests == 0 {
			t.Errorf("the next attempt: %+v", v)
		}
	})
}
