// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"context"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

var key = types.NamespacedName{Namespace: "shop", Name: "checkout"}

func num(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }

// The specs of the tests: what the proxies count, and what is asked for.
var (
	counted = &v1beta1.Analysis{WarmUp: &metav1.Duration{}, Metrics: []v1beta1.Metric{{Name: "errors", Gateway: v1beta1.GatewayErrorRate}}}
	asked   = &v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "orders", Prometheus: &v1beta1.PrometheusSource{Query: "x"}, Threshold: &v1beta1.Threshold{Max: num("10")}}}}
)

// world is a Measurer with proxies and a source that the test plays.
type world struct {
	*measure.Measurer
	t *testing.T

	mu sync.Mutex
	// bad is the share of the canary's requests that fails; sent the requests of a second.
	bad, sent float64
	taps      []*tap
	queries   []analysis.Query
	answer    func(context.Context, analysis.Query) analysis.Measurement
	news      []time.Time
	fails     []time.Time
}

// tap is a proxy that reports every second; its reports are delivered by the world.
type tap struct {
	w       *world
	arrived chan struct{}
	mu      sync.Mutex
	reports []report
	closed  bool
	panics  bool
}

type report struct {
	began, came time.Time
	reading     analysis.Reading
}

func (p *tap) Arrived() <-chan struct{} { return p.arrived }

func (p *tap) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (p *tap) Take(since time.Time) analysis.Reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panics {
		panic("counts of a form that nobody thought of")
	}
	sum := analysis.Reading{Proxies: 1}
	for _, r := range p.reports {
		sum.Newest = r.came
		if r.began.Before(since) {
			continue
		}
		for _, arm := range []struct{ to, from *trial.Arm }{{&sum.Stable, &r.reading.Stable}, {&sum.Canary, &r.reading.Canary}} {
			arm.to.Requests.N += arm.from.Requests.N
			arm.to.Requests.X += arm.from.Requests.X
		}
	}
	p.reports = nil
	return sum
}

// play runs a test in a bubble of its own time.
func play(t *testing.T, o measure.Options, test func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, sent: 100}
		o.Now = time.Now
		o.Ask = func(ctx context.Context, q analysis.Query) analysis.Measurement {
			w.mu.Lock()
			w.queries = append(w.queries, q)
			answer := w.answer
			w.mu.Unlock()
			return answer(ctx, q)
		}
		o.Notify = func(types.NamespacedName) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.news = append(w.news, time.Now())
		}
		o.OnFail = func(_ analysis.Subject, v analysis.Verdict) {
			if v.Result != v1beta1.VerdictFail || v.Why == "" {
				t.Errorf("failed by the verdict %+v", v)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fails = append(w.fails, time.Now())
		}
		o.Listen = func(analysis.Subject) measure.Tap {
			p := &tap{w: w, arrived: make(chan struct{}, 1)}
			w.taps = append(w.taps, p)
			return p
		}
		w.Measurer = measure.New(ctx, o)
		test(w)
		cancel()
		synctest.Wait()
		for i, p := range w.taps {
			if !p.closed {
				t.Errorf("tap %d is still open", i)
			}
		}
	})
}

// seconds lets them pass, each with a report of the newest tap.
func (w *world) seconds(n int, weight float64) {
	for range n {
		began := time.Now()
		time.Sleep(time.Second)
		p := w.taps[len(w.taps)-1]
		c := w.sent * weight
		p.mu.Lock()
		p.reports = append(p.reports, report{began, time.Now(), analysis.Reading{
			Stable: trial.Arm{Requests: sequential.Counts{N: w.sent - c}}, Canary: trial.Arm{Requests: sequential.Counts{N: c, X: math.Round(c * w.bad)}},
		}})
		p.mu.Unlock()
		select {
		case p.arrived <- struct{}{}:
		default:
		}
		synctest.Wait()
	}
}

func (w *world) follow(spec *v1beta1.Analysis, attempt int64, weight int32, since time.Time) analysis.Verdict {
	v := w.Follow(key, measure.Release{Attempt: attempt, Plan: analysis.PlanFor(spec, analysis.Subject{
		Namespace: "shop", Canary: "checkout", Attempt: attempt, Since: since, Weight: weight,
		StableVersion: analysis.Version{Service: "checkout"}, CanaryVersion: analysis.Version{Service: "checkout-canary"},
	})})
	synctest.Wait()
	return v
}

