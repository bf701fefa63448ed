// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// entry is one Canary that is followed.
type entry struct {
	m    *Measurer
	key  types.NamespacedName
	ctx  context.Context //nolint:containedctx // ends with the entry
	stop context.CancelFunc
	wake chan struct{}

	mu       sync.Mutex
	attempt  int64
	plan     analysis.Plan
	asking   context.Context    //nolint:containedctx // ends with the step
	unask    context.CancelFunc // ends the queries of the step
	evidence *analysis.Evidence
	failed   bool
	// broken is true once the analysis of this attempt ended with an error in Headgate itself.
	broken bool
	// past is what is known of stable: the older of two halves is what a release begins with.
	past    [2]*analysis.Evidence
	swapped time.Time
	// from is when counting began, or went on, last: what came before may be of any weight.
	from time.Time
	// tap listens to the versions and Gateways of tapped.
	tap    Tap
	tapped analysis.Subject
	// came is true when a report came that was not taken yet; looked is when one was taken last.
	came   bool
	looked time.Time
	// told is the verdict that was news last, at toldAt.
	told   analysis.Verdict
	toldAt time.Time
}

func newEntry(m *Measurer, key types.NamespacedName) *entry {
	e := &entry{m: m, key: key, wake: make(chan struct{}, 1), evidence: &analysis.Evidence{}, swapped: m.o.Now()}
	e.past = [2]*analysis.Evidence{{}, {}}
	e.ctx, e.stop = context.WithCancel(m.ctx)
	e.asking, e.unask = context.WithCancel(e.ctx)
	return e
}

// follow goes over to what is to be measured now.
func (e *entry) follow(r Release) analysis.Verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.m.o.Now()
	another := e.attempt != r.Attempt
	if was, is := e.plan.Subject.StableVersion.Revision, r.Plan.Subject.StableVersion.Revision; was != "" && is != "" && was != is {
		e.past, e.swapped = [2]*analysis.Evidence{{}, {}}, now // what is known is of a version that was replaced
	}
	if !another {
		r.Plan = r.Plan.Keeping(e.plan)
	}
	edited := !equality.Semantic.DeepEqual(e.plan.Metrics, r.Plan.Metrics)
	anew := another || edited
	before := e.plan
	e.plan = r.Plan
	if before.Subject.Since.IsZero() {
		e.from = now
	}
	if e.broken && !anew {
		return e.told
	}
	edited = edited && !another && !e.broken
	e.broken = false
	e.guard(func() {
		switch {
		case edited:
			e.evidence.Adopt(r.Plan, now)
		case anew:
			e.begin(r, now)
		}
		if another || !sameStep(before, r.Plan) {
			e.step(now)
		}
	})
	e.listen()
	return e.told
}

// step goes over to the step of the plan.
func (e *entry) step(now time.Time) {
	e.unask()
	e.asking, e.unask = context.WithCancel(e.ctx)
	e.evidence.Pending = nil
	e.evidence.Begin(e.plan)
	e.told, e.toldAt = analysis.Judge(e.plan, e.evidence, now), now
	e.failed = e.failed && e.told.Result == v1beta1.VerdictFail // an edit can have taken back what failed
	e.nudge()
}

// begin starts the evidence of a release.
func (e *entry) begin(r Release, now time.Time) {
	e.attempt, e.failed = r.Attempt, false
	e.evidence = &analysis.Evidence{}
	if len(r.Saved) > 0 {
		saved := &analysis.Evidence{}
		if json.Unmarshal(r.Saved, saved) == nil {
			saved.Adopt(r.Plan, now)
			e.evidence = saved
			return
		}
	}
	known := e.past[0]
	if known.Gateway.StableEver.N == 0 {
		known = e.past[1]
	}
	// A copy, as the past goes on being learned.
	if data, err := json.Marshal(known); err == nil {
		if json.Unmarshal(data, e.evidence) != nil {
			e.evidence = &analysis.Evidence{}
		}
	}
	e.evidence.Adopt(r.Plan, time.Time{})
}

// sameStep says whether what is being asked for one plan may be used for another.
func sameStep(a, b analysis.Plan) bool {
	return a.Subject.Since.Equal(b.Subject.Since) &&
		a.Subject.Weight == b.Subject.Weight &&
		a.Subject.Namespace == b.Subject.Namespace &&
		a.Subject.Canary == b.Subject.Canary &&
		equality.Semantic.DeepEqual(a.Subject.StableVersion, b.Subject.StableVersion) &&
		equality.Semantic.DeepEqual(a.Subject.CanaryVersion, b.Subject.CanaryVersion) &&
		equality.Semantic.DeepEqual(a.Metrics, b.Metrics) &&
		equality.Semantic.DeepEqual(a.Problems, b.Problems)
}

func (e *entry) hold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plan.Subject.Since = time.Time{}
}

