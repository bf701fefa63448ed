// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
	"headgate.dev/headgate/e2e/shop"
)

// In these scenarios it is not the version that is at fault but what is counted of it:
// none of them may roll a healthy version back, and none may let one through unseen.

// metric is what the status says of a metric.
func metric(c *v1beta1.Canary, name string) v1beta1.MetricStatus {
	if c.Status.Release != nil {
		for _, m := range c.Status.Release.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	return v1beta1.MetricStatus{}
}

func waitsAt(weight int32) func(*v1beta1.Canary) bool {
	return func(c *v1beta1.Canary) bool {
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1beta1.ConditionReady {
				return condition.Reason == v1beta1.ReasonWaitingForApproval && c.Status.Weight == weight
			}
		}
		return false
	}
}

// stays checks for a while that the release goes neither on nor back.
func (sc *scene) stays(weight int32, d time.Duration) {
	sc.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c, err := sc.Canary(sc.t.Context())
		sc.must(err)
		if c.Status.Phase != v1beta1.PhaseStepping || c.Status.Weight != weight {
			sc.t.Fatalf("%s; want it to stay at %d %%", shop.Summary(c), weight)
		}
	}
}

// send lets other visitors in beside those of the scene.
func (sc *scene) send(host, path string, perSecond float64, d time.Duration) load.Report {
	sc.t.Helper()
	o := sc.Requests(perSecond, d)
	o.URL, o.Host = "http://"+sc.Address+path, host
	report, err := load.Do(sc.t.Context(), o)
	sc.must(err)
	return report
}

// countsOnce checks that the canary's count of this step, its first one with visitors, is that of the
// requests its visitors sent, and no more.
func (sc *scene) countsOnce(version string) {
	sc.t.Helper()
	report := sc.visitors.Stop()
	served := report.Versions[version].Requests
	if report.NotCaused() > 0 {
		sc.t.Errorf("%d requests failed that no version caused:\n%s", report.NotCaused(), report)
	}
	var counted v1beta1.MetricStatus
	sc.waitFor("the count", func(c *v1beta1.Canary) bool {
		counted = metric(c, "errors")
		return float64(counted.CanaryRequests) >= 0.8*float64(served)
	})
	sc.t.Logf("visitors got %d answers of %s; counted are %d, %d of them bad", served, version, counted.CanaryRequests, counted.CanaryBad)
	if served < 200 || counted.CanaryRequests > int64(served) || counted.CanaryBad > 0 {
		sc.t.Errorf("counted %d requests and %d bad ones, where visitors sent %d that were good: %s", counted.CanaryRequests, counted.CanaryBad, served, counted.Message)
	}
	var err error
	sc.visitors, err = sc.Visitors(sc.t.Context(), rate)
	sc.must(err)
}

func TestProxiesThatComeAndGoDecideNothing(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	ctx := t.Context()
	var proxies appsv1.DeploymentList
	sc.must(sc.Client.List(ctx, &proxies, client.InNamespace(sc.Name), client.MatchingLabels{"gateway.networking.k8s.io/gateway-name": "front"}))
	if len(proxies.Items) != 1 {
		t.Fatalf("%d Deployments of proxies, want 1", len(proxies.Items))
	}
	change := func(patch string) {
		t.Helper()
		d := &proxies.Items[0]
		sc.must(sc.Client.Patch(ctx, d, client.RawPatch("application/merge-patch+json", []byte(patch))))
		sc.must(sc.WaitRolledOut(ctx, d.Name, time.Minute))
	}
	restart := func() {
		t.Helper()
		change(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"` + time.Now().Format(time.RFC3339Nano) + `"}}}}}`)
	}
	sc.deploy(v2)
	sc.waitWeight(5)
	change(`{"spec":{"replicas":2}}`)
	restart()
	change(`{"spec":{"replicas":1}}`)
	sc.waitFor("the gate", waitsForApproval)
	sc.must(sc.Command(ctx, "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.serves(v2)

	// A bad version is found all the same.
	sc.deploy(broken)
	sc.waitWeight(5)
	restart()
	if r := sc.waitOutcome(2, v1beta1.OutcomeRolledBack); r.Reason != v1beta1.ReasonMetricFailed {
		t.Errorf("rolled back for %s (%s), want %s", r.Reason, r.Message, v1beta1.ReasonMetricFailed)
	}
	sc.serves(v2)
	sc.restored("Deployment")
	sc.close()
}

// testers has a step without visitors first, in which people try the new version.
const testers = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: 0, approval: true}
  - {weight: 25, approval: true}
  - {weight: 100}
  keepFailed: 1s
  analysis:
    metrics:
    - {name: errors, gateway: ErrorRate, tolerance: {absolute: 1%}, goodEnough: {absolute: 15%}}
    - {name: answers, gateway: Answers}
`

