// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// TestInvariants runs releases in the model world under random users, faults,
// crashes and dropped actions, checks the invariants of the package comment
// after each event, then leaves the world alone and checks that it comes to rest.
func TestInvariants(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 150
	}
	ends, counts := map[string]int{}, 0
	for seed := range seeds {
		h := &harness{t: t, seed: seed, world: newWorld(seed)}
		h.run()
		if t.Failed() {
			t.Fatalf("seed %d, last events:\n%s", seed, strings.Join(h.world.log[max(0, len(h.world.log)-40):], "\n"))
		}
		counts += h.counts
		for end, n := range h.ends {
			ends[end] += n
		}
	}
	t.Log("releases by outcome:", ends)
	if counts == 0 {
		t.Error("nothing is ever counted")
	}
	for _, o := range []v1beta1.Outcome{
		v1beta1.OutcomeSucceeded, v1beta1.OutcomeRolledBack, v1beta1.OutcomeAborted, v1beta1.OutcomeSuperseded, v1beta1.OutcomeReverted,
	} {
		if ends[string(o)] == 0 {
			t.Errorf("no release ended with %s: the test does not reach it", o)
		}
	}
}

type harness struct {
	t     *testing.T
	seed  uint64
	world *world
	// closed is the last attempt that was closed where somebody can see it.
	closed int64
	ends   map[string]int
	nextT  int
	edits  int
	counts int
	// wild is true once the user did something that takes the stable pods away
	// by itself: then only liveness and restoration are promised.
	wild bool
	// forced is true once a person ended a step without a verdict.
	forced bool
}

func (h *harness) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Errorf("seed %d: "+format, append([]any{h.seed}, args...)...)
}

func (h *harness) run() {
	w := h.world
	h.ends = map[string]int{}
	h.quiesce()
	for range 250 {
		if h.t.Failed() || w.gone {
			return
		}
		h.event()
		h.traffic()
		h.counted()
	}
	// The faults end, the user leaves: everything must come to rest.
	w.stuck, w.unknown, w.crashing = false, false, map[string]bool{}
	w.canary.Spec.Suspend = false
	for i := range w.canary.Spec.Steps {
		w.canary.Spec.Steps[i].Approval = false
	}
	if w.twinThere == Foreign {
		w.twinThere = Absent
	}
	if w.route == nil {
		w.route = &route{user: "v1", percent: Detached}
	}
	if w.dep == nil {
		h.recreate()
	}
	if w.dep.paused && !w.dep.held {
		w.update(func(d *deployment) { d.paused = false })
	}
	if r := w.canary.Status.Release; r != nil && r.Paused {
		w.canary.Annotations[v1beta1.AnnotationCommand] = "resume"
		w.version++
	}
	h.quiesce()
	h.atRest()
}

// quiesce lets the world run without user or faults until nothing moves.
func (h *harness) quiesce() {
	w := h.world
	quiet := 0
	for range 3000 {
		if h.t.Failed() || w.gone {
			return
		}
		before := fmt.Sprint(w.observeAll())
		d := h.decide(-1, -1)
		for range 3 {
			w.deploymentController()
			w.kubelet()
			w.endpoints()
			w.gateway()
		}
		h.traffic()
		w.now = w.now.Add(500 * time.Millisecond)
		if before == fmt.Sprint(w.observeAll()) && len(d.Actions) == 0 && d.After == 0 && !w.pending() {
			if quiet++; quiet > 20 {
				return
			}
			continue
		}
		quiet = 0
		if d.After > time.Minute {
			w.now = w.now.Add(d.After / 2)
		}
	}
	h.fail("I8: the world does not come to rest: %s", w.canary.Status.Phase)
}

// pending is true while randomness of the model, not the operator, is waited for.
func (w *world) pending() bool { return Measuring(w.canary) }

func (w *world) observeAll() []any {
	out := []any{w.canary.Status.Phase, w.service, w.twin, w.proxies, w.scaler}
	if w.dep != nil {
		out = append(out, *w.dep)
	}
	if w.route != nil {
		out = append(out, w.route.percent, w.route.generation, w.route.programmed)
	}
	for _, rs := range w.sets {
		out = append(out, *rs)
	}
	return out
}