func TestACanaryThatFailsIsToldWithTheThirdReport(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		since := time.Now()
		w.follow(counted, 1, 5, since)
		w.seconds(30, .05)
		w.bad = 1
		begin := time.Now()
		w.seconds(5, .05)
		if len(w.fails) != 1 || w.fails[0].Sub(begin) != 3*time.Second {
			t.Errorf("the fault began at %v, and failed at %v", begin, w.fails)
		}
		if v := w.follow(counted, 1, 5, since); v.Result != v1beta1.VerdictFail {
			t.Errorf("%+v", v)
		}
	})
}

func TestNumbersAloneAreNewsEveryTenSeconds(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.follow(counted, 1, 5, time.Now())
		w.seconds(2, .05)
		w.news = nil
		w.seconds(60, .05)
		if n := len(w.news); n < 5 || n > 6 {
			t.Errorf("%d times in a minute", n)
		}
	})
}

func TestWhatIsCountedBeforeAConfirmedWeightDoesNotCount(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.follow(counted, 1, 5, time.Now())
		w.seconds(10, .05)
		w.Hold(key)
		w.bad = 1
		w.seconds(10, .05) // of a weight that nobody confirmed
		w.follow(counted, 1, 25, time.Time{})
		w.seconds(10, .25)
		time.Sleep(300 * time.Millisecond) // in the middle of a report's interval
		since := time.Now()
		w.follow(counted, 1, 25, since)
		w.bad = 0
		w.taps[0].mu.Lock()
		w.taps[0].reports = append(w.taps[0].reports, report{since.Add(-time.Second), since, analysis.Reading{
			Canary: trial.Arm{Requests: sequential.Counts{N: 25, X: 25}},
		}})
		w.taps[0].mu.Unlock()
		w.seconds(12, .25)
		v := w.follow(counted, 1, 25, since)
		if len(w.fails) != 0 || v.Metrics[0].CanaryBad != 0 || v.Metrics[0].CanaryRequests < 250 {
			t.Errorf("failed %v: %+v", w.fails, v)
		}
	})
}

// A step goes on where somebody took the canary out of the routes for a while: what was
// reported meanwhile does not count, and what was known before is kept.
func TestAStepThatWasHeldGoesOnWithoutWhatWasReportedMeanwhile(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		since := time.Now()
		w.follow(counted, 1, 5, since)
		w.seconds(10, .05)
		w.follow(counted, 1, 5, time.Time{})
		w.bad = 1
		w.seconds(35, .05)
		time.Sleep(300 * time.Millisecond)
		w.follow(counted, 1, 5, since)
		w.bad = 0
		w.seconds(12, .05)
		v := w.follow(counted, 1, 5, since)
		if m := v.Metrics[0]; len(w.fails) != 0 || m.CanaryBad != 0 || m.CanaryRequests < 90 || m.CanaryRequests > 115 {
			t.Errorf("failed %v: %+v", w.fails, v)
		}
	})
}

func TestStableIsLearnedBeforeARelease(t *testing.T) {
	for _, rest := range []time.Duration{5 * time.Minute, 50 * time.Minute, 3 * time.Hour} {
		play(t, measure.Options{}, func(w *world) {
			w.follow(counted, 0, 0, time.Time{})
			w.seconds(int(rest.Seconds()), 0)
			w.follow(counted, 1, 100, time.Now())
			w.bad = .3
			w.seconds(10, 1)
			if len(w.fails) != 1 {
				t.Errorf("after %v a canary at 100 %% has nothing to be compared with: %+v", rest, w.follow(counted, 1, 100, time.Now()))
			}
		})
	}
}

