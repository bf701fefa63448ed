// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

func deployment(namespace, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "checkout"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "checkout"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
			},
		},
	}
}

const routeYAML = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: checkout, annotations: {team: shop}}
spec:
  parentRefs: [{name: web}]
  hostnames: [shop.example]
  rules:
  - name: pay
    matches: [{path: {type: PathPrefix, value: /pay}}]
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: checkout, port: 80}}
    backendRefs:
    - name: checkout
      port: 80
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: x-by, value: pay}]}
    - {name: legacy, port: 80, weight: 3}
  - matches: [{path: {type: PathPrefix, value: /other}}]
    backendRefs: [{name: other, port: 80}]
  - backendRefs: [{name: checkout, port: 80, weight: 1}]
`

// shop creates what a user has before Headgate, and a Canary with short steps.
func (e *env) shop(replicas int32, edit func(*v1beta1.Canary)) {
	e.Helper()
	e.create(deployment(e.namespace, "v1", replicas))
	e.create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "checkout"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	})
	route := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(routeYAML), &route.Object); err != nil {
		e.Fatal(err)
	}
	route.SetNamespace(e.namespace)
	e.create(route)
	least := int32(1)
	e.create(&autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "checkout"},
			MinReplicas:    &least, MaxReplicas: 10,
		},
	})
	ten := v1beta1.Amount(intstr.FromInt32(10))
	c := &v1beta1.Canary{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"},
		Spec: v1beta1.CanarySpec{
			Target: v1beta1.TargetReference{Name: "checkout"},
			Steps:  []v1beta1.Step{{Weight: 10}, {Weight: 50}, {Weight: 100}},
			Analysis: &v1beta1.Analysis{Metrics: []v1beta1.Metric{{
				Name: "errors", Prometheus: &v1beta1.PrometheusSource{Query: "errors"}, Threshold: &v1beta1.Threshold{Max: &ten},
			}}},
			KeepFailed: &metav1.Duration{},
		},
	}
	if edit != nil {
		edit(c)
	}
	e.create(c)
}

// snapshot is the user's objects without what the API server keeps about them.
func (e *env) snapshot() map[string]any {
	e.Helper()
	out := map[string]any{}
	for _, gvk := range []struct{ version, kind string }{
		{"v1", "Service"}, {"gateway.networking.k8s.io/v1", "HTTPRoute"}, {"autoscaling/v2", "HorizontalPodAutoscaler"},
	} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(gvk.version)
		list.SetKind(gvk.kind + "List")
		if err := server.client.List(e.ctx, list, client.InNamespace(e.namespace)); err != nil {
			e.Fatal(err)
		}
		for _, o := range list.Items {
			for _, field := range []string{"resourceVersion", "managedFields", "generation"} {
				unstructured.RemoveNestedField(o.Object, "metadata", field)
			}
			delete(o.Object, "status")
			out[gvk.kind+"/"+o.GetName()] = o.Object
		}
	}
	return out
}

// owners says whether Headgate is a manager of a user's object.
func (e *env) owned(o client.Object) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == fieldManager })
}

func (e *env) pods() map[string]bool {
	list := &corev1.PodList{}
	if err := server.client.List(e.ctx, list, client.InNamespace(e.namespace)); err != nil {
		e.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out[string(p.UID)] = true
		}
	}
	return out
}

func (e *env) podsOf(revision string) map[string]bool {
	list := &corev1.PodList{}
	if err := server.client.List(e.ctx, list, client.InNamespace(e.namespace), client.MatchingLabels{hashKey: revision}); err != nil {
		e.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range list.Items {
		out[string(p.UID)] = true
	}
	return out
}

func weightsOf(route *unstructured.Unstructured) (out []string) {
	for _, refs := range backendRefs(route) {
		var rule []string
		for _, r := range refs {
			ref := r.(map[string]any)
			rule = append(rule, fmt.Sprintf("%v=%v", ref["name"], ref["weight"]))
		}
		out = append(out, strings.Join(rule, " "))
	}
	return out
}

// restored checks that everything is as it was before the release.
func (e *env) restored(before map[string]any) {
	e.Helper()
	if diff := cmp.Diff(before, e.snapshot()); diff != "" {
		e.Errorf("the objects are not what they were:\n%s", diff)
	}
	if e.owned(e.route()) {
		e.Error("Headgate still manages fields of the route")
	}
	s := &corev1.Service{}
	if e.get(s, "checkout"); e.owned(s) {
		e.Error("Headgate still manages fields of the Service")
	}
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	if e.get(h, "checkout"); e.owned(h) {
		e.Error("Headgate still manages fields of the autoscaler")
	}
}

// atRest checks that nothing is written any more. The Deployment's status is its
// own controller's, which may be late on a busy machine.
func (e *env) atRest() {
	e.Helper()
	written := func() []any {
		d := e.deployment()
		return []any{e.canary().ResourceVersion, e.route().GetResourceVersion(), d.Spec, d.Labels, d.Annotations}
	}
	before := written()
	time.Sleep(700 * time.Millisecond)
	if diff := cmp.Diff(before, written()); diff != "" {
		e.Errorf("something is written at rest (-before +after):\n%s", diff)
	}
}

func (e *env) ready(want metav1.ConditionStatus, reason string) {
	e.Helper()
	ready := meta.FindStatusCondition(e.canary().Status.Conditions, v1beta1.ConditionReady)
	if ready == nil || ready.Status != want || ready.Reason != reason {
		e.Errorf("Ready is %+v, want %s %s", ready, want, reason)
	}
}

func TestARelease(t *testing.T) {
	e := newEnv(t)
	e.shop(3, func(c *v1beta1.Canary) { c.Spec.Steps[1].Approval = true })
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.atRest()

	e.image("v2")
	c := e.weight(10)
	revision := c.Status.Release.Revision
	if got, want := weightsOf(e.route()), []string{"checkout=90 checkout-canary=10 legacy=300", "other=1", "checkout=90 checkout-canary=10"}; !cmp.Equal(got, want) {
		t.Errorf("weights at 10 %%: %q, want %q", got, want)
	}
	e.weight(50)
	if n := len(e.podsOf(revision)); n != 2 {
		t.Errorf("%d canary pods at 50 %% of 3, want 2", n)
	}
	e.eventually("the gate", func(c *v1beta1.Canary) bool {
		return meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady).Reason == v1beta1.ReasonWaitingForApproval
	})
	h := &autoscalingv2.HorizontalPodAutoscaler{}
	if e.get(h, "checkout"); !scaleDownDisabled(h) {
		t.Error("the autoscaler may scale down during the release")
	}
	e.command("promote: looks good")
	e.eventually("all pods", func(*v1beta1.Canary) bool { return len(e.podsOf(revision)) == 3 })
	canaries := e.podsOf(revision)
	e.eventually("the end", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
	if diff := cmp.Diff(canaries, e.pods()); diff != "" {
		t.Errorf("pods were restarted by the promotion:\n%s", diff)
	}
	d := e.deployment()
	if d.Spec.Paused || d.Annotations[v1beta1.AnnotationHeld] != "" {
		t.Error("the Deployment is still held")
	}
	e.eventually("a complete Deployment", func(*v1beta1.Canary) bool {
		d := e.deployment()
		return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == 3 && d.Status.AvailableReplicas == 3 && d.Status.Replicas == 3
	})
	e.restored(before)
	e.ready(metav1.ConditionTrue, v1beta1.ReasonIdle)
	e.atRest()
	if diff := cmp.Diff(canaries, e.pods()); diff != "" {
		t.Errorf("pods were restarted after the promotion:\n%s", diff)
	}
	e.appliesWithoutConflict()
	e.told(v1beta1.ReasonReleaseStarted, v1beta1.ReasonApproved, v1beta1.ReasonHandedOver, v1beta1.ReasonPromoted)
}

// appliesWithoutConflict applies the user's route by server-side apply.
func (e *env) appliesWithoutConflict() {
	e.Helper()
	route := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(routeYAML), &route.Object); err != nil {
		e.Fatal(err)
	}
	route.SetNamespace(e.namespace)
	if err := unstructured.SetNestedStringSlice(route.Object, []string{"other.example"}, "spec", "hostnames"); err != nil {
		e.Fatal(err)
	}
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	if err := unstructured.SetNestedSlice(route.Object, rules[:2], "spec", "rules"); err != nil {
		e.Fatal(err)
	}
	// The test created the objects by Create, whose manager is the test binary.
	err := server.client.Apply(e.ctx, client.ApplyConfigurationFromUnstructured(route), client.FieldOwner("canary.test"))
	if conflict := apierrors.IsConflict(err); err != nil && (!conflict || strings.Contains(err.Error(), fieldManager+"\"")) {
		e.Error("server-side apply after the release:", err)
	}
}

func (e *env) told(reasons ...string) {
	e.Helper()
	for range 50 {
		list := &eventsv1.EventList{}
		if err := server.client.List(e.ctx, list, client.InNamespace(e.namespace)); err != nil {
			e.Fatal(err)
		}
		missing := slices.DeleteFunc(slices.Clone(reasons), func(r string) bool {
			return slices.ContainsFunc(list.Items, func(ev eventsv1.Event) bool { return ev.Reason == r })
		})
		if len(missing) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
		reasons = missing
	}
	e.Errorf("no events with the reasons %v", reasons)
}

func TestAFailingMetricTakesTheTrafficBack(t *testing.T) {
	e := newEnv(t)
	e.shop(2, nil)
	e.verdicts.bad[1] = true
	e.verdicts.silent = true
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.image("v2")
	e.weight(10)
	e.verdicts.say(e, func(v *verdicts) { v.silent = false })
	c := e.eventually("rolled back and removed", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRolledBack && c.Status.Release.FinishedAt != nil
	})
	if r := c.Status.Release; r.Reason != v1beta1.ReasonMetricFailed || !strings.Contains(r.Message, "100") {
		t.Errorf("the reason is %s: %s", r.Reason, r.Message)
	}
	e.restored(before)
	e.atRest()
	e.wayBackIsMeasured()
	d := e.deployment()
	if !d.Spec.Paused || d.Spec.Template.Spec.Containers[0].Image != "v2" {
		t.Error("the Deployment is not held with the rejected version")
	}
	e.command("retry")
	e.eventually("another attempt", func(c *v1beta1.Canary) bool { return c.Status.Release.Attempt == 2 && c.Status.Weight >= 10 })
	e.command("abort: enough")
	e.eventually("aborted", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRolledBack && c.Status.Release.Outcome == v1beta1.OutcomeAborted && c.Status.Release.FinishedAt != nil
	})
	e.image("v1")
	e.phase(v1beta1.PhaseIdle)
	if e.deployment().Spec.Paused {
		t.Error("the Deployment stays paused after the revert")
	}
	e.restored(before)
	e.told(v1beta1.ReasonMetricFailed, v1beta1.ReasonAborted, v1beta1.ReasonReverted)
}

// wayBackIsMeasured checks what a scrape says of the one release that was rolled back.
func (e *env) wayBackIsMeasured() {
	e.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e.meter)
	families, err := registry.Gather()
	if err != nil {
		e.Fatal(err)
	}
	found := 0
	for _, f := range families {
		for _, x := range f.GetMetric() {
			switch h := x.GetHistogram(); f.GetName() {
			case "headgate_rollback_duration_seconds", "headgate_release_duration_seconds":
				found++
				if h.GetSampleCount() != 1 || h.GetSampleSum() <= 0 || h.GetSampleSum() > patience.Seconds() {
					e.Errorf("%s: %d releases in %g s", f.GetName(), h.GetSampleCount(), h.GetSampleSum())
				}
			}
		}
	}
	if found != 2 {
		e.Errorf("%d of 2 histograms", found)
	}
}

func TestCrashingPodsTakeTheTrafficBack(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) { c.Spec.Steps[0].Hold = &metav1.Duration{Duration: time.Hour} })
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	image := "crash-" + e.namespace
	e.image(image)
	e.weight(10)
	broken.Store(image, true)
	c := e.eventually("rolled back", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRolledBack && c.Status.Release.FinishedAt != nil
	})
	if r := c.Status.Release; r.Reason != v1beta1.ReasonPodsNotReady || !strings.Contains(r.Message, "CrashLoopBackOff") {
		t.Errorf("the reason is %s: %s", r.Reason, r.Message)
	}
	e.restored(before)
}

func TestANewerVersionSupersedes(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) { c.Spec.Steps[0].Approval = true })
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.image("v2")
	first := e.weight(10).Status.Release.Revision
	e.image("v3")
	e.eventually("the second release at 10 %", func(c *v1beta1.Canary) bool {
		return c.Status.Release.Attempt == 2 && c.Status.Weight == 10 && c.Status.Release.ConfirmedAt != nil
	})
	e.eventually("no pods of the first", func(*v1beta1.Canary) bool { return len(e.podsOf(first)) == 0 })
	e.command("promote")
	e.eventually("the end", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
	e.restored(before)
}

func TestAUserEditsTheRouteInTheMiddle(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) { c.Spec.Steps[0].Approval = true })
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	// Applied from Git: the canary and its weights are gone, a rule is new.
	route := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(routeYAML), &route.Object); err != nil {
		t.Fatal(err)
	}
	current := e.route()
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	added := map[string]any{"matches": []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/new"}}}, "backendRefs": []any{map[string]any{"name": "checkout", "port": int64(80)}}}
	if err := unstructured.SetNestedSlice(current.Object, append([]any{added}, rules...), "spec", "rules"); err != nil {
		t.Fatal(err)
	}
	if err := server.client.Update(e.ctx, current); err != nil {
		t.Fatal(err)
	}
	want := []string{"checkout=90 checkout-canary=10", "checkout=90 checkout-canary=10 legacy=300", "other=1", "checkout=90 checkout-canary=10"}
	e.eventually("a repaired route", func(*v1beta1.Canary) bool { return cmp.Equal(weightsOf(e.route()), want) })
	e.command("promote")
	e.eventually("the end", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
	if got, want := weightsOf(e.route()), []string{"checkout=1", "checkout=1 legacy=3", "other=1", "checkout=1"}; !cmp.Equal(got, want) {
		t.Errorf("after the release: %q, want %q", got, want)
	}
	e.told(v1beta1.ReasonRouteRepaired)
}

func TestDeletionInTheMiddleRestoresEverything(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) { c.Spec.Steps[0].Approval = true })
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.image("v2")
	revision := e.weight(10).Status.Release.Revision
	if err := server.client.Delete(e.ctx, e.canary()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := server.client.Get(e.ctx, client.ObjectKey{Namespace: e.namespace, Name: "checkout"}, &v1beta1.Canary{})
		if apierrors.IsNotFound(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the Canary is not gone")
		}
		time.Sleep(50 * time.Millisecond)
	}
	e.restored(before)
	d := e.deployment()
	if !d.Spec.Paused || d.Labels[v1beta1.LabelHold] != "" || d.Annotations[v1beta1.AnnotationHeld] != "" {
		t.Errorf("the Deployment is left with paused=%v, labels %v, annotations %v", d.Spec.Paused, d.Labels, d.Annotations)
	}
	if n := len(e.podsOf(revision)); n != 0 {
		t.Errorf("%d canary pods are left", n)
	}
	e.told(v1beta1.ReasonDetached)
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	e := newEnv(t)
	e.create(&v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"}, Spec: v1beta1.CanarySpec{Target: v1beta1.TargetReference{Name: "checkout"}}})
	e.start()
	attached := func(reason, part string) {
		t.Helper()
		e.eventually(reason, func(c *v1beta1.Canary) bool {
			a := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionAttached)
			return a != nil && a.Reason == reason && strings.Contains(a.Message, part)
		})
	}
	attached(v1beta1.ReasonTargetNotFound, `Deployment "checkout"`)
	e.create(deployment(e.namespace, "v1", 1))
	attached(v1beta1.ReasonServiceNotFound, "spec.service")
	service := func(name string) {
		e.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: name}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "checkout"}, Ports: []corev1.ServicePort{{Port: 80}},
		}})
	}
	service("checkout")
	attached(v1beta1.ReasonRouteNotFound, `"checkout"`)
	service("legacy")
	route := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(routeYAML), &route.Object); err != nil {
		t.Fatal(err)
	}
	route.SetNamespace(e.namespace)
	e.create(route)
	attached(v1beta1.ReasonServiceAmbiguous, `"checkout", "legacy"`)
	c := e.canary()
	c.Spec.Service = "checkout"
	if err := server.client.Update(e.ctx, c); err != nil {
		t.Fatal(err)
	}
	e.phase(v1beta1.PhaseIdle)
	attached(v1beta1.ReasonAttached, "")
	e.command("dance")
	e.eventually("the command is taken away", func(c *v1beta1.Canary) bool {
		return c.Annotations[v1beta1.AnnotationCommand] == "" && c.Status.HandledCommand == ""
	})
	e.told(v1beta1.ReasonCommandRefused)
}