// atRest checks I8 and I9.
func (h *harness) atRest() {
	w := h.world
	if h.t.Failed() || w.gone {
		return
	}
	s := w.canary.Status
	if s.Phase != v1beta1.PhaseIdle && s.Phase != v1beta1.PhaseRolledBack {
		h.fail("I8: came to rest in phase %s: %v", s.Phase, s.Conditions)
	}
	switch {
	case w.route.percent != Detached || w.route.traces:
		h.fail("I8: the route is not restored")
	case w.service.hash != "" || w.service.traces:
		h.fail("I8: the Service is not restored")
	case w.twinThere != Absent:
		h.fail("I8: the canary Service is left")
	case w.scaler.held:
		h.fail("I8: the autoscaler is not restored")
	case len(w.observe().canaries()) > 0:
		h.fail("I8: a canary ReplicaSet is left")
	case s.Weight != 0:
		h.fail("the status says weight %d at rest", s.Weight)
	}
	if s.Phase == v1beta1.PhaseIdle {
		if w.dep.paused {
			h.fail("I8: the Deployment stays paused at rest")
		}
		if serving := w.observe().serving(); serving == nil || serving.Template != w.dep.template {
			h.fail("I8: the newest template does not serve in phase Idle")
		}
		if w.bad[w.dep.template] && !h.wild && !h.forced {
			h.fail("a version with a failing verdict became the stable one")
		}
	}
}

// decide runs the operator once and checks what it decided.
func (h *harness) decide(crash, fail int) Decision {
	w := h.world
	before := w.canary.DeepCopy()
	seen := w.observe()
	exposed := seen.exposed()
	in := Input{Canary: w.canary, Seen: seen, Now: w.now}
	if a, b := Decide(in), Decide(in); cmp.Diff(a, b) != "" {
		h.fail("I1: two decisions on one input: %s", cmp.Diff(a, b))
	}
	if diff := cmp.Diff(before, w.canary); diff != "" {
		h.fail("I1: the input was modified: %s", diff)
	}
	calm := h.calm(seen)
	d := w.pass(crash, fail)
	h.judge(before.Status, d, exposed, calm)
	if s := w.canary.Status.Release; s != nil && w.canary.Status.Phase != before.Status.Phase {
		if s.Outcome != "" && (before.Status.Release == nil || before.Status.Release.Outcome != s.Outcome || before.Status.Release.Attempt != s.Attempt) {
			h.ends[string(s.Outcome)]++
		}
	}
	return d
}

// calm is true when nothing at all is going on.
func (h *harness) calm(seen Observation) bool {
	c, serving := h.world.canary, seen.serving()
	_, commanded := c.Annotations[v1beta1.AnnotationCommand]
	return c.Status.Phase == v1beta1.PhaseIdle && c.DeletionTimestamp == nil && len(c.Finalizers) > 0 && !commanded &&
		seen.Target != nil && seen.Target.Label != "" && !seen.Target.Paused && serving != nil && serving.Template == seen.Target.Template && !seen.traces()
}

func (h *harness) judge(was v1beta1.CanaryStatus, d Decision, exposed, calm bool) {
	s, w := d.Status, h.world
	r := s.Release
	asked := int32(-1)
	for _, a := range d.Actions {
		if e, ok := a.(EnsureWeights); ok {
			asked = e.Percent
		}
	}
	if s.Phase == v1beta1.PhaseStepping && s.Weight > r.Steps[r.StepIndex].Weight {
		h.fail("I2: weight %d in the step with %d", s.Weight, r.Steps[r.StepIndex].Weight)
	}
	if asked > s.Weight {
		h.fail("I2: %d is asked for, the status says %d", asked, s.Weight)
	}
	if asked > 0 && r.Attempt <= h.closed {
		h.fail("I3: attempt %d gets %d %% after it was closed", r.Attempt, asked)
	}
	if s.Phase == v1beta1.PhaseRollingBack && was.Phase != v1beta1.PhaseRollingBack && was.Phase != v1beta1.PhaseRolledBack {
		if s.Weight != 0 || exposed && w.canary.DeletionTimestamp == nil && asked != 0 {
			h.fail("I4: the decision to take the traffic back asks for %d", asked)
		}
		recorded := w.canary.Status.Phase == v1beta1.PhaseRollingBack && w.canary.Status.Release.Attempt == r.Attempt
		marked := w.route != nil && w.route.closed != nil && w.route.closed.Attempt == r.Attempt
		if recorded || marked {
			h.closed = r.Attempt
		}
	}
	if asked > 0 && asked > was.Weight {
		o := w.observe()
		need := replicasFor(asked, o.Target.Replicas)
		if rs := o.find(r.Revision); rs == nil || rs.Available < need || o.CanaryService.Ready < need {
			h.fail("I5: %d %% is asked for and %d pods are not ready", asked, need)
		}
	}
	if calm && (len(d.Actions) > 0 || d.After > 0 || s.Phase != v1beta1.PhaseIdle) {
		h.fail("I9: at rest, and %s: %v after %s", s.Phase, d.Actions, d.After)
	}
	if len(s.Conditions) > 7 || r != nil && len(r.Journal) > journalLength {
		h.fail("the status grows without bounds")
	}
}