func TestARestartGoesOnWhereItStopped(t *testing.T) {
	var saved []byte
	var since time.Time
	play(t, measure.Options{}, func(w *world) {
		since = time.Now()
		w.follow(counted, 1, 5, since)
		w.seconds(60, .05)
		saved = w.Evidence(key)
	})
	play(t, measure.Options{}, func(w *world) {
		p := analysis.PlanFor(counted, analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5})
		v := w.Follow(key, measure.Release{Attempt: 1, Plan: p, Saved: saved})
		if v.Metrics[0].CanaryRequests != 300 {
			t.Errorf("%+v", v)
		}
		broken := measure.Release{Attempt: 2, Plan: p, Saved: []byte("{")}
		if v := w.Follow(key, broken); v.Metrics[0].CanaryRequests != 0 {
			t.Errorf("from what cannot be read: %+v", v)
		}
	})
}

func TestAnotherAttemptBeginsAnew(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.bad = 1
		w.follow(counted, 1, 5, time.Now())
		w.seconds(5, .05)
		since := time.Now()
		if v := w.follow(counted, 2, 5, since); v.Result != v1beta1.VerdictUnknown || len(w.fails) != 1 {
			t.Errorf("%+v", v)
		}
		w.seconds(5, .05)
		if len(w.fails) != 2 {
			t.Errorf("the second one failed %d times", len(w.fails)-1)
		}
	})
}

func TestWhatIsDueIsAskedInTheBackground(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.answer = func(context.Context, analysis.Query) analysis.Measurement {
			time.Sleep(4 * time.Second)
			return analysis.Measurement{Canary: analysis.Sample{Value: 5, Present: true}}
		}
		since := time.Now()
		if v := w.follow(asked, 1, 5, since); v.Reason != v1beta1.ReasonNoMeasurementYet || len(w.taps) != 0 {
			t.Errorf("%d taps, %+v", len(w.taps), v)
		}
		time.Sleep(17 * time.Second)
		synctest.Wait()
		if v := w.follow(asked, 1, 5, since); v.Result != v1beta1.VerdictPass || len(w.queries) != 1 || len(w.news) != 1 {
			t.Errorf("%d queries, %d news, %+v", len(w.queries), len(w.news), v)
		}
		w.Forget(key)
		w.Forget(key)
		time.Sleep(time.Minute)
		if len(w.queries) != 1 {
			t.Errorf("%d queries of what was forgotten", len(w.queries)-1)
		}
	})
}

func TestTheAnswersOfAnotherStepAreDropped(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.answer = func(ctx context.Context, _ analysis.Query) analysis.Measurement {
			<-ctx.Done()
			return analysis.Measurement{Canary: analysis.Sample{Value: 50, Present: true}}
		}
		w.follow(asked, 1, 5, time.Now())
		time.Sleep(13 * time.Second)
		synctest.Wait()
		if len(w.queries) != 1 {
			t.Fatalf("%d queries", len(w.queries))
		}
		since := time.Now()
		w.follow(asked, 1, 25, since)
		if v := w.follow(asked, 1, 25, since); v.Reason != v1beta1.ReasonNoMeasurementYet {
			t.Errorf("%+v", v)
		}
	})
}

