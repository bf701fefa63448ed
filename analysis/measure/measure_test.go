// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
)

var (
	since = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	key   = types.NamespacedName{Namespace: "shop", Name: "checkout"}
)

func plan(since time.Time) analysis.Plan {
	return analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "errors", Gateway: v1beta1.GatewayErrorRate}}},
		analysis.Subject{Namespace: "shop", Canary: "checkout", Since: since, Weight: 5})
}

// source is asked in the background and answers when the test lets it.
type source struct {
	asked   chan analysis.Query
	release chan analysis.Measurement
	ended   atomic.Int32
}

func newSource() *source {
	return &source{asked: make(chan analysis.Query, 100), release: make(chan analysis.Measurement)}
}

func (s *source) ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	defer s.ended.Add(1)
	s.asked <- q
	select {
	case m := <-s.release:
		return m
	case <-ctx.Done():
		return analysis.Measurement{Problem: &analysis.Problem{Reason: v1beta1.ReasonQueryTimedOut, Message: "too slow"}}
	}
}

type bench struct {
	*measure.Measurer
	*source
	notified chan types.NamespacedName
}

func start(t *testing.T, o measure.Options) bench {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	b := bench{source: newSource(), notified: make(chan types.NamespacedName, 100)}
	o.Ask, o.Notify = b.ask, func(k types.NamespacedName) { b.notified <- k }
	b.Measurer = measure.New(ctx, o)
	return b
}

// within fails the test when nothing comes in a few seconds.
func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func TestCollectAsksOnceInTheBackgroundAndTellsWhenTheAnswerCame(t *testing.T) {
	b := start(t, measure.Options{})
	now := since.Add(12 * time.Second)
	if h := b.Collect(key, 1, plan(since), since); len(h.Measurements)+len(h.Pending) != 0 {
		t.Fatalf("before anything is due: %+v", h)
	}
	h := b.Collect(key, 1, plan(since), now)
	if len(h.Measurements) != 0 || len(h.Pending) != 1 || !h.At.Equal(now) {
		t.Fatalf("right after asking: %+v", h)
	}
	q := within(t, b.asked, "the query")
	b.Collect(key, 1, plan(since), now.Add(time.Minute))
	b.release <- analysis.Measurement{Canary: analysis.Sample{Requests: 7, Present: true}}
	if got := within(t, b.notified, "the notice"); got != key {
		t.Errorf("notified of %v", got)
	}
	h = b.Collect(key, 1, plan(since), now)
	if len(h.Measurements) != 1 || h.Measurements[0].Canary.Requests != 7 || len(h.Pending) != 0 {
		t.Fatalf("after the answer: %+v", h)
	}
	if m := h.Measurements[0]; m.Metric != "errors" || !m.From.Equal(q.From) || !m.To.Equal(q.To) || !m.Asked.Equal(q.Asked) {
		t.Errorf("the answer does not fit its question: %+v, %+v", m, q)
	}
	select {
	case q := <-b.asked:
		t.Errorf("asked a second time: %+v", q)
	default:
	}
}

func TestANewStepDropsTheAnswersOfTheOldOne(t *testing.T) {
	weight := plan(since)
	weight.Subject.Weight = 25
	edited := plan(since)
	edited.Metrics[0].Name = "failures"
	tests := []struct {
		name    string
		attempt int64
		plan    analysis.Plan
	}{
		{"a later Since", 1, plan(since.Add(time.Minute))},
		{"another attempt", 2, plan(since)},
		{"another weight", 1, weight},
		{"other metrics", 1, edited},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, measure.Options{})
			b.Collect(key, 1, plan(since), since.Add(20*time.Second))
			within(t, b.asked, "the first query")
			// At Since of the new plan nothing is due yet.
			h := b.Collect(key, tt.attempt, tt.plan, tt.plan.Subject.Since)
			if len(h.Pending) != 0 || !h.Since.Equal(tt.plan.Subject.Since) {
				t.Errorf("the new history begins with %+v", h)
			}
			eventually(t, "the old query ends", func() bool { return b.ended.Load() == 1 })
			if h := b.Collect(key, tt.attempt, tt.plan, tt.plan.Subject.Since); len(h.Measurements) != 0 {
				t.Errorf("an answer of the old step is in the new history: %+v", h)
			}
			if len(b.notified) != 0 {
				t.Error("notified of an answer nobody asked for")
			}
		})
	}
}

func TestForgetStopsAndDrops(t *testing.T) {
	b := start(t, measure.Options{})
	b.Collect(key, 1, plan(since), since.Add(20*time.Second))
	within(t, b.asked, "the query")
	b.Forget(key)
	b.Forget(key)
	eventually(t, "the query ends", func() bool { return b.ended.Load() == 1 })
	if h := b.Collect(key, 1, plan(since), since); len(h.Measurements) != 0 || len(b.notified) != 0 {
		t.Errorf("not forgotten: %+v", h)
	}
}

func TestASlowSourceBecomesAProblemAndIsAskedAgain(t *testing.T) {
	b := start(t, measure.Options{Timeout: 10 * time.Millisecond})
	now := since.Add(20 * time.Second)
	b.Collect(key, 1, plan(since), now)
	within(t, b.notified, "the notice")
	h := b.Collect(key, 1, plan(since), now)
	if len(h.Measurements) != 1 || h.Measurements[0].Problem == nil {
		t.Fatalf("%+v", h)
	}
	first := within(t, b.asked, "the first query")
	b.Collect(key, 1, plan(since), now.Add(time.Minute))
	if again := within(t, b.asked, "the second query"); !again.From.Equal(first.From) {
		t.Errorf("the second query begins at %v, so the interval of the first is lost", again.From)
	}
}

func TestASourceThatPanicsIsAProblem(t *testing.T) {
	notified := make(chan types.NamespacedName, 1)
	m := measure.New(t.Context(), measure.Options{
		Ask:    func(context.Context, analysis.Query) analysis.Measurement { panic("boom") },
		Notify: func(k types.NamespacedName) { notified <- k },
	})
	now := since.Add(20 * time.Second)
	m.Collect(key, 1, plan(since), now)
	within(t, notified, "the notice")
	h := m.Collect(key, 1, plan(since), now)
	if p := h.Measurements[0].Problem; p == nil || !strings.Contains(p.Message, "boom") {
		t.Errorf("%+v", p)
	}
}

func TestNoMoreThanConcurrencyAreAskedAtATime(t *testing.T) {
	var running, most atomic.Int32
	var done sync.WaitGroup
	const keys = 50
	done.Add(keys)
	m := measure.New(t.Context(), measure.Options{
		Concurrency: 3,
		Ask: func(context.Context, analysis.Query) analysis.Measurement {
			n := running.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(time.Millisecond)
			running.Add(-1)
			return analysis.Measurement{}
		},
		Notify: func(types.NamespacedName) { done.Done() },
	})
	for i := range keys {
		m.Collect(types.NamespacedName{Name: string(rune('a' + i))}, 1, plan(since), since.Add(20*time.Second))
	}
	done.Wait()
	if most.Load() > 3 {
		t.Errorf("%d at a time", most.Load())
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	s := newSource()
	m := measure.New(ctx, measure.Options{Ask: s.ask, Concurrency: 2})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			k := types.NamespacedName{Name: string(rune('a' + i%5))}
			for j := range 20 {
				m.Collect(k, int64(j%3), plan(since.Add(time.Duration(j)*time.Second)), since.Add(time.Minute))
				if j%4 == 0 {
					m.Forget(k)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
