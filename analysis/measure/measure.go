// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package measure follows the releases under way: it takes what the gateway's proxies
// count, asks the other sources when they are due, adds both to the evidence of each
// release, and says when the verdict is news. Nobody who asks it has to wait.
//
//	proxies ── Tap ──▶ ┌ entry, one goroutine per Canary ┐ ──▶ OnFail, at once
//	sources ── Ask ──▶ └  analysis.Evidence, Judge       ┘ ──▶ Notify, Follow
package measure

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
)

// Ask answers one query. It returns when ctx ends, and says what went wrong in
// the measurement's Problem.
type Ask func(ctx context.Context, q analysis.Query) analysis.Measurement

// Tap gives what the gateway's proxies count of the two versions of a release.
type Tap interface {
	// Take gives what came since the last Take, of intervals that began at or after since.
	// It does not wait.
	Take(since time.Time) analysis.Reading
	// Arrived is sent to when something came. What is sent while nobody receives is dropped.
	Arrived() <-chan struct{}
	// Close ends it.
	Close()
}

// Options are what a Measurer works with.
type Options struct {
	// Ask is the source of everything but the gateway's own metrics. Required.
	Ask Ask
	// Listen opens a Tap on what the proxies count of a subject's versions. Nil: there are
	// no proxies to listen to.
	Listen func(analysis.Subject) Tap
	// Notify is called, from another goroutine, when there is news of a release. It must
	// not wait long. May be nil.
	Notify func(key types.NamespacedName)
	// OnFail is called once, from another goroutine, as soon as the verdict on a release is
	// Fail, before Notify. May be nil.
	OnFail func(analysis.Subject, analysis.Verdict)
	// Broke is called once per release whose analysis panics, with what and where. It must not
	// wait. May be nil.
	Broke func(key types.NamespacedName, what any, stack []byte)
	// Now is the clock. Required.
	Now func() time.Time
	// Concurrency is how many queries are asked at a time, over all keys. Default 8.
	Concurrency int
	// Timeout is how long one query may take, its wait for a free place included.
	// Default 30 seconds.
	Timeout time.Duration
}

const (
	// tick is the shortest time between two looks at the proxies: one report of each. With several
	// proxies, whose reports come at different moments, less would count each look as a tick.
	tick = 900 * time.Millisecond
	// tellEvery is how often numbers alone are news.
	tellEvery = 10 * time.Second
	// learnEvery is how often stable is looked at while no release has traffic.
	learnEvery = 10 * time.Second
	// memory is how long stable is remembered at least, and at most twice that.
	memory = 30 * time.Minute
)

// Measurer follows any number of Canaries. Its methods may be called from several
// goroutines.
type Measurer struct {
	ctx    context.Context //nolint:containedctx // the life of the process, not of a call: queries outlive the call that starts them
	o      Options
	places *semaphore.Weighted

	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
}

// New makes a Measurer that ends with ctx.
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
	if o.OnFail == nil {
		o.OnFail = func(analysis.Subject, analysis.Verdict) {}
	}
	if o.Broke == nil {
		o.Broke = func(types.NamespacedName, any, []byte) {}
	}
	return &Measurer{ctx: ctx, o: o, places: semaphore.NewWeighted(int64(o.Concurrency)), entries: map[types.NamespacedName]*entry{}}
}

// Release is what is followed of a Canary.
type Release struct {
	// Attempt numbers the release; 0 while there is none, when only stable is learned.
	Attempt int64
	// Plan says what is measured. While no weight is confirmed its Subject.Since is zero, and
	// nothing counts.
	Plan analysis.Plan
	// Saved is the Evidence of this attempt as JSON, from before a restart; nil for none. It is only looked at
	// where the attempt is new to the Measurer, and left where it is of other metrics than the Plan's.
	Saved []byte
}

// Follow says what is known of a release by now and goes on with it. It never waits. Another
// attempt, and other metrics, begin anew, with what is known of stable.
func (m *Measurer) Follow(key types.NamespacedName, r Release) analysis.Verdict {
	m.mu.Lock()
	e := m.entries[key]
	if e == nil {
		e = newEntry(m, key)
		m.entries[key] = e
		go e.run()
	}
	m.mu.Unlock()
	return e.follow(r)
}

// Hold stops counting what the proxies report of a Canary until the next confirmed weight: it is
// called before a weight is changed.
func (m *Measurer) Hold(key types.NamespacedName) {
	m.mu.Lock()
	e := m.entries[key]
	m.mu.Unlock()
	if e != nil {
		e.hold()
	}
}

// Evidence gives what is known of a release as JSON, to be stored. Nil for a Canary that
// is not followed or has no release, and of one whose analysis panicked: what was stored before may be sound.
func (m *Measurer) Evidence(key types.NamespacedName) []byte {
	m.mu.Lock()
	e := m.entries[key]
	m.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.attempt == 0 || e.broken {
		return nil
	}
	data, err := json.Marshal(e.evidence)
	if err != nil {
		return nil // a number that JSON has no word for: the release goes on without a memory
	}
	return data
}

// Forget drops a Canary and stops what is asked for it.
func (m *Measurer) Forget(key types.NamespacedName) {
	m.mu.Lock()
	e := m.entries[key]
	delete(m.entries, key)
	m.mu.Unlock()
	if e != nil {
		e.stop()
	}
}
