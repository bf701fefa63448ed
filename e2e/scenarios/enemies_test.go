// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

func TestACanaryDeletedInTheMiddleLeavesAWorkingShop(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	c, err := sc.Canary(t.Context())
	sc.must(err)
	sc.must(sc.Client.Delete(t.Context(), c))
	sc.must(sc.Wait(t.Context(), "the Canary to be gone", time.Minute, func(ctx context.Context) (bool, string, error) {
		c := &v1beta1.Canary{}
		err := sc.Client.Get(ctx, sc.Key(shop.Name), c)
		return apierrors.IsNotFound(err), shop.Summary(c), client.IgnoreNotFound(err)
	}))
	sc.serves(v1)
	sc.restored("Deployment") // paused with the version that was not released
	sc.close()
}

// What a crash cuts off, and what it leaves without a pod, is the canary's share;
// from the moment the traffic is back nothing fails any more.
func TestACanaryWhosePodsCrashLosesItsTraffic(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(shop.Version{Name: "crashing", Env: map[string]string{"CRASH_AFTER": "12s"}})
	sc.waitPhase(v1beta1.PhaseStepping)
	r := sc.waitOutcome(1, v1beta1.OutcomeRolledBack)
	t.Logf("rolled back: %s: %s", r.Reason, r.Message)
	back := time.Now()
	sc.serves(v1)
	sc.restored("Deployment")
	report := sc.visitors.Stop()
	if n := report.Versions[v1.Name].Errors; n > 0 {
		t.Errorf("the healthy version failed %d requests", n)
	}
	for second, s := range report.Seconds {
		if report.Start.Add(time.Duration(second)*time.Second).After(back) && s.Blameless > 0 {
			t.Errorf("%d requests failed after the traffic was back:\n%s", s.Blameless, report)
		}
	}
	// At 25 % a pod that crashes can take no more than its share of the visitors.
	if n := report.NotCaused(); n > report.Requests/4 {
		t.Errorf("%d of %d requests failed:\n%s", n, report.Requests, report)
	}
}

