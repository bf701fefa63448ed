// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// roads are proxies that can be diverted. They complain when a diversion ends while a route may still send to
// the canary.
type roads struct {
	env  *env
	mu   sync.Mutex
	away map[string]string // canary Service → stable Service
	log  []string
	// last is what the operator that runs now works with.
	last *Diversions
}

// diversions are those of a new process: the proxies get what the routes say.
func (e *env) diversions() *Diversions {
	e.roads.mu.Lock()
	defer e.roads.mu.Unlock()
	clear(e.roads.away)
	e.roads.last = NewDiversions(e.roads)
	return e.roads.last
}

func (r *roads) Divert(from, to types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away[from.Name] = to.Name
	r.log = append(r.log, "divert "+from.Name)
}

func (r *roads) Restore(from types.NamespacedName) {
	route := r.env.route()
	if ok, _, why := served(route); !ok {
		r.env.Errorf("the diversion ends while the routes are not confirmed: %s", why)
	}
	for _, refs := range backendRefs(route) {
		for _, ref := range refs {
			if m := ref.(map[string]any); m["name"] == from.Name && weight(m) > 0 && len(refs) > 1 {
				r.env.Errorf("the diversion ends while a route gives the canary %d", weight(m))
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.away, from.Name)
	r.log = append(r.log, "restore "+from.Name)
}

func (r *roads) diverted() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.away)
}

// isAway waits until the canary is kept off the traffic, or is not.
func (e *env) isAway(want bool) {
	e.Helper()
	for deadline := time.Now().Add(patience); (e.roads.diverted()["checkout-canary"] == "checkout") != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf("away: %v, want the canary in it: %v", e.roads.diverted(), want)
		}
	}
}

// down refuses every write while it is on.
type down struct {
	next http.RoundTripper
	on   *atomic.Bool
	// each is called with every write of a route.
	each func()
}

func (d down) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/httproutes/") {
		d.each()
	}
	if r.Method != http.MethodGet && d.on.Load() {
		return nil, errors.New("connection refused")
	}
	return d.next.RoundTrip(r)
}

// TestTrafficIsTakenBackWithoutTheAPIServer: no write gets through from before the verdict on.
func TestTrafficIsTakenBackWithoutTheAPIServer(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	on := &atomic.Bool{}
	var closing, early atomic.Bool
	e.startWith(func(next http.RoundTripper) http.RoundTripper {
		return down{next, on, func() {
			if closing.CompareAndSwap(true, false) && len(e.roads.diverted()) == 0 { // the first one
				early.Store(true)
			}
		}}
	})
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.image("v2")
	e.weight(10)
	if away := e.roads.diverted(); len(away) > 0 {
		t.Errorf("%v is away at 10 %%", away)
	}
	on.Store(true)
	closing.Store(true)
	e.verdicts.say(e, func(v *verdicts) { v.bad[1] = true })
	e.isAway(true)
	time.Sleep(500 * time.Millisecond) // the pass is repeated meanwhile
	if !e.roads.last.keeps("checkout-canary") || e.canary().Status.Phase != v1beta1.PhaseStepping {
		t.Errorf("in phase %s, away: %v", e.canary().Status.Phase, e.roads.diverted())
	}
	if weights := fmt.Sprint(weightsOf(e.route())); !strings.Contains(weights, "checkout-canary") {
		t.Errorf("the route was written: %s", weights)
	}
	on.Store(false)
	e.phase(v1beta1.PhaseRolledBack)
	e.isAway(false)
	if early.Load() {
		t.Error("a route was written before the proxies were told")
	}
	e.eventually("the release is over", func(c *v1beta1.Canary) bool { return c.Status.Release.FinishedAt != nil })
	e.restored(before)
}

// keeps tells whether a Service is away for any Canary.
func (d *Diversions) keeps(service string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(slices.Collect(maps.Values(d.of)), func(at diversion) bool { return at.from.Name == service })
}