func TestASourceThatIsSlowOrPanicsIsAProblem(t *testing.T) {
	for name, answer := range map[string]func(context.Context, analysis.Query) analysis.Measurement{
		"boom": func(context.Context, analysis.Query) analysis.Measurement { panic("boom") },
		"too slow": func(ctx context.Context, _ analysis.Query) analysis.Measurement {
			<-ctx.Done()
			return analysis.Measurement{Problem: &analysis.Problem{Reason: v1beta1.ReasonQueryTimedOut, Message: "too slow"}}
		},
	} {
		play(t, measure.Options{Timeout: 5 * time.Second}, func(w *world) {
			w.answer = answer
			since := time.Now()
			w.follow(asked, 1, 5, since)
			time.Sleep(18 * time.Second)
			synctest.Wait()
			if v := w.follow(asked, 1, 5, since); v.Result != v1beta1.VerdictUnknown || !strings.Contains(v.Why, name) {
				t.Errorf("%s: %+v", name, v)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if len(w.queries) < 2 {
				t.Errorf("%s: it is not asked again", name)
			}
		})
	}
}

func TestNoMoreThanConcurrencyAreAskedAtATime(t *testing.T) {
	play(t, measure.Options{Concurrency: 3}, func(w *world) {
		var running, most atomic.Int32
		w.answer = func(context.Context, analysis.Query) analysis.Measurement {
			n := running.Add(1)
			most.Store(max(most.Load(), n))
			time.Sleep(time.Millisecond)
			running.Add(-1)
			return analysis.Measurement{}
		}
		p := analysis.PlanFor(asked, analysis.Subject{Namespace: "shop", Since: time.Now(), Weight: 5})
		for i := range 50 {
			w.Follow(types.NamespacedName{Name: string(rune('a' + i))}, measure.Release{Attempt: 1, Plan: p})
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if most.Load() != 3 || len(w.queries) != 50 {
			t.Errorf("%d at a time, %d in all", most.Load(), len(w.queries))
		}
	})
}

func TestManyCallersAtOnce(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		w.answer = func(context.Context, analysis.Query) analysis.Measurement { return analysis.Measurement{} }
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 20 {
			wg.Go(func() {
				k := types.NamespacedName{Name: string(rune('a' + i%5))}
				for j := range 50 {
					p := analysis.PlanFor(asked, analysis.Subject{Namespace: "shop", Since: begin.Add(time.Duration(j) * time.Second), Weight: 5})
					w.Follow(k, measure.Release{Attempt: int64(j % 3), Plan: p})
					w.Evidence(k)
					switch j % 4 {
					case 0:
						w.Forget(k)
					case 1:
						w.Hold(k)
					}
				}
			})
		}
		wg.Wait()
	})
}

// A metric that is edited begins anew, whatever it said; one whose template is gone for a moment goes on.
func TestAnEditIsOfOneMetric(t *testing.T) {
	play(t, measure.Options{}, func(w *world) {
		since := time.Now()
		subject := analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5}
		follow := func(problems map[string]analysis.Problem, metrics ...v1beta1.Metric) []v1beta1.MetricStatus {
			p := analysis.PlanFor(&v1beta1.Analysis{WarmUp: &metav1.Duration{}, Metrics: metrics}, subject)
			p.Problems = problems
			return w.Follow(key, measure.Release{Attempt: 1, Plan: p}).Metrics
		}
		answers := v1beta1.Metric{Name: "answers", Gateway: v1beta1.GatewayAnswers}
		errors, strict := counted.Metrics[0], counted.Metrics[0]
		strict.Tolerance = &v1beta1.Tolerance{Relative: "1%"}
		lost := v1beta1.Metric{Name: "errors", Template: &v1beta1.TemplateReference{Name: "gone"}}
		gone := map[string]analysis.Problem{"errors": {Reason: v1beta1.ReasonTemplateNotFound, Message: "it is gone"}}

		follow(nil, errors, answers)
		w.seconds(60, .05)
		before := follow(nil, errors, answers)
		if m := follow(gone, lost, answers)[0]; m.Verdict != v1beta1.VerdictUnknown || m.Message != "it is gone" {
			t.Errorf("without its template: %+v", m)
		}
		w.seconds(10, .05)
		follow(nil, errors, answers)
		w.seconds(11, .05)
		after := follow(nil, errors, answers)
		if before[0].For <= 0 || after[0].For < before[0].For {
			t.Errorf("before %+v\nafter its template was gone for a moment %+v", before[0], after[0])
		}
		if m := follow(nil, strict, answers)[0]; m.For != 0 || m.CanaryRequests != 405 {
			t.Errorf("after an edit: %+v", m)
		}
		w.bad = 1
		w.seconds(5, .05)
		if len(w.fails) != 1 {
			t.Fatalf("it failed %d times", len(w.fails))
		}
		errors.Threshold = &v1beta1.Threshold{Max: num("90%")}
		if m := follow(nil, errors, answers)[0]; m.Verdict == v1beta1.VerdictFail {
			t.Errorf("what the old question said goes on: %+v", m)
		}
		w.seconds(60, .05)
		if len(w.fails) != 2 {
			t.Errorf("it failed %d times", len(w.fails))
		}
	})
}