// traffic checks where the proxies send requests right now.
func (h *harness) traffic() {
	w := h.world
	if w.dep == nil || h.wild || w.gone || w.overdue || !w.proxies.there || w.dep.replicas == 0 {
		return
	}
	stable, canary := 100-w.proxies.percent, w.proxies.percent
	count := func(m map[string]int32) (n int32) {
		for _, k := range m {
			n += k
		}
		return n
	}
	if stable > 0 && count(w.service.ready) == 0 && !w.faulted {
		h.fail("I6: the stable Service has %d %% of the traffic and no endpoints (phase %s)", stable, w.canary.Status.Phase)
	}
	if canary > 0 && count(w.twin.ready) == 0 && !w.faulted {
		h.fail("I6: the canary Service has %d %% of the traffic and no endpoints (phase %s)", canary, w.canary.Status.Phase)
	}
	s := w.canary.Status
	early := s.Phase == v1beta1.PhaseStarting || s.Phase == v1beta1.PhaseStepping || s.Phase == v1beta1.PhasePromoting && !handedOver(s.Release.Promotion)
	if early {
		if rs := w.set(s.Release.Stable); rs != nil && rs.owner == OwnerTarget && rs.readyPods() == 0 {
			h.fail("I7: the stable version has no pod in phase %s", s.Phase)
		}
	}
}

// counted checks I11.
func (h *harness) counted() {
	w := h.world
	if w.gone || !w.proxies.there || !Counting(w.canary, w.observe()) {
		return
	}
	if h.counts++; w.proxies.percent != w.canary.Status.Weight {
		h.fail("I11: it is counted at %d %% while the proxies serve %d", w.canary.Status.Weight, w.proxies.percent)
	}
}

// event makes one random thing happen.
func (h *harness) event() {
	w := h.world
	w.now = w.now.Add(time.Duration(w.rand.IntN(800)) * time.Millisecond)
	switch n := w.rand.IntN(100); {
	case n < 40:
		crash, fail := -1, -1
		if w.rand.IntN(5) == 0 {
			crash = w.rand.IntN(4)
		}
		if w.rand.IntN(8) == 0 {
			fail = w.rand.IntN(3)
		}
		h.decide(crash, fail)
	case n < 52:
		w.deploymentController()
	case n < 68:
		w.kubelet()
	case n < 78:
		w.endpoints()
	case n < 88:
		w.gateway()
	case n < 90:
		w.now = w.now.Add(time.Duration(w.rand.IntN(20)) * time.Second)
	default:
		h.user()
	}
}

func (h *harness) template() string {
	h.nextT++
	name := fmt.Sprintf("t%d", h.nextT)
	h.world.bad[name] = h.world.rand.IntN(4) == 0
	return name
}