// TestAVerdictNeedsNoPass calls what measures calls, and then ends the release by that verdict, which nothing
// else has come to.
func TestAVerdictNeedsNoPass(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	c := e.weight(10)
	subject := analysis.Subject{
		Namespace: e.namespace, Canary: c.Name, Attempt: c.Status.Release.Attempt,
		StableVersion: analysis.Version{Service: "checkout"}, CanaryVersion: analysis.Version{Service: "checkout-canary"},
	}
	key := types.NamespacedName{Namespace: e.namespace, Name: c.Name}
	verdict := analysis.Verdict{Result: v1beta1.VerdictFail, Reason: v1beta1.ReasonMetricFailed, Why: "4 of 4 requests failed."}
	e.roads.last.Fail(subject, verdict)
	if away := e.roads.diverted(); away["checkout-canary"] != "checkout" {
		t.Fatalf("away: %v", away)
	}
	e.verdicts.answers <- key
	c = e.phase(v1beta1.PhaseRolledBack)
	if c.Status.Release.Outcome != v1beta1.OutcomeRolledBack || !strings.Contains(c.Status.Release.Message, verdict.Why) {
		t.Errorf("%s: %s", c.Status.Release.Outcome, c.Status.Release.Message)
	}
	e.isAway(false)
}

// TestADiversionLastsUntilTheGatewayConfirms aborts by hand while no gateway answers, and starts another release.
func TestADiversionLastsUntilTheGatewayConfirms(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	deaf.Store(true)
	defer deaf.Store(false)
	e.command(v1beta1.CommandAbort)
	e.phase(v1beta1.PhaseRollingBack)
	e.isAway(true)
	time.Sleep(500 * time.Millisecond)
	e.isAway(true)
	deaf.Store(false)
	e.phase(v1beta1.PhaseRolledBack)
	e.isAway(false)
	e.image("v3")
	e.weight(10)
	if away := e.roads.diverted(); len(away) > 0 {
		t.Errorf("the next release is diverted: %v", away)
	}
}

func TestADeletedCanaryIsTakenOffTheRoad(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	if err := server.client.Delete(e.ctx, e.canary()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		e.roads.mu.Lock()
		log := slices.Clone(e.roads.log)
		e.roads.mu.Unlock()
		if slices.Equal(log, []string{"divert checkout-canary", "restore checkout-canary"}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the proxies were told %v", log)
		}
	}
}

// ledger is a Diverter that nothing depends on.
type ledger map[string]string

func (l ledger) Divert(from, to types.NamespacedName) { l[from.String()] = to.Name }
func (l ledger) Restore(from types.NamespacedName)    { delete(l, from.String()) }

func TestDiversions(t *testing.T) {
	a, b := types.NamespacedName{Namespace: "shop", Name: "a"}, types.NamespacedName{Namespace: "shop", Name: "b"}
	web := backendPair{namespace: "shop", stable: "web", canary: "web-canary"}
	api := backendPair{namespace: "shop", stable: "api", canary: "api-canary"}
	none := analysis.Verdict{}
	for _, tt := range []struct {
		name   string
		happen func(*Diversions)
		want   ledger
	}{
		{"what was never begun ends", func(d *Diversions) { d.end(a) }, ledger{}},
		{"begun twice, it ends at once", func(d *Diversions) {
			d.begin(a, web, 0, none)
			d.begin(a, web, 0, none)
			d.end(a)
		}, ledger{}},
		{"one Service of two Canaries is away until both have ended", func(d *Diversions) {
			d.begin(a, web, 0, none)
			d.begin(b, web, 0, none)
			d.end(a)
		}, ledger{"shop/web-canary": "web"}},
		{"another Canary at rest ends nothing", func(d *Diversions) {
			d.begin(a, web, 0, none)
			d.end(b)
		}, ledger{"shop/web-canary": "web"}},
		{"another Service of the same Canary takes the place of the first", func(d *Diversions) {
			d.begin(a, web, 0, none)
			d.begin(a, api, 0, none)
		}, ledger{"shop/api-canary": "api"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ledger{}
			tt.happen(NewDiversions(got))
			if !maps.Equal(got, tt.want) {
				t.Errorf("away: %v, want %v", got, tt.want)
			}
		})
	}
	d := NewDiversions(ledger{})
	d.Fail(analysis.Subject{Namespace: "shop", Canary: "a", Attempt: 3}, analysis.Verdict{Result: v1beta1.VerdictFail})
	d.begin(a, web, 0, none)
	if v, ok := d.failed(a, 3); !ok || v.Result != v1beta1.VerdictFail {
		t.Errorf("the verdict of attempt 3 is %v %v", v, ok)
	}
	if _, ok := d.failed(a, 4); ok {
		t.Error("attempt 4 has the verdict of attempt 3")
	}
	var nobody *Diversions
	nobody.begin(a, web, 0, none)
	nobody.end(a)
	if _, ok := nobody.failed(a, 0); ok {
		t.Error("nobody has a verdict")
	}
}

