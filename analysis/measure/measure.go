// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package measure asks the queries that are due, in the background, and keeps the
// answers until they are collected. It never makes its caller wait.
package measure

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
)

// Ask answers one query. It returns when ctx ends, and says what went wrong in
// the measurement's Problem.
type Ask func(ctx context.Context, q analysis.Query) analysis.Measurement

// Options are what a Measurer works with.
type Options struct {
	// Ask is the source. Required.
	Ask Ask
	// Notify is called, from another goroutine, when an answer arrived. It must
	// not wait. May be nil.
	Notify func(key types.NamespacedName)
	// Concurrency is how many queries are asked at a time, over all keys. Default 8.
	Concurrency int
	// Timeout is how long one query may take, its wait for a free place included.
	// Default 30 seconds.
	Timeout time.Duration
}

// Measurer keeps the history of each release under way. Its methods may be called
// from several goroutines.
type Measurer struct {
	ctx    context.Context //nolint:containedctx // the life of the process, not of a call: queries outlive the call that starts them
	o      Options
	places *semaphore.Weighted

	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
}

// entry is the history of one release at one step.
type entry struct {
	attempt int64
	plan    analysis.Plan
	history analysis.History
	ctx     context.Context //nolint:containedctx // ends with the entry
	stop    context.CancelFunc
}

// New makes a Measurer that stops asking when ctx ends.
func New(ctx context.Context, o Options) *Measurer {
	if o.Concurrency <= 0 {
		o.Concurrency = 8
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Notify == nil {
		o.Notify = func(types.NamespacedName) {}
	}
	return &Measurer{
		ctx: ctx, o: o,
		places:  semaphore.NewWeighted(int64(o.Concurrency)),
		entries: map[types.NamespacedName]*entry{},
	}
}

// Collect gives what is known of a release so far and starts what is due. It
// never waits. Where the attempt, the metrics, the versions or Since changed, the
// history starts anew, and answers to the old questions are dropped.
func (m *Measurer) Collect(key types.NamespacedName, attempt int64, plan analysis.Plan, now time.Time) analysis.History {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	if e == nil || e.attempt != attempt || !samePlan(e.plan, plan) {
		if e != nil {
			e.stop()
		}
		e = &entry{attempt: attempt, plan: plan, history: analysis.History{Since: plan.Subject.Since}}
		e.ctx, e.stop = context.WithCancel(m.ctx)
		m.entries[key] = e
	}
	for _, q := range analysis.Due(plan, e.history, now) {
		e.history.Pending = append(e.history.Pending, q.Metric.Name)
		go m.ask(key, e, q)
	}
	h := e.history
	h.At = now
	h.Measurements = slices.Clone(h.Measurements)
	h.Pending = slices.Clone(h.Pending)
	return h
}

// Forget drops a release and stops what is asked for it.
func (m *Measurer) Forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		e.stop()
		delete(m.entries, key)
	}
}

func (m *Measurer) ask(key types.NamespacedName, e *entry, q analysis.Query) {
	ctx, cancel := context.WithTimeout(e.ctx, m.o.Timeout)
	defer cancel()
	var answer analysis.Measurement
	if err := m.places.Acquire(ctx, 1); err != nil {
		answer.Problem = tooBusy(m.o.Concurrency, m.o.Timeout)
	} else {
		answer = m.answer(ctx, q)
		m.places.Release(1)
	}
	answer.Metric, answer.Kind = q.Metric.Name, q.Kind
	answer.From, answer.To, answer.Asked = q.From, q.To, q.Asked
	if m.keep(key, e, answer) {
		m.o.Notify(key)
	}
}

// keep adds an answer to its history, unless that is no longer the one in use.
func (m *Measurer) keep(key types.NamespacedName, e *entry, answer analysis.Measurement) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.ctx.Err() != nil || m.entries[key] != e {
		return false
	}
	e.history = e.history.With(answer)
	e.history.Pending = slices.DeleteFunc(e.history.Pending, func(name string) bool { return name == answer.Metric })
	return true
}

// samePlan says whether what was measured for one plan may be used for another.
func samePlan(a, b analysis.Plan) bool {
	return a.Subject.Since.Equal(b.Subject.Since) &&
		a.Subject.Weight == b.Subject.Weight &&
		a.Subject.Namespace == b.Subject.Namespace &&
		a.Subject.Canary == b.Subject.Canary &&
		equality.Semantic.DeepEqual(a.Subject.StableVersion, b.Subject.StableVersion) &&
		equality.Semantic.DeepEqual(a.Subject.CanaryVersion, b.Subject.CanaryVersion) &&
		equality.Semantic.DeepEqual(a.Metrics, b.Metrics)
}
