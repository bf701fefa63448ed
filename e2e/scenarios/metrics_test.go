// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// ownCanary is judged by a Job before the first visitor, and by the app's own counters
// and histogram in a real Prometheus after. %s is the app's image.
const ownCanary = `apiVersion: headgate.dev/v1beta1
kind: MetricTemplate
metadata: {name: app}
spec:
  args: [{name: codes, default: 5..}]
  metric:
    name: app
    prometheus:
      counters:
        bad: app_requests_total{namespace="{{.Namespace}}", pod=~"{{.Pods}}", code=~"{{.Args.codes}}"}
        total: app_requests_total{namespace="{{.Namespace}}", pod=~"{{.Pods}}"}
    tolerance: {absolute: 1%%}
    goodEnough: {absolute: 15%%}
---
apiVersion: headgate.dev/v1beta1
kind: Canary
metadata: {name: checkout}
spec:
  target: {name: checkout}
  steps:
  - {weight: 0}
  - {weight: 50, hold: 2s}
  - {weight: 100, bake: 2s}
  keepFailed: 5s
  analysis:
    interval: 1s
    metrics:
    - name: smoke
      job:
        spec:
          activeDeadlineSeconds: 60
          template:
            spec:
              containers:
              - name: smoke
                image: %s
                imagePullPolicy: IfNotPresent
                env: [{name: SMOKE, value: "http://$(HEADGATE_SERVICE).$(HEADGATE_NAMESPACE).svc"}]
    - name: requests
      template: {name: app}
    - name: seconds
      prometheus:
        histogram: app_request_duration_seconds_bucket{namespace="{{.Namespace}}", pod=~"{{.Pods}}"}
      quantile: "0.9"
      threshold: {max: 1s}
`

// jobs are the Jobs of the shop's namespace by name, and how they ended.
func (sc *scene) jobs() map[string]string {
	sc.t.Helper()
	list := &batchv1.JobList{}
	sc.must(sc.Client.List(sc.t.Context(), list, client.InNamespace(sc.Name)))
	ended := map[string]string{}
	for _, j := range list.Items {
		ended[j.Name] = "running"
		for _, c := range j.Status.Conditions {
			if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed {
				ended[j.Name] = string(c.Type)
			}
		}
	}
	return ended
}

func TestAJobAndAPrometheusJudge(t *testing.T) {
	t.Parallel()
	image, err := ground(t).Image(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	sc := open(t, fmt.Sprintf(ownCanary, image))
	sc.deploy(v2)
	r := sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	var verdicts []string
	for _, m := range r.Metrics {
		verdicts = append(verdicts, fmt.Sprintf("%s %s: %s", m.Name, m.Verdict, m.Message))
	}
	t.Log(strings.Join(verdicts, "\n"))
	jobs := sc.jobs()
	for step := 1; step <= 3; step++ {
		if name := fmt.Sprintf("checkout-smoke-1-%d-1", step); jobs[name] != "Complete" {
			t.Errorf("Job %s is %q; there are %v", name, jobs[name], jobs)
		}
	}
	sc.serves(v2)
	sc.restored()

	// A version that answers nothing well never meets a visitor.
	dead := shop.Version{Name: "dead", Env: map[string]string{"ERROR_RATE": "1"}}
	sc.deploy(dead)
	r = sc.waitOutcome(2, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed || !strings.Contains(r.Message, "smoke: ") || !strings.Contains(r.Message, "checkout-smoke-2-1-1 failed") {
		t.Errorf("rolled back for %s: %s", r.Reason, r.Message)
	}
	sc.serves(v2)
	report := sc.close()
	if n := report.Versions[dead.Name].Requests; n > 0 {
		t.Errorf("the dead version met %d visitors", n)
	}
}

func TestThePrometheusAloneFindsABadVersion(t *testing.T) {
	t.Parallel()
	image, err := ground(t).Image(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	// Without the Job: its part of the list is left out.
	canary := fmt.Sprintf(ownCanary, image)
	begin, end := strings.Index(canary, "    - name: smoke"), strings.Index(canary, "    - name: requests")
	sc := open(t, canary[:begin]+canary[end:])
	sc.deploy(broken)
	r := sc.waitOutcome(1, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed || !strings.Contains(r.Message, "requests: ") {
		t.Errorf("rolled back for %s: %s", r.Reason, r.Message)
	}
	t.Log(r.Message)
	i := slices.IndexFunc(r.Metrics, func(m v1beta1.MetricStatus) bool { return m.Name == "requests" })
	if i < 0 || r.Metrics[i].CanaryRequests == 0 {
		t.Errorf("the counters counted nothing: %+v", r.Metrics)
	}
	sc.serves(v1)
	sc.close()
}
