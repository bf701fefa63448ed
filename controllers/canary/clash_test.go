// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

// gated makes the first step wait for a person.
func gated(c *v1beta1.Canary) { c.Spec.Steps[0].Approval = true }

// says waits for a sentence in the Canary's Ready condition.
func (e *env) says(reason, part string) {
	e.Helper()
	e.eventually(reason+" with "+part, func(c *v1beta1.Canary) bool {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady)
		return ready != nil && ready.Reason == reason && strings.Contains(ready.Message, part)
	})
}

func (e *env) done() {
	e.Helper()
	e.eventually("the end", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release != nil && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
}

// rules replaces the backends of the route.
func (e *env) rules(yamlRules string) {
	e.Helper()
	var spec []any
	if err := yaml.Unmarshal([]byte(yamlRules), &spec); err != nil {
		e.Fatal(err)
	}
	for {
		current := e.route()
		current.Object["spec"].(map[string]any)["rules"] = spec
		err := server.client.Update(e.ctx, current)
		if err == nil {
			return
		}
		if !raced(err) {
			e.Fatal(err)
		}
	}
}

func TestASecondCanaryOfOneTargetLeavesTheFirstAlone(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	service, route := &corev1.Service{}, e.route()
	e.get(service, "checkout")
	still := func(when string) {
		t.Helper()
		time.Sleep(time.Second)
		now := &corev1.Service{}
		e.get(now, "checkout")
		if now.ResourceVersion != service.ResourceVersion || e.route().GetGeneration() != route.GetGeneration() {
			t.Errorf("%s: the first one's release was written over: selector %v, %v", when, now.Spec.Selector, weightsOf(e.route()))
		}
	}
	other := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "other"}, Spec: v1beta1.CanarySpec{Target: v1beta1.TargetReference{Name: "checkout"}}}
	e.create(other)
	e.eventually("the refusal", func(*v1beta1.Canary) bool {
		e.get(other, "other")
		ready := meta.FindStatusCondition(other.Status.Conditions, v1beta1.ConditionReady)
		return ready != nil && ready.Reason == v1beta1.ReasonTargetTaken
	})
	still("beside another Canary")
	if err := server.client.Delete(e.ctx, other); err != nil {
		t.Fatal(err)
	}
	e.eventually("the other one's end", func(*v1beta1.Canary) bool {
		return server.client.Get(e.ctx, client.ObjectKeyFromObject(other), other) != nil
	})
	still("after another Canary was deleted")
	e.command("promote")
	e.done()
}

func TestTheMarkOfACanaryThatIsGoneDoesNotKeepTheTarget(t *testing.T) {
	e := newEnv(t)
	e.shop(1, nil)
	d := e.deployment()
	// A patch of this label alone: the stand-in for the kubelet writes the Deployment meanwhile.
	marked := client.MergeFrom(d.DeepCopy())
	d.Labels = map[string]string{v1beta1.LabelHold: "gone"}
	if err := server.client.Patch(e.ctx, d, marked); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.phase(v1beta1.PhaseIdle)
	if got := e.deployment().Labels[v1beta1.LabelHold]; got != "checkout" {
		t.Errorf("the Deployment is marked for %q", got)
	}
}

func TestTrafficIsTakenBackWithoutTheService(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	service := &corev1.Service{}
	e.get(service, "checkout")
	if err := server.client.Delete(e.ctx, service); err != nil {
		t.Fatal(err)
	}
	e.says(v1beta1.ReasonServiceNotFound, "checkout")
	e.command("abort")
	e.phase(v1beta1.PhaseRolledBack)
	if all := strings.Join(weightsOf(e.route()), " "); strings.Contains(all, "checkout-canary") || recordOf[routeRecord](e.route(), "checkout") != nil {
		t.Errorf("the route still carries the canary: %s", all)
	}
}

func TestLongNames(t *testing.T) {
	e := newEnv(t)
	e.shop(2, nil)
	name := strings.Repeat("long-name-", 6) + "end" // 63, as long as a Service's may be
	d := deployment(e.namespace, "v1", 2)
	d.Name = name
	d.Spec.Selector.MatchLabels["app"], d.Spec.Template.Labels["app"] = "long", "long"
	e.create(d)
	e.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "long"}, Ports: []corev1.ServicePort{{Port: 80}},
	}})
	c := e.canary()
	if err := server.client.Delete(e.ctx, c); err != nil {
		t.Fatal(err)
	}
	e.rules("- backendRefs: [{name: " + name + ", port: 80}]")
	next := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout"}, Spec: c.Spec}
	next.Spec.Target.Name = name
	e.create(next)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	body := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"v2"}]}}}}`
	if err := server.client.Patch(e.ctx, d, client.RawPatch(types.StrategicMergePatchType, []byte(body))); err != nil {
		t.Fatal(err)
	}
	e.done()
	if got := weightsOf(e.route()); len(got) != 1 || got[0] != name+"=1" {
		t.Errorf("the route is left as %q", got)
	}
}

// A rule of the user's own may lead testers to the canary's Service.
func TestAUsersRuleToTheCanaryStays(t *testing.T) {
	e := newEnv(t)
	e.shop(2, nil)
	e.rules(`
