// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// TestAVerdictBeforeThePodsChangeHandsCounts is I12: the verdict fails at any moment of a promotion, at which the
// operator may also be killed between two of its writes.
func TestAVerdictBeforeThePodsChangeHandsCounts(t *testing.T) {
	intime, late := map[v1beta1.PromotionStage]int{}, 0
	for seed := range uint64(120) {
		h := &harness{t: t, seed: seed, world: newWorld(seed), ends: map[string]int{}}
		w := h.world
		h.quiesce()
		w.sure = true
		w.update(func(d *deployment) { d.template = "good" })
		turn := func(crash int) {
			h.decide(crash, -1)
			w.kubelet()
			w.endpoints()
			if w.rand.IntN(2) == 0 {
				w.gateway()
			}
			w.deploymentController()
			h.traffic()
			w.now = w.now.Add(300 * time.Millisecond)
			for i := range w.canary.Spec.Steps {
				w.canary.Spec.Steps[i].Approval = false
			}
		}
		for n := 0; w.canary.Status.Phase != v1beta1.PhasePromoting; n++ {
			if turn(-1); n > 3000 {
				t.Fatalf("seed %d: not promoted: %s", seed, w.canary.Status.Phase)
			}
			if w.canary.Status.Phase == v1beta1.PhaseStepping {
				w.now = w.now.Add(2 * time.Second)
			}
		}
		for range w.rand.IntN(30) {
			crash := -1
			if w.rand.IntN(3) == 0 {
				crash = w.rand.IntN(3)
			}
			if turn(crash); w.canary.Status.Phase != v1beta1.PhasePromoting {
				break
			}
		}
		w.bad["good"] = true
		release := w.canary.Status.Release
		stage, rs := release.Promotion, w.set(release.Revision)
		early := w.canary.Status.Phase == v1beta1.PhasePromoting && rs != nil && rs.owner == OwnerCanary && !givenUp(stage)
		h.quiesce()
		want := v1beta1.OutcomeSucceeded
		if early {
			want = v1beta1.OutcomeRolledBack
			intime[stage]++
		} else {
			late++
		}
		if got := w.canary.Status.Release.Outcome; got != want {
			h.fail("the verdict failed in stage %q, before the pods changed hands: %v; the release has %s", stage, early, got)
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
		}
	}
	t.Log("in time:", intime, "late:", late)
	for _, stage := range []v1beta1.PromotionStage{v1beta1.PromotionScaling, v1beta1.PromotionService, v1beta1.PromotionRoutes, v1beta1.PromotionHandOver} {
		if intime[stage] == 0 {
			t.Errorf("no verdict came in stage %s", stage)
		}
	}
	if late == 0 {
		t.Error("no verdict came too late")
	}
}
