// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"slices"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// gated stops at 25 % until a person approves.
const gated = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: 5}
  - {weight: 25, approval: true}
  - {weight: 100}
  keepFailed: 1s
  analysis:
    interval: 1s
    metrics:
    - {name: errors, gateway: ErrorRate, tolerance: {absolute: 1%}, goodEnough: {absolute: 15%}}
`

func waitsForApproval(c *v1beta1.Canary) bool {
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1beta1.ConditionReady {
			return condition.Reason == v1beta1.ReasonWaitingForApproval && c.Status.Weight == 25
		}
	}
	return false
}

func TestAPersonApprovesAStep(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	time.Sleep(3 * time.Second)
	c, err := sc.Canary(t.Context())
	sc.must(err)
	if c.Status.Weight != 25 {
		t.Fatalf("weight %d without approval, want 25", c.Status.Weight)
	}
	sc.must(sc.Command(t.Context(), "promote: looks good"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

func TestAPersonAbortsAndTriesAgain(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	sc.must(sc.Command(t.Context(), "abort: the prices are wrong"))
	r := sc.waitOutcome(1, v1beta1.OutcomeAborted)
	if !strings.Contains(r.Message, "the prices are wrong") {
		t.Errorf("the record says %q, want the person's reason in it", r.Message)
	}
	sc.serves(v1)
	sc.restored("Deployment")

	sc.must(sc.Command(t.Context(), "retry"))
	sc.waitFor("the gate of the second attempt", func(c *v1beta1.Canary) bool { return c.Status.Release.Attempt == 2 && waitsForApproval(c) })
	sc.must(sc.Command(t.Context(), "promote-full"))
	sc.waitOutcome(2, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

func TestANewerVersionSupersedesTheOneUnderRelease(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	sc.deploy(v3)
	sc.waitFor("the gate of the newer version", func(c *v1beta1.Canary) bool { return c.Status.Release.Attempt == 2 && waitsForApproval(c) })
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(2, v1beta1.OutcomeSucceeded)
	sc.serves(v3)
	sc.restored()
	sc.close()
}

func TestGoingBackToTheOldVersionEndsTheRelease(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	sc.deploy(v1)
	sc.waitOutcome(1, v1beta1.OutcomeReverted)
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.serves(v1)
	sc.restored()
	sc.close()
}

func TestTheSameManifestAppliedAgainInTheMiddleChangesNothing(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	sc.deploy(v2) // the pipeline runs again
	time.Sleep(2 * time.Second)
	c, err := sc.Canary(t.Context())
	sc.must(err)
	if !waitsForApproval(c) || c.Status.Release.Attempt != 1 {
		t.Fatalf("after applying the same manifest: %s, attempt %d", shop.Summary(c), c.Status.Release.Attempt)
	}
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

// Service, route, steps and metrics are found or have defaults.
func TestACanaryWithOnlyATargetWorks(t *testing.T) {
	t.Parallel()
	sc := open(t, `{apiVersion: headgate.dev/v1beta1, kind: Canary, metadata: {name: checkout}, spec: {target: {name: checkout}}}`)
	sc.deploy(v2)
	// Ten canary requests a second: 400 of them take a while.
	sc.must(sc.WaitCanary(t.Context(), "a verdict at 5 %", 4*time.Minute, func(c *v1beta1.Canary) bool {
		r := c.Status.Release
		return r != nil && c.Status.Weight == 5 && len(r.Metrics) == 3 && !slices.ContainsFunc(r.Metrics, func(m v1beta1.MetricStatus) bool { return m.Verdict != v1beta1.VerdictPass })
	}))
	c, err := sc.Canary(t.Context())
	sc.must(err)
	weights := []int32{}
	for _, step := range c.Status.Release.Steps {
		weights = append(weights, step.Weight)
	}
	if want := []int32{5, 25, 50, 100}; !slices.Equal(weights, want) {
		t.Errorf("steps are %v, want %v", weights, want)
	}
	sc.must(sc.Command(t.Context(), "promote-full"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}
