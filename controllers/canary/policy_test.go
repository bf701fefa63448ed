// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

// TestTheHoldPolicy applies the chart's policy to a real API server.
func TestTheHoldPolicy(t *testing.T) {
	annotate := func(d *appsv1.Deployment, key string) {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[key] = "true"
	}
	change := func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" }
	hold := func(d *appsv1.Deployment) { d.Spec.Paused = true; annotate(d, v1beta1.AnnotationHeld) }
	release := func(d *appsv1.Deployment) { d.Spec.Paused = false; delete(d.Annotations, v1beta1.AnnotationHeld) }
	none := func(*appsv1.Deployment) {}
	for _, c := range []struct {
		name         string
		unlabelled   bool
		was, update  func(*appsv1.Deployment)
		operator     bool
		paused, held bool
	}{
		{name: "holds a changed template", was: none, update: change, paused: true, held: true},
		{name: "holds a restart", was: none, update: func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "now"}
		}, paused: true, held: true},
		{name: "does not hold another change", was: none, update: func(d *appsv1.Deployment) { *d.Spec.Replicas = 2; annotate(d, "x") }},
		{name: "does not hold a Deployment without the label", unlabelled: true, was: none, update: change},
		{name: "does not hold with the bypass annotation", was: none, update: func(d *appsv1.Deployment) { change(d); annotate(d, v1beta1.AnnotationBypass) }},
		{name: "holds an update that takes the label off", was: none, update: func(d *appsv1.Deployment) { change(d); d.Labels = nil }, paused: true, held: true},
		{name: "keeps a held Deployment held when it is replaced", was: hold, update: func(d *appsv1.Deployment) { release(d); d.Labels = nil }, paused: true, held: true},
		{name: "keeps the mark when only that is dropped", was: hold, update: func(d *appsv1.Deployment) { d.Annotations = nil }, paused: true, held: true},
		{name: "keeps a held Deployment held over a newer template", was: hold, update: change, paused: true, held: true},
		{name: "lets a held Deployment go with the bypass annotation", was: hold, update: func(d *appsv1.Deployment) { release(d); annotate(d, v1beta1.AnnotationBypass) }},
		{name: "lets Headgate unpause", was: hold, update: release, operator: true},
		{name: "leaves a pause of the user's alone", was: func(d *appsv1.Deployment) { d.Spec.Paused = true }, update: change, paused: true},
		{name: "holds when the user resumes: the template may have changed meanwhile", was: func(d *appsv1.Deployment) { d.Spec.Paused = true }, update: func(d *appsv1.Deployment) { d.Spec.Paused = false }, paused: true, held: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			d := deployment(e.namespace, "v1", 0)
			if !c.unlabelled {
				d.Labels = map[string]string{v1beta1.LabelHold: "checkout"}
			}
			c.was(d)
			e.create(d)
			user := server.client
			if c.operator {
				cfg := rest.CopyConfig(server.config)
				cfg.Impersonate = rest.ImpersonationConfig{UserName: operatorUser}
				var err error
				if user, err = client.New(cfg, client.Options{Scheme: server.scheme}); err != nil {
					t.Fatal(err)
				}
			}
			for {
				d = e.deployment()
				before := d.DeepCopy()
				c.update(d)
				err := user.Patch(e.ctx, d, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
				if err == nil {
					break
				}
				if !apierrors.IsConflict(err) {
					t.Fatal(err)
				}
			}
			d = e.deployment()
			_, held := d.Annotations[v1beta1.AnnotationHeld]
			if d.Spec.Paused != c.paused || held != c.held {
				t.Errorf("paused=%v held=%v, want %v and %v", d.Spec.Paused, held, c.paused, c.held)
			}
			if c.held && d.Labels[v1beta1.LabelHold] != "checkout" {
				t.Error("the label is lost")
			}
		})
	}
}