func TestARouteEditedInTheMiddleKeepsTheEditAndTheRelease(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	ctx := t.Context()
	// Somebody adds a rule and, applying an old copy, drops the canary from the other.
	sc.must(sc.Wait(ctx, "the edit", 10*time.Second, func(ctx context.Context) (bool, string, error) {
		var r gwv1.HTTPRoute
		if err := sc.Client.Get(ctx, sc.Key(shop.Name), &r); err != nil {
			return false, "", err
		}
		stable := gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{Name: shop.Name, Port: new(gwv1.PortNumber(80))}}}
		r.Spec.Rules[0].BackendRefs = []gwv1.HTTPBackendRef{stable}
		r.Spec.Rules = append(r.Spec.Rules, gwv1.HTTPRouteRule{
			Matches:     []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Type: new(gwv1.PathMatchPathPrefix), Value: new("/cart")}}},
			BackendRefs: []gwv1.HTTPBackendRef{stable},
		})
		err := sc.Client.Update(ctx, &r)
		return err == nil, "", err
	}))
	sc.must(sc.Wait(ctx, "the canary to be back in both rules", 15*time.Second, func(ctx context.Context) (bool, string, error) {
		var r gwv1.HTTPRoute
		if err := sc.Client.Get(ctx, sc.Key(shop.Name), &r); err != nil {
			return false, "", err
		}
		done := len(r.Spec.Rules) == 2
		for _, rule := range r.Spec.Rules {
			done = done && len(rule.BackendRefs) == 2
		}
		return done, fmt.Sprintf("%+v", r.Spec.Rules), nil
	}))
	sc.must(sc.Command(ctx, "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored("HTTPRoute")
	var r gwv1.HTTPRoute
	sc.must(sc.Client.Get(ctx, sc.Key(shop.Name), &r))
	if len(r.Spec.Rules) != 2 || len(r.Spec.Rules[0].BackendRefs) != 1 || len(r.Spec.Rules[1].BackendRefs) != 1 {
		t.Errorf("the edit did not survive as it was written: %+v", r.Spec.Rules)
	}
	sc.close()
}

// An autoscaler may grow the Deployment in the middle, and must not shrink what
// has to take everything back. (It needs no metrics to keep its minimum.)
func TestAnAutoscalerGrowsTheDeploymentInTheMiddle(t *testing.T) {
	t.Parallel()
	sc := open(t, gated)
	ctx := t.Context()
	sc.must(sc.Apply(ctx, scaler(3)))
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	sc.must(sc.Client.Get(ctx, sc.Key(shop.Name), hpa))
	if b := hpa.Spec.Behavior; b == nil || b.ScaleDown == nil || b.ScaleDown.SelectPolicy == nil || *b.ScaleDown.SelectPolicy != autoscalingv2.DisabledPolicySelect {
		t.Errorf("scaling down is not off during the release: %+v", b)
	}
	sc.must(sc.Client.Patch(ctx, hpa, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"minReplicas":5}}`))))
	sc.must(sc.Wait(ctx, "five stable pods", time.Minute, func(ctx context.Context) (bool, string, error) {
		pods, err := sc.Pods(ctx, v1.Name)
		return len(pods) == 5, fmt.Sprint(len(pods), " pods"), err
	}))
	sc.must(sc.Command(ctx, "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	pods, err := sc.Pods(ctx, v2.Name)
	sc.must(err)
	if len(pods) != 5 {
		t.Errorf("%d pods of the new version, want the 5 that the autoscaler asked for", len(pods))
	}
	sc.restored("Deployment") // its replicas are the autoscaler's
	sc.must(sc.Client.Get(ctx, sc.Key(shop.Name), hpa))
	if hpa.Spec.Behavior != nil && hpa.Spec.Behavior.ScaleDown != nil && hpa.Spec.Behavior.ScaleDown.SelectPolicy != nil && *hpa.Spec.Behavior.ScaleDown.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		t.Error("scaling down is still off after the release")
	}
	sc.close()
}

func scaler(least int) string {
	return fmt.Sprintf(`apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: checkout}
  minReplicas: %d
  maxReplicas: 8
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
`, least)
}

// The scenarios below end processes that others need; they run by themselves.

func TestTheOperatorIsKilledInEveryPhase(t *testing.T) {
	sc := open(t, shop.QuickCanary)
	sc.deploy(v2)
	for _, phase := range []v1beta1.Phase{v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhasePromoting} {
		sc.waitFor("phase "+string(phase), func(c *v1beta1.Canary) bool { return c.Status.Phase == phase || phaseOrder(c) > order[phase] })
		sc.killOperator()
	}
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)

	sc.deploy(broken)
	sc.waitFor("the roll back", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRollingBack || c.Status.Phase == v1beta1.PhaseRolledBack
	})
	sc.killOperator()
	sc.waitOutcome(2, v1beta1.OutcomeRolledBack)
	sc.serves(v2)
	sc.restored("Deployment")
	sc.close()
}

var order = map[v1beta1.Phase]int{v1beta1.PhaseStarting: 1, v1beta1.PhaseStepping: 2, v1beta1.PhasePromoting: 3}

func phaseOrder(c *v1beta1.Canary) int {
	if r := c.Status.Release; r != nil && r.FinishedAt != nil {
		return 4
	}
	return order[c.Status.Phase]
}

// killOperator ends the operator's pods without warning, as a node that dies does.
func (sc *scene) killOperator() {
	sc.t.Helper()
	sc.must(sc.Client.DeleteAllOf(sc.t.Context(), &corev1.Pod{}, client.InNamespace(env.HeadgateNamespace),
		client.MatchingLabels{"app.kubernetes.io/component": "controller"}, client.GracePeriodSeconds(0)))
}

func TestASecondReplicaTakesOver(t *testing.T) {
	sc := open(t, gated)
	ctx := context.WithoutCancel(t.Context()) // the number of replicas is restored, whatever happens here
	scale := func(n int32) {
		d := &appsv1.Deployment{}
		d.Namespace, d.Name = env.HeadgateNamespace, "headgate"
		sc.must(sc.Client.Patch(ctx, d, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
		sc.must(sc.Cluster.WaitRolledOut(ctx, d.Namespace, d.Name, time.Minute))
	}
	t.Cleanup(func() { scale(1) })
	scale(2)
	sc.deploy(v2)
	sc.waitFor("the gate", waitsForApproval)

	leader := sc.leader(ctx)
	sc.must(sc.Client.Delete(ctx, leader, client.GracePeriodSeconds(0)))
	sc.must(sc.Wait(ctx, "another leader", 30*time.Second, func(ctx context.Context) (bool, string, error) {
		next := sc.leader(ctx)
		return next != nil && next.Name != leader.Name, fmt.Sprint(next != nil), nil
	}))
	sc.must(sc.Command(ctx, "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}

// leader is the operator's pod that leads; nil while there is none.
func (sc *scene) leader(ctx context.Context) *corev1.Pod {
	var pods corev1.PodList
	sc.must(sc.Client.List(ctx, &pods, client.InNamespace(env.HeadgateNamespace), client.MatchingLabels{"headgate.dev/leader": "true"}))
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			return &pods.Items[i]
		}
	}
	return nil
}

// withAQuery adds a question to Prometheus, of which a good version has the answer 0.
const withAQuery = gated + `    - name: server-errors
      prometheus:
        query: 'sum(rate(app_requests_total{namespace="{{.Namespace}}",pod=~"{{.Pods}}",code=~"5.."}[10s])) or vector(0)'
      threshold: {max: 1}
`

func TestPrometheusDownHoldsTheReleaseAndSaysSo(t *testing.T) {
	sc := open(t, withAQuery)
	ctx := context.WithoutCancel(t.Context()) // Prometheus comes back for the others, whatever happens here
	scale := func(n int32) {
		d := &appsv1.Deployment{}
		d.Namespace, d.Name = shop.Monitoring, "prometheus"
		sc.must(sc.Client.Patch(ctx, d, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))))
	}
	t.Cleanup(func() { scale(1) })
	scale(0)
	sc.must(sc.Wait(t.Context(), "Prometheus to be gone", 30*time.Second, func(ctx context.Context) (bool, string, error) {
		var pods corev1.PodList
		err := sc.Client.List(ctx, &pods, client.InNamespace(shop.Monitoring))
		return len(pods.Items) == 0, fmt.Sprint(len(pods.Items), " pods"), err
	}))
	sc.deploy(v2)
	sc.waitFor("the reason", func(c *v1beta1.Canary) bool {
		for _, condition := range c.Status.Conditions {
			if condition.Type == v1beta1.ConditionAnalysis {
				return condition.Status == "Unknown" && condition.Reason == v1beta1.ReasonSourceUnavailable
			}
		}
		return false
	})
	time.Sleep(5 * time.Second)
	c, err := sc.Canary(t.Context())
	sc.must(err)
	if c.Status.Phase != v1beta1.PhaseStepping || c.Status.Weight != 5 {
		t.Fatalf("without telemetry: %s; want to stay at 5 %%", shop.Summary(c))
	}
	scale(1)
	sc.waitFor("the gate", waitsForApproval)
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.serves(v2)
	sc.restored()
	sc.close()
}