// user does something, or something happens to the cluster.
func (h *harness) user() {
	w := h.world
	command := func(c string) {
		w.canary.Annotations[v1beta1.AnnotationCommand] = c
		w.version++
	}
	n := w.rand.IntN(100)
	w.logf("user %d", n)
	switch {
	case n < 22:
		if w.dep != nil && !w.dep.held {
			w.update(func(d *deployment) { d.template = h.template() })
		}
	case n < 26:
		w.update(func(d *deployment) { d.template = h.template() })
	case n < 29: // kubectl rollout undo, or a revert in Git, to any version
		w.update(func(d *deployment) { d.template = fmt.Sprintf("t%d", w.rand.IntN(h.nextT+1)) })
	case n < 33: // kubectl replace from Git: drops what is not in the file
		w.update(func(d *deployment) { d.paused, d.held, d.label = false, false, "" })
	case n < 38:
		command("abort: no reason")
	case n < 44:
		h.forced = true
		command("promote")
	case n < 46:
		command("promote-full")
	case n < 49:
		command("retry")
	case n < 51:
		command("pause")
	case n < 54:
		command("resume")
	case n < 55:
		command("dance")
	case n < 62:
		if w.dep != nil { // kubectl scale: the policy does not see it
			w.dep.replicas = int32(1 + w.rand.IntN(6))
			w.dep.version++
		}
	case n < 72:
		h.editRoute()
	case n < 76:
		w.stuck = !w.stuck
	case n < 79:
		w.unknown = !w.unknown
	case n < 83:
		for _, rs := range w.sets {
			if rs.owner == OwnerCanary {
				w.crashing[rs.hash] = !w.crashing[rs.hash]
				w.faulted = true
			}
		}
	case n < 85:
		w.canary.Spec.Suspend = !w.canary.Spec.Suspend
		w.version++
	case n < 88:
		w.canary.Spec.Steps = []v1beta1.Step{{Weight: int32(1 + w.rand.IntN(40)), Hold: seconds(1)}, {Weight: int32(45 + w.rand.IntN(40))}, {Weight: 100}}
		w.canary.Generation++
		w.version++
	case n < 90:
		h.wild = true // from here the user rolls natively
		w.update(func(d *deployment) { d.bypass, d.template, d.paused, d.held = true, h.template(), false, false })
	case n < 92:
		h.wild = true
		if w.dep != nil {
			w.dep.replicas = 0
			w.dep.version++
		}
	case n < 93:
		h.wild = true
		w.dep = nil
		w.sets = slices.DeleteFunc(w.sets, func(rs *replicaSet) bool { return rs.owner == OwnerTarget })
	case n < 94:
		if w.dep == nil {
			h.recreate()
		}
	case n < 95:
		switch w.twinThere {
		case Absent:
			w.twinThere = Foreign
		case Foreign:
			w.twinThere = Absent
		}
	case n < 97:
		w.service.hash, w.service.traces = "", false // kubectl replace of the Service
	}
}

func (h *harness) recreate() {
	h.world.dep = &deployment{uid: 2 + h.nextT, template: h.template(), replicas: 2}
}

func (h *harness) editRoute() {
	w := h.world
	h.edits++
	switch r := w.route; {
	case r == nil:
		w.route = &route{user: "again", percent: Detached}
	case w.rand.IntN(8) == 0:
		w.route = nil
		w.proxies = proxies{}
	case w.rand.IntN(2) == 0: // re-applied from Git: the canary is dropped
		r.percent = Detached
		r.generation++
		r.version++
		r.user += "+"
	default: // an edit elsewhere in the route
		r.generation++
		r.version++
		r.user += "-"
	}
}

// TestDelete removes the Canary at any moment and checks what the user is left with.
func TestDelete(t *testing.T) {
	for seed := range uint64(400) {
		h := &harness{t: t, seed: seed, world: newWorld(seed), ends: map[string]int{}}
		w := h.world
		h.quiesce()
		w.update(func(d *deployment) { d.template = h.template() })
		for range w.rand.IntN(200) {
			if n := w.rand.IntN(30); n == 0 {
				h.decide(w.rand.IntN(4), -1)
			} else {
				h.decide(-1, -1)
			}
			w.deploymentController()
			w.kubelet()
			w.endpoints()
			w.gateway()
			h.traffic()
			w.now = w.now.Add(300 * time.Millisecond)
		}
		at := w.canary.Status.Phase
		w.canary.DeletionTimestamp = &metav1.Time{Time: w.now}
		w.version++
		if w.rand.IntN(3) == 0 {
			w.stuck = true
		}
		for range 400 {
			if w.gone {
				break
			}
			h.decide(-1, w.rand.IntN(20)-17)
			w.deploymentController()
			w.kubelet()
			w.endpoints()
			w.gateway()
			if !w.stuck {
				h.traffic()
			}
			w.now = w.now.Add(300 * time.Millisecond)
		}
		switch {
		case !w.gone:
			h.fail("deleted in %s: the finalizer stays", at)
		case w.route.percent != Detached || w.route.traces || w.service.hash != "" || w.twinThere != Absent || w.scaler.held:
			h.fail("deleted in %s: something is left", at)
		case w.dep.label != "" || w.dep.held:
			h.fail("deleted in %s: the Deployment is still marked", at)
		}
		if serving := w.observe().serving(); !t.Failed() && w.dep.paused != (serving.Template != w.dep.template) {
			h.fail("deleted in %s: paused=%v, serving %s, template %s", at, w.dep.paused, serving.Template, w.dep.template)
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
		}
	}
}