// otherWays are routes by which requests reach the canary that are none of its share: those of
// people who try it, and copies of visitors' requests.
const otherWays = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: testers}
spec:
  parentRefs: [{name: front}]
  hostnames: [testers.example]
  rules: [{backendRefs: [{name: checkout-canary, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mirror}
spec:
  parentRefs: [{name: front}]
  hostnames: [mirror.example]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: checkout-canary, port: 80}}}]
    backendRefs: [{name: old, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: old}
spec:
  selector: {app: checkout}
  ports: [{name: http, port: 80, targetPort: http}]
`

func TestTestersAndMirroredRequestsAreNoEvidence(t *testing.T) {
	t.Parallel()
	sc := open(t, testers)
	sc.deploy(v2)
	sc.waitFor("the gate at 0 %", waitsAt(0))
	sc.must(sc.Apply(t.Context(), otherWays))
	sc.must(sc.Wait(t.Context(), "the testers' way", 20*time.Second, func(context.Context) (bool, string, error) {
		report := sc.send("testers.example", "/", 50, 200*time.Millisecond)
		return report.Versions[v2.Name].Requests == report.Requests, report.String(), nil
	}))
	tried := sc.send("testers.example", "/?error_rate=1", rate, 3*time.Second)
	if n := tried.Versions[v2.Name].Errors; n < 500 {
		t.Fatalf("testers saw %d failures: the scenario shows nothing:\n%s", n, tried)
	}
	c, err := sc.Canary(t.Context())
	sc.must(err)
	if m := metric(c, "errors"); !waitsAt(0)(c) || m.CanaryRequests > 0 || m.Against > 0 {
		t.Errorf("what testers did at weight 0 counts: %s: %+v", shop.Summary(c), m)
	}

	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitWeight(25)
	mirrored := sc.send("mirror.example", "/?error_rate=1", rate, 5*time.Second)
	if mirrored.Requests == 0 || mirrored.NotCaused() > 0 {
		t.Errorf("the scenario shows nothing:\n%s", mirrored)
	}
	sc.waitFor("the gate", waitsForApproval)
	sc.countsOnce(v2.Name)
	sc.must(sc.Delete(t.Context(), otherWays))
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

func TestAnOutageOfBothVersionsRollsNothingBack(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitWeight(5)
	outage := sc.send(shop.Host, "/?error_rate=1", rate, 15*time.Second)
	if outage.Versions[v2.Name].Errors < 20 || outage.Versions[v1.Name].Errors < 1000 {
		t.Errorf("the outage was none:\n%s", outage)
	}
	sc.waitFor("the gate", waitsForApproval)
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

// unanswered asks Prometheus what it has no number for, and a server that is none.
const unanswered = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: 20}
  - {weight: 100}
  keepFailed: 1s
  analysis:
    interval: 1s
    onUnknown: {after: 10s, then: RollBack}
    metrics:
    - {name: nan, prometheus: {query: vector(0) / vector(0)}, threshold: {max: 1}}
    - {name: empty, prometheus: {query: absent(vector(1))}, threshold: {max: 1}}
    - {name: several, prometheus: {query: 'vector(1) or label_replace(vector(2), "a", "b", "", "")'}, threshold: {max: 9}}
    - {name: other, prometheus: {query: vector(1), address: "http://prometheus.headgate-monitoring:9090/nowhere"}, threshold: {max: 9}}
`

func TestQuestionsWithoutAnAnswerHoldAndThenDoAsTheSpecSays(t *testing.T) {
	t.Parallel()
	sc := open(t, unanswered)
	sc.deploy(v2)
	sc.waitWeight(20)
	want := map[string]string{
		"nan": v1beta1.ReasonNotANumber, "empty": v1beta1.ReasonNoSeries,
		"several": v1beta1.ReasonSeveralSeries, "other": v1beta1.ReasonSourceNotFound,
	}
	sc.waitFor("each reason", func(c *v1beta1.Canary) bool {
		for name, reason := range want {
			if m := metric(c, name); m.Verdict != v1beta1.VerdictUnknown || m.Reason != reason {
				return false
			}
		}
		return true
	})
	c, err := sc.Canary(t.Context())
	sc.must(err)
	for _, m := range c.Status.Release.Metrics {
		t.Logf("%s: %s: %s", m.Name, m.Reason, m.Message)
	}
	sc.stays(20, 4*time.Second)
	if r := sc.waitOutcome(1, v1beta1.OutcomeRolledBack); r.Reason != v1beta1.ReasonStillUnknown {
		t.Errorf("rolled back for %s (%s), want %s", r.Reason, r.Message, v1beta1.ReasonStillUnknown)
	}
	sc.serves(v1)

	sc.must(sc.Client.Patch(t.Context(), c, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"analysis":{"onUnknown":{"then":"Promote"}}}}`))))
	sc.must(sc.Command(t.Context(), "retry"))
	sc.waitOutcome(2, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

// The scenario below keeps the proxies of all releases away from Headgate; it runs by itself.

func TestReportsThatAreCutOffHoldTheRelease(t *testing.T) {
	sc := open(t, gated)
	ctx := context.WithoutCancel(t.Context()) // the Service is restored, whatever happens here
	selects := func(cut string) {
		s := &corev1.Service{}
		s.Namespace, s.Name = env.HeadgateNamespace, "headgate-xds"
		sc.must(sc.Client.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"selector":{"headgate.dev/cut":`+cut+`}}}`))))
	}
	t.Cleanup(func() { selects("null") })
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	// Nobody answers at the Service any more, and the connections end with the process.
	selects(`"yes"`)
	sc.killOperator()
	sc.must(sc.Cluster.WaitRolledOut(ctx, env.HeadgateNamespace, "headgate", time.Minute))
	sc.waitFor("the reason", func(c *v1beta1.Canary) bool {
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1beta1.ConditionAnalysis && condition.Status == "Unknown" {
				t.Logf("%s: %s", condition.Reason, condition.Message)
				return condition.Reason == v1beta1.ReasonStaleMeasurements || condition.Reason == v1beta1.ReasonNoProxies
			}
		}
		return false
	})
	sc.stays(25, 5*time.Second)
	selects("null")
	sc.waitFor("the gate", waitsForApproval)
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}