// TestWhenADiversionEnds: never while a share may still be served.
func TestWhenADiversionEnds(t *testing.T) {
	route := func(reaches, programmed bool) []rollout.Route {
		return []rollout.Route{{Programmed: true}, {Reaches: reaches, Programmed: programmed}}
	}
	for _, tt := range []struct {
		name   string
		phase  v1beta1.Phase
		weight int32
		routes []rollout.Route
		want   bool
	}{
		{"a route sends to the canary", v1beta1.PhaseRollingBack, 0, route(true, true), false},
		{"none does, and one is not confirmed", v1beta1.PhaseRollingBack, 0, route(false, false), false},
		{"none does, and all are confirmed", v1beta1.PhaseRollingBack, 0, route(false, true), true},
		{"no route names the Service any more", v1beta1.PhaseRolledBack, 0, nil, true},
		{"somebody took the canary out in the middle of a step", v1beta1.PhaseStepping, 10, route(false, true), false},
		{"a step of nothing", v1beta1.PhaseStepping, 0, route(false, true), true},
		{"a release begins", v1beta1.PhaseStarting, 0, route(false, true), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &v1beta1.Canary{}
			c.Status.Phase, c.Status.Weight = tt.phase, tt.weight
			w := &world{canary: c, seen: rollout.Observation{Routes: tt.routes}}
			if got := w.settled(); got != tt.want {
				t.Errorf("settled: %v, want %v", got, tt.want)
			}
		})
	}
	unreadable := &world{canary: &v1beta1.Canary{}, seen: rollout.Observation{Problem: &rollout.Problem{}}}
	if unreadable.settled() {
		t.Error("routes that cannot be read count as settled")
	}
}

// TestADiversionEndsWhereTheReleaseGoesOn: a canary with a share that gets no request would stay so.
func TestADiversionEndsWhereTheReleaseGoesOn(t *testing.T) {
	key, web := types.NamespacedName{Namespace: "shop", Name: "web"}, backendPair{namespace: "shop", stable: "web", canary: "web-canary"}
	fail := analysis.Verdict{Result: v1beta1.VerdictFail}
	for _, tt := range []struct {
		name     string
		attempt  int64 // whose verdict diverted; 0 for none
		disabled bool
		phase    v1beta1.Phase
		weight   int32
		kept     bool
	}{
		{"pods that were not ready are, before anything was written", 0, false, v1beta1.PhaseStepping, 10, false},
		{"the attempt before failed, and no gateway confirmed that", 1, false, v1beta1.PhaseStepping, 10, false},
		{"this attempt failed", 2, false, v1beta1.PhaseStepping, 10, true},
		{"this attempt failed, and the analysis was turned off", 2, true, v1beta1.PhaseStepping, 10, false},
		{"the traffic is on its way back", 0, false, v1beta1.PhaseRollingBack, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ledger{}
			r := &reconciler{options: Options{Diversions: NewDiversions(got)}}
			r.options.Diversions.begin(key, web, tt.attempt, fail)
			w := &world{canary: &v1beta1.Canary{}, seen: rollout.Observation{Routes: []rollout.Route{{Reaches: true}}}}
			w.canary.Spec.Analysis = &v1beta1.Analysis{Disabled: tt.disabled}
			status := v1beta1.CanaryStatus{Phase: tt.phase, Weight: tt.weight, Release: &v1beta1.ReleaseProgress{Attempt: 2}}
			w.canary.Status = status
			r.divert(key, w, rollout.Decision{Status: status})
			if kept := len(got) > 0; kept != tt.kept {
				t.Errorf("away: %v, want it kept: %v", got, tt.kept)
			}
		})
	}
}
