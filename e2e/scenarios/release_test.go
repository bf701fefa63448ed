// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

func TestAGoodVersionIsReleasedWithoutRestartingAPod(t *testing.T) {
	t.Parallel()
	sc := open(t, shop.QuickCanary)
	sc.deploy(v2)
	sc.waitWeight(50)
	before, err := sc.Pods(t.Context(), v2.Name)
	sc.must(err)
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.waitPhase(v1beta1.PhaseIdle)

	after, err := sc.Pods(t.Context(), v2.Name)
	sc.must(err)
	names := map[string]bool{}
	for _, p := range after {
		names[p.Name] = true
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount > 0 {
				t.Errorf("pod %s was restarted", p.Name)
			}
		}
	}
	for _, p := range before {
		if !names[p.Name] {
			t.Errorf("pod %s of the new version did not survive the hand-over", p.Name)
		}
	}
	if len(after) != sc.Replicas {
		t.Errorf("%d pods of the new version, want %d", len(after), sc.Replicas)
	}
	sc.must(sc.WaitRolledOut(t.Context(), shop.Name, 10*time.Second))
	sc.serves(v2)
	sc.restored()

	// The next release goes back to what was released before: what stands in the
	// Deployment's history is not in its way.
	sc.deploy(v1)
	sc.waitOutcome(2, v1beta1.OutcomeSucceeded)
	sc.serves(v1)
	sc.restored()
	if report := sc.close(); report.Versions[v2.Name].Requests == 0 {
		t.Error("no visitor saw the new version")
	}
}

func TestABadVersionIsRolledBackAndItsPodsAreKeptForAWhile(t *testing.T) {
	t.Parallel()
	sc := open(t, shop.QuickCanary)
	sc.deploy(broken)
	sc.waitPhase(v1beta1.PhaseRolledBack)
	pods, err := sc.Pods(t.Context(), broken.Name)
	sc.must(err)
	if len(pods) == 0 {
		t.Error("the rejected pods are gone at once; they should be kept to be looked at")
	}
	r := sc.waitOutcome(1, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed {
		t.Errorf("rolled back for %s (%s), want %s", r.Reason, r.Message, v1beta1.ReasonMetricFailed)
	}
	sc.serves(v1)
	sc.restored("Deployment") // it stays paused with the rejected template
	report := sc.close()
	bad := report.Versions[broken.Name]
	t.Logf("the rejected version served %d requests, %d of them bad", bad.Requests, bad.Errors)
	if bad.Errors == 0 {
		t.Error("the bad version served nothing bad: the scenario shows nothing")
	}
	d, err := sc.Deployment(t.Context())
	sc.must(err)
	if !d.Spec.Paused {
		t.Error("the Deployment is not paused: it would roll the rejected version out")
	}

	// Going back by applying the old version closes the matter.
	sc.deploy(v1)
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.must(sc.WaitRolledOut(t.Context(), shop.Name, 10*time.Second))
	sc.restored()
}

// The version answers everything with 200 for the gateway's metrics to be content;
// the user's own query sees what is wrong with it.
func TestAUsersOwnQueryRollsAVersionBack(t *testing.T) {
	t.Parallel()
	sc := open(t, `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: 20, hold: 30s}
  - {weight: 100}
  keepFailed: 1s
  analysis:
    interval: 1s
    metrics:
    - name: wrong-version
      prometheus:
        query: 'sum(rate(app_requests_total{namespace="{{.Namespace}}",pod=~"{{.Pods}}",version="v3"}[5s]))'
      threshold: {max: 1}
`)
	sc.deploy(v3)
	r := sc.waitOutcome(1, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed || !strings.Contains(r.Message, "wrong-version") {
		t.Errorf("rolled back for %s (%s), want %s by the metric wrong-version", r.Reason, r.Message, v1beta1.ReasonMetricFailed)
	}
	sc.serves(v1)
	sc.restored("Deployment")
	sc.close()
}