- backendRefs: [{name: checkout, port: 80}]
- matches: [{headers: [{name: x-canary, value: "1"}]}]
  backendRefs: [{name: checkout-canary, port: 80}]`)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.done()
	if got := strings.Join(weightsOf(e.route()), ", "); got != "checkout=1, checkout-canary=1" {
		t.Errorf("the route is left as %q", got)
	}
	e.eventually("a complete Deployment", func(*v1beta1.Canary) bool {
		d := e.deployment()
		return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == 2 && d.Status.AvailableReplicas == 2 && d.Status.Replicas == 2
	})
	e.atRest()
}

func TestARouteThatIsLedElsewhereInTheMiddle(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	e.rules("- backendRefs: [{name: elsewhere, port: 80}]")
	e.says(v1beta1.ReasonRouteNotFound, "names Service")
	e.command("abort")
	e.phase(v1beta1.PhaseRolledBack)
	if r := e.route(); recordOf[routeRecord](r, "checkout") != nil || strings.Join(weightsOf(r), "") != "elsewhere=1" {
		t.Errorf("the route is left as %v with %v", weightsOf(r), r.GetAnnotations())
	}
}

// What the API server refuses is told where the user looks.
func TestWhatCannotBeWrittenIsSaid(t *testing.T) {
	e := newEnv(t)
	e.shop(1, nil)
	full := "- backendRefs:\n  - {name: checkout, port: 80}\n"
	for _, c := range "abcdefghijklmno" {
		full += "  - {name: svc-" + string(c) + ", port: 80}\n"
	}
	e.rules(full)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.eventually("the API server's words", func(c *v1beta1.Canary) bool {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady)
		return ready != nil && strings.Contains(ready.Message, "16") && strings.Contains(ready.Message, "backendRefs")
	})
	e.told(v1beta1.ReasonWriteFailed)
}

// Two Canaries whose Services stand in one rule, both with a new version at the
// same moment: one after the other, and each gets its own weights back.
func TestTwoReleasesThroughOneRule(t *testing.T) {
	e := newEnv(t)
	e.shop(1, nil)
	d := deployment(e.namespace, "v1", 1)
	d.Name = "cart"
	d.Spec.Selector.MatchLabels["app"], d.Spec.Template.Labels["app"] = "cart", "cart"
	e.create(d)
	e.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "cart"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "cart"}, Ports: []corev1.ServicePort{{Port: 80}},
	}})
	e.rules("- backendRefs: [{name: checkout, port: 80, weight: 2}, {name: cart, port: 80}]")
	other := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "cart"}, Spec: e.canary().Spec}
	other.Spec.Target.Name = "cart"
	e.create(other)
	e.start()
	cart := func(ok func(v1beta1.CanaryStatus) bool) func(*v1beta1.Canary) bool {
		return func(*v1beta1.Canary) bool { e.get(other, "cart"); return ok(other.Status) }
	}
	e.phase(v1beta1.PhaseIdle)
	e.eventually("cart at rest", cart(func(s v1beta1.CanaryStatus) bool { return s.Phase == v1beta1.PhaseIdle }))
	body := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"v2"}]}}}}`
	for _, o := range []client.Object{d, e.deployment()} {
		if err := server.client.Patch(e.ctx, o, client.RawPatch(types.StrategicMergePatchType, []byte(body))); err != nil {
			t.Fatal(err)
		}
	}
	at := e.route().GetGeneration()
	e.done()
	e.eventually("cart's end", cart(func(s v1beta1.CanaryStatus) bool {
		return s.Phase == v1beta1.PhaseIdle && s.Release != nil && s.Release.Outcome == v1beta1.OutcomeSucceeded
	}))
	if got := strings.Join(weightsOf(e.route()), ", "); got != "checkout=2 cart=1" {
		t.Errorf("the route is left as %q", got)
	}
	// Added at 0, three steps, restored: 5 writes each.
	if n := e.route().GetGeneration() - at; n > 10 {
		t.Errorf("the route was written %d times for two releases of 5 changes", n)
	}
}
