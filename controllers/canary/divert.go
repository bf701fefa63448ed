// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// Diverter keeps a Service off the traffic of all proxies, at once and whatever the routes say, and
// gives its share to another one, until Restore. dataplane/server.Server is one. Neither
// method waits for proxies or for the API server.
type Diverter interface {
	Divert(from, to types.NamespacedName)
	Restore(from types.NamespacedName)
}

// Diversions are the canaries that are kept off the traffic ahead of their routes. They are
// lost with the process; the routes are what lasts. A nil Diversions diverts nothing.
type Diversions struct {
	diverter Diverter

	mu sync.Mutex
	of map[types.NamespacedName]diversion // by Canary
}

// diversion is what one Canary asked for.
type diversion struct {
	from types.NamespacedName
	// attempt and verdict are set where a verdict asked; attempt 0 is none.
	attempt int64
	verdict analysis.Verdict
}

// NewDiversions makes Diversions that a diverter carries out.
func NewDiversions(d Diverter) *Diversions {
	return &Diversions{diverter: d, of: map[types.NamespacedName]diversion{}}
}

// Fail takes the traffic of a release back as soon as its verdict is Fail, without waiting
// for a pass of the reconciler; that has to be asked for besides, by Options.Answered. The attempt
// is then judged by this verdict, so that what was begun here is also ended.
func (d *Diversions) Fail(s analysis.Subject, verdict analysis.Verdict) {
	pair := backendPair{namespace: s.Namespace, stable: s.StableVersion.Service, canary: s.CanaryVersion.Service}
	d.begin(types.NamespacedName{Namespace: s.Namespace, Name: s.Canary}, pair, s.Attempt, verdict)
}

// begin diverts the canary of a pair.
func (d *Diversions) begin(canary types.NamespacedName, pair backendPair, attempt int64, verdict analysis.Verdict) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := diversion{from: types.NamespacedName{Namespace: pair.namespace, Name: pair.canary}, attempt: attempt, verdict: verdict}
	before, again := d.of[canary]
	if again && attempt == 0 {
		next.attempt, next.verdict = before.attempt, before.verdict
	}
	d.of[canary] = next
	d.diverter.Divert(next.from, types.NamespacedName{Namespace: pair.namespace, Name: pair.stable})
	if again && before.from != next.from {
		d.restore(before.from)
	}
}

// end gives the traffic of a Canary back to its routes.
func (d *Diversions) end(canary types.NamespacedName) { d.endBut(canary, 0) }

// endBut does so unless it was a verdict on that attempt that took it; attempt 0 is none.
func (d *Diversions) endBut(canary types.NamespacedName, attempt int64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, there := d.of[canary]; there && (attempt == 0 || before.attempt != attempt) {
		delete(d.of, canary)
		d.restore(before.from)
	}
}

// restore ends the diversion of a Service that no Canary asks for any more. Two that name one
// Service with pods of different Deployments have one canary Service.
func (d *Diversions) restore(from types.NamespacedName) {
	for _, other := range d.of {
		if other.from == from {
			return
		}
	}
	d.diverter.Restore(from)
}

// failed is the verdict that diverted an attempt.
func (d *Diversions) failed(canary types.NamespacedName, attempt int64) (analysis.Verdict, bool) {
	if d == nil {
		return analysis.Verdict{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at, there := d.of[canary]
	return at.verdict, there && attempt > 0 && at.attempt == attempt
}

// divert keeps the canary off the traffic where a decision takes it back, before anything of that
// is written, and ends it once every proxy is known to have the routes without the canary, or
// the release goes on.
func (r *reconciler) divert(key types.NamespacedName, w *world, d rollout.Decision) {
	switch {
	case w.takenBack(d):
		r.options.Diversions.begin(key, w.pair(), 0, analysis.Verdict{})
	case w.seen.Problem == nil && goesOn(d.Status):
		attempt := d.Status.Release.Attempt
		if rollout.Unjudged(w.canary) {
			attempt = 0 // nobody will close it by that verdict
		}
		r.options.Diversions.endBut(key, attempt)
	case w.settled():
		r.options.Diversions.end(key)
	}
}

// goesOn tells whether a decision gives the canary a share. Something that is no verdict on this attempt may have
// taken it off the traffic: pods that failed while the API server was down and are well again, or the
// release before, which no gateway confirmed the end of. Kept off, the release would never see a request.
func goesOn(s v1beta1.CanaryStatus) bool {
	return s.Phase == v1beta1.PhaseStepping && s.Weight > 0 && s.Release != nil
}

// takenBack tells whether a decision takes traffic from the canary that has some.
func (w *world) takenBack(d rollout.Decision) bool {
	for _, a := range d.Actions {
		if weights, ok := a.(rollout.EnsureWeights); ok && weights.Percent == 0 && w.reached() {
			return true
		}
	}
	return false
}

// reached tells whether a route sends to the canary.
func (w *world) reached() bool {
	for _, r := range w.seen.Routes {
		if r.Reaches {
			return true
		}
	}
	return false
}

// settled tells whether no route sends to the canary, and every gateway says that its proxies know. The
// status decides with it: where it asks for a share, routes without are about to be repaired, or old news.
func (w *world) settled() bool {
	if w.seen.Problem != nil || w.reached() || w.canary.Status.Weight > 0 && w.canary.Status.Phase == v1beta1.PhaseStepping {
		return false
	}
	for _, r := range w.seen.Routes {
		if !r.Programmed {
			return false
		}
	}
	return true
}