// TestTheAPIRefusesWithASentence sends each kind of bad Canary to a real API server.
func TestTheAPIRefusesWithASentence(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct{ name, spec, sentence string }{
		{"a last step below 100", `{target: {name: a}, steps: [{weight: 5}]}`, "the last step must be {weight: 100}"},
		{"weights that do not rise", `{target: {name: a}, steps: [{weight: 25}, {weight: 5}, {weight: 100}]}`, "weights must rise from step to step"},
		{"a bake before the last step", `{target: {name: a}, steps: [{weight: 5, bake: 1m}, {weight: 100}]}`, "bake belongs to the step with weight 100"},
		{"a hold on the last step", `{target: {name: a}, steps: [{weight: 100, hold: 1m}]}`, "hold belongs to steps below weight 100"},
		{"a hold that is no duration", `{target: {name: a}, steps: [{weight: 5, hold: 1d}, {weight: 100}]}`, "write a duration such as 30s, 2m or 1h30m"},
		{"a negative hold", `{target: {name: a}, steps: [{weight: 5, hold: -1m}, {weight: 100}]}`, "write a duration such as 30s, 2m or 1h30m"},
		{"a deadline too short for pods", `{target: {name: a}, progressDeadline: 5s}`, "write a duration of at least 10s"},
		{"a negative keepFailed", `{target: {name: a}, keepFailed: -1m}`, "write a duration such as 30s"},
		{"an interval below a second", `{target: {name: a}, analysis: {interval: 10ms}}`, "write a duration of at least 1s"},
		{"a metric of two sources", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: Latency, prometheus: {query: up}, threshold: {max: 1}}]}}`, "give exactly one of gateway (ErrorRate, Latency or Answers), prometheus, http, job, webhook and template"},
		{"a metric of no source", `{target: {name: a}, analysis: {metrics: [{name: m, threshold: {max: 1}}]}}`, "give exactly one of gateway"},
		{"a quantile of errors", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: ErrorRate, quantile: "0.9"}]}}`, "quantile belongs to gateway: Latency"},
		{"tolerance and threshold", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: Latency, tolerance: {relative: 1%}, threshold: {max: 1s}}]}}`, "not both"},
		{"a query with nothing to compare", `{target: {name: a}, analysis: {metrics: [{name: m, prometheus: {query: up}}]}}`, "a query needs tolerance"},
		{"a query that does not tell the versions apart", `{target: {name: a}, analysis: {metrics: [{name: m, prometheus: {query: up}, tolerance: {relative: 1%}}]}}`, "must say which version it measures"},
		{"goodEnough of one number", `{target: {name: a}, analysis: {metrics: [{name: m, prometheus: {query: up}, threshold: {max: 1}, goodEnough: {relative: 1%}}]}}`, "goodEnough belongs to what is counted by requests"},
		{"misses of counters", `{target: {name: a}, analysis: {metrics: [{name: m, prometheus: {counters: {bad: a, total: b}}, misses: 2}]}}`, "remove misses"},
		{"a query beside counters", `{target: {name: a}, analysis: {metrics: [{name: m, prometheus: {query: up, counters: {bad: a, total: b}}, threshold: {max: 1}}]}}`, "give exactly one of query (one number), counters (bad and total) and histogram"},
		{"a body with GET", `{target: {name: a}, analysis: {metrics: [{name: m, http: {url: "http://x", body: "{}", value: body}, threshold: {max: 1}}]}}`, "body is only sent with method: POST"},
		{"a password and a token", `{target: {name: a}, analysis: {metrics: [{name: m, webhook: {url: "http://x", basicAuth: {name: a}, bearerToken: {name: a, key: b}}}]}}`, "give basicAuth or bearerToken, not both"},
		{"a header of two values", `{target: {name: a}, analysis: {metrics: [{name: m, webhook: {url: "http://x", headers: [{name: a, value: b, valueFrom: {name: a, key: b}}]}}]}}`, "give exactly one of value and valueFrom"},
		{"a job with a threshold", `{target: {name: a}, analysis: {metrics: [{name: m, job: {spec: {}}, threshold: {max: 1}}]}}`, "say pass or fail by themselves"},
		{"an empty tolerance", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: Latency, tolerance: {}}]}}`, "give relative (20%)"},
		{"an empty threshold", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: Latency, threshold: {}}]}}`, "give min, max or both"},
		{"an amount with an unknown unit", `{target: {name: a}, analysis: {metrics: [{name: m, gateway: Latency, threshold: {max: 3parsecs}}]}}`, "write a number with an optional unit"},
		{"another kind of workload", `{target: {kind: StatefulSet, name: a}}`, "Deployment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "headgate.dev/v1beta1", "kind": "Canary"}}
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(c.spec), &spec); err != nil {
				t.Fatal(err)
			}
			o.Object["spec"] = spec
			o.SetNamespace(e.namespace)
			o.SetGenerateName("bad-")
			err := server.client.Create(e.ctx, o)
			if err == nil || !strings.Contains(err.Error(), c.sentence) {
				t.Errorf("got %v, want a refusal with %q", err, c.sentence)
			}
		})
	}
	e.create(&v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"}, Spec: v1beta1.CanarySpec{Target: v1beta1.TargetReference{Name: "a"}}})
	c := e.canary()
	c.Spec.Target.Name = "b"
	if err := server.client.Update(e.ctx, c); err == nil || !strings.Contains(err.Error(), "the target cannot change") {
		t.Errorf("changing the target: %v", err)
	}
	long := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: strings.Repeat("a", 64)}, Spec: v1beta1.CanarySpec{Target: v1beta1.TargetReference{Name: "a"}}}
	if err := server.client.Create(e.ctx, long); err == nil || !strings.Contains(err.Error(), "at most 63 characters") {
		t.Errorf("a long name: %v", err)
	}
}