// listen opens the tap that the plan needs.
func (e *entry) listen() {
	s := e.plan.Subject
	heard := analysis.Subject{Namespace: s.Namespace, Gateways: s.Gateways, StableVersion: s.StableVersion, CanaryVersion: s.CanaryVersion}
	if e.tap != nil && reflect.DeepEqual(heard, e.tapped) || e.m.o.Listen == nil || e.ctx.Err() != nil {
		return
	}
	if e.tap != nil {
		e.tap.Close()
		e.tap = nil
	}
	if e.plan.Listens() {
		e.tap, e.tapped = e.m.o.Listen(heard), heard
		e.nudge()
	}
}

func (e *entry) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run looks at the proxies and asks what is due until the entry is forgotten.
func (e *entry) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.tap != nil {
			e.tap.Close()
			e.tap = nil
		}
	}()
	for {
		timer.Reset(e.look())
		select {
		case <-e.ctx.Done():
			return
		case <-e.arrived():
			e.mu.Lock()
			e.came = true
			e.mu.Unlock()
		case <-e.wake:
		case <-timer.C:
		}
	}
}

func (e *entry) arrived() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tap == nil || e.plan.Subject.Since.IsZero() {
		return nil // while nothing is judged there is no hurry
	}
	return e.tap.Arrived()
}

// look takes what came, asks what is due, judges and tells. It gives the time until
// it has to be called again.
func (e *entry) look() time.Duration {
	e.mu.Lock()
	again := learnEvery
	var news, fails bool
	if !e.broken {
		sound := e.guard(func() { again, news, fails = e.judged(e.m.o.Now()) })
		news = news || !sound
	}
	subject, verdict := e.plan.Subject, e.told
	e.mu.Unlock()
	if fails {
		e.m.o.OnFail(subject, verdict)
	}
	if news || fails { // what OnFail began, the pass that it leads to ends
		e.m.o.Notify(e.key)
	}
	return again
}

// judged is look without telling anybody.
func (e *entry) judged(now time.Time) (again time.Duration, news, fails bool) {
	if e.plan.Subject.Since.IsZero() {
		e.learn(now)
		return learnEvery, false, false
	}
	again = time.Second
	switch wait := tick - now.Sub(e.looked); {
	case !e.came || e.tap == nil:
	case wait > 0:
		again = wait
	default:
		e.looked, e.came = now, false
		e.evidence.Read(e.plan, e.tap.Take(e.began()), now)
	}
	for _, q := range analysis.Due(e.plan, e.evidence, now) {
		e.evidence.Pending = append(e.evidence.Pending, q.Metric.Name)
		go e.ask(e.asking, q)
	}
	news, fails = e.judge(now)
	return again, news, fails
}

// began is where the intervals that count begin.
func (e *entry) began() time.Time {
	begin := e.plan.Subject.Since
	for _, later := range []time.Time{e.plan.Subject.Resumed, e.from} {
		if later.After(begin) {
			begin = later
		}
	}
	return begin
}

// learn adds what stable does while nothing is judged.
func (e *entry) learn(now time.Time) {
	if e.tap == nil {
		return
	}
	r := e.tap.Take(time.Time{})
	if e.plan.Subject.Weight > 0 {
		return // between two steps: whose it is, is not known
	}
	if now.Sub(e.swapped) > memory {
		e.past[0], e.past[1], e.swapped = e.past[1], &analysis.Evidence{}, now
	}
	for _, p := range e.past {
		p.Learn(e.plan, r)
	}
	if e.attempt > 0 {
		e.evidence.Learn(e.plan, r)
	}
}

// judge says whether the verdict is news, and whether it is the first Fail.
func (e *entry) judge(now time.Time) (news, fails bool) {
	v := analysis.Judge(e.plan, e.evidence, now)
	news = now.Sub(e.toldAt) >= tellEvery && !equality.Semantic.DeepEqual(v.Metrics, e.told.Metrics)
	news = news || v.Result != e.told.Result || v.Reason != e.told.Reason || !slices.EqualFunc(v.Metrics, e.told.Metrics, func(a, b v1beta1.MetricStatus) bool {
		return a.Verdict == b.Verdict && a.Reason == b.Reason
	})
	if news {
		e.told, e.toldAt = v, now
	}
	if v.Result == v1beta1.VerdictFail && !e.failed {
		e.failed, fails = true, true
	}
	return news, fails
}

// ask asks one query and adds the answer, unless it is no longer wanted.
func (e *entry) ask(step context.Context, q analysis.Query) {
	ctx, cancel := context.WithTimeout(step, e.m.o.Timeout)
	defer cancel()
	var answer analysis.Measurement
	if err := e.m.places.Acquire(ctx, 1); err != nil {
		if step.Err() != nil {
			return
		}
		answer.Problem = tooBusy(e.m.o.Concurrency, e.m.o.Timeout)
	} else {
		answer = e.m.answer(ctx, q)
		e.m.places.Release(1)
	}
	answer.Metric, answer.Kind = q.Metric.Name, q.Kind
	answer.From, answer.To, answer.Asked = q.From, q.To, q.Asked
	e.mu.Lock()
	if step.Err() == nil && !e.broken {
		e.guard(func() { e.evidence.Add(e.plan, answer) })
		e.evidence.Pending = slices.DeleteFunc(e.evidence.Pending, func(name string) bool { return name == answer.Metric })
	}
	e.mu.Unlock()
	e.nudge()
}