func TestSavedEvidenceIsOfTheMetricsThatAreStillThere(t *testing.T) {
	var saved []byte
	var since time.Time
	play(t, measure.Options{}, func(w *world) {
		since = time.Now()
		w.follow(counted, 1, 5, since)
		w.seconds(60, .05)
		saved = w.Evidence(key)
	})
	edited := map[string]*v1beta1.Analysis{
		"another kind under the old name": {Metrics: []v1beta1.Metric{{Name: "errors", Gateway: v1beta1.GatewayLatency}}},
		"another tolerance":               {Metrics: []v1beta1.Metric{{Name: "errors", Gateway: v1beta1.GatewayErrorRate, Tolerance: &v1beta1.Tolerance{Relative: "50%"}}}},
		"another one before it":           {Metrics: []v1beta1.Metric{{Name: "answers", Gateway: v1beta1.GatewayAnswers}, counted.Metrics[0]}},
		"none of the proxies":             asked,
	}
	for name, spec := range edited {
		play(t, measure.Options{}, func(w *world) {
			w.answer = func(context.Context, analysis.Query) analysis.Measurement { return analysis.Measurement{} }
			p := analysis.PlanFor(spec, analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5})
			v := w.Follow(key, measure.Release{Attempt: 1, Plan: p, Saved: saved})
			if kept := v.Metrics[len(v.Metrics)-1].For > 0; kept != (name == "another one before it") {
				t.Errorf("%s: %+v", name, v)
			}
			if spec == asked {
				return
			}
			w.seconds(10, .05)
			if v := w.Follow(key, measure.Release{Attempt: 1, Plan: p}); v.Metrics[0].CanaryRequests == 0 && name != "another kind under the old name" {
				t.Errorf("%s: nothing is counted: %+v", name, v)
			}
		})
	}
	for _, broken := range []string{`{"series":{"orders":null}}`, `{"gateway":{"metrics":[{"name":"errors"}]}}`} {
		play(t, measure.Options{}, func(w *world) {
			p := analysis.PlanFor(counted, analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5})
			w.Follow(key, measure.Release{Attempt: 1, Plan: p, Saved: []byte(broken)})
			w.seconds(3, .05)
		})
	}
}

func TestAFaultThatIsKnownAtOnceIsToldToo(t *testing.T) {
	var saved []byte
	var since time.Time
	play(t, measure.Options{}, func(w *world) {
		since = time.Now()
		w.bad = 1
		w.follow(counted, 1, 5, since)
		w.seconds(10, .05)
		saved = w.Evidence(key)
	})
	play(t, measure.Options{}, func(w *world) {
		p := analysis.PlanFor(counted, analysis.Subject{Namespace: "shop", Canary: "checkout", Attempt: 1, Since: since, Weight: 5})
		if v := w.Follow(key, measure.Release{Attempt: 1, Plan: p, Saved: saved}); v.Result != v1beta1.VerdictFail {
			t.Fatalf("%+v", v)
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.fails) != 1 || len(w.news) != 1 {
			t.Errorf("failed %d times, told %d times: nothing ends what the fault began", len(w.fails), len(w.news))
		}
	})
}

func TestWhatTheVersionBeforeStableDidIsForgotten(t *testing.T) {
	for stable, want := range map[string]string{"v1": v1beta1.ReasonNoTraffic, "v2": v1beta1.ReasonLearning} {
		play(t, measure.Options{}, func(w *world) {
			follow := func(stable string, attempt int64, weight int32, since time.Time) analysis.Verdict {
				return w.Follow(key, measure.Release{Attempt: attempt, Plan: analysis.PlanFor(counted, analysis.Subject{
					Namespace: "shop", Canary: "checkout", Attempt: attempt, Since: since, Weight: weight,
					StableVersion: analysis.Version{Service: "checkout", Revision: stable}, CanaryVersion: analysis.Version{Service: "checkout-canary", Revision: "v3"},
				})})
			}
			follow("v1", 0, 0, time.Time{})
			w.seconds(60, 0)
			follow(stable, 0, 0, time.Time{}) // v2 was promoted
			since := time.Now()
			follow(stable, 1, 100, since)
			w.seconds(5, 1)
			v := follow(stable, 1, 100, since)
			if learning := v.Reason == v1beta1.ReasonLearning; learning != (want == v1beta1.ReasonLearning) {
				t.Errorf("beside %s: %+v", stable, v)
			}
		})
	}
}
