// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

// judgedBy is a Canary with one metric alone, %s: nothing else can decide.
const judgedBy = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata: {name: checkout}
spec:
  target: {name: checkout}
  steps:
  - {weight: 50, hold: 2s}
  - {weight: 100, bake: 2s}
  keepFailed: 5s
  analysis:
    interval: 1s
    metrics:
    - %s
`

// refused checks that this metric rolled the attempt back, and gives what was said.
func (sc *scene) refused(attempt int64, metric string) string {
	sc.t.Helper()
	r := sc.waitOutcome(attempt, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed || !strings.Contains(r.Message, metric+": ") {
		sc.t.Errorf("rolled back for %s: %s", r.Reason, r.Message)
	}
	sc.t.Log(r.Message)
	return r.Message
}

func TestANumberInTheJSONOfAServiceDecides(t *testing.T) {
	t.Parallel()
	// Each version is asked by its own Service for a number that it alone knows.
	sc := open(t, fmt.Sprintf(judgedBy, `name: backlog
      http:
        url: http://{{.Service}}.{{.Namespace}}.svc/report
        value: 'body.version == "v1" ? 1000.0 : body.waiting'
      threshold: {max: 10}
      misses: 2`))
	sc.deploy(shop.Version{Name: v2.Name, Env: map[string]string{"WAITING": "3"}})
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.deploy(shop.Version{Name: v3.Name, Env: map[string]string{"WAITING": "50"}})
	sc.refused(2, "backlog")
	sc.serves(v2)
	sc.close()
}

// gateSecret has the token of the gate, as a user writes it.
const gateSecret = `apiVersion: v1
kind: Secret
metadata: {name: gate}
stringData: {token: %s}
`

func TestAWebhookThatWantsATokenDecides(t *testing.T) {
	t.Parallel()
	sc := open(t, fmt.Sprintf(judgedBy, `name: gate
      webhook:
        url: http://gate.{{.Namespace}}.svc/gate
        bearerToken: {name: gate, key: token}`))
	gate := func(verdict string) {
		sc.must(sc.DeployApp(t.Context(), env.App{Name: "gate", Replicas: 1, Version: verdict, Env: map[string]string{"GATE_TOKEN": "sesame", "VERDICT": verdict}}))
		sc.must(sc.WaitRolledOut(t.Context(), "gate", time.Minute))
	}
	gate("Pass")
	// Who is not let in learns nothing, and the release waits.
	sc.must(sc.Apply(t.Context(), fmt.Sprintf(gateSecret, "simsim")))
	sc.deploy(v2)
	sc.waitFor("the gate to refuse the token", func(c *v1beta1.Canary) bool {
		r := c.Status.Release
		return r != nil && len(r.Metrics) == 1 && r.Metrics[0].Verdict == v1beta1.VerdictUnknown && r.Metrics[0].Reason == v1beta1.ReasonAccessDenied
	})
	sc.must(sc.Apply(t.Context(), fmt.Sprintf(gateSecret, "sesame")))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)

	gate("Fail")
	sc.deploy(v3)
	if said := sc.refused(2, "gate"); !strings.Contains(said, "asked about checkout-canary beside checkout") {
		t.Errorf("the gate's own words are missing: %s", said)
	}
	sc.serves(v2)
	sc.close()
}

func TestANativeHistogramFindsASlowVersion(t *testing.T) {
	t.Parallel()
	sc := open(t, fmt.Sprintf(judgedBy, `name: seconds
      prometheus:
        histogram: app_request_duration_seconds{namespace="{{.Namespace}}", pod=~"{{.Pods}}"}
      quantile: "0.9"
      threshold: {max: 100ms}`))
	sc.deploy(v2)
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.deploy(shop.Version{Name: v3.Name, Env: map[string]string{"LATENCY": "200ms"}})
	sc.refused(2, "seconds")
	sc.serves(v2)
	sc.close()
}
