// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package meter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/api/v1beta1"
)

var (
	noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	shop = types.NamespacedName{Namespace: "shop", Name: "checkout"}
)

// scrape gives every series that is not 0, without the labels of the Canary, of histograms count and sum.
func scrape(t *testing.T, m *Meter) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, x := range f.GetMetric() {
			var labels []string
			for _, l := range x.GetLabel() {
				if l.GetName() != "canary_namespace" && l.GetName() != "canary" {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
			}
			name := strings.TrimPrefix(f.GetName(), "headgate_") + "{" + strings.Join(labels, ",") + "}"
			switch h := x.GetHistogram(); {
			case h != nil:
				lines = append(lines, fmt.Sprintf("%s %d in %gs", name, h.GetSampleCount(), h.GetSampleSum()))
			case x.GetGauge().GetValue()+x.GetCounter().GetValue() != 0:
				lines = append(lines, fmt.Sprintf("%s %g", name, x.GetGauge().GetValue()+x.GetCounter().GetValue()))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func micro(d time.Duration) *metav1.MicroTime { return &metav1.MicroTime{Time: noon.Add(d)} }

// watched is a release at its second step, without a verdict for twenty seconds.
func watched() v1beta1.CanaryStatus {
	return v1beta1.CanaryStatus{
		Phase: v1beta1.PhaseStepping, Weight: 25, Step: "2/4", Stable: "old", Service: "web",
		Release: &v1beta1.ReleaseProgress{
			Revision: "new", Attempt: 3, StepIndex: 1, StartedAt: metav1.NewTime(noon.Add(-time.Minute)), UnknownSince: micro(-20 * time.Second),
			Metrics: []v1beta1.MetricStatus{{
				Name: "errors", Verdict: v1beta1.VerdictUnknown, Reason: "TooFewRequests",
				StableRequests: 300, StableBad: 3, CanaryRequests: 100, CanaryBad: 2, Against: 30, For: 62,
			}},
		},
	}
}

func rolledBack(phase v1beta1.Phase) v1beta1.CanaryStatus {
	s := watched()
	s.Phase, s.Weight, s.Step = phase, 0, ""
	r := s.Release
	r.Outcome, r.Reason, r.StageSince, r.UnknownSince = v1beta1.OutcomeRolledBack, v1beta1.ReasonMetricFailed, micro(time.Second), nil
	r.Metrics[0].Verdict, r.Metrics[0].Reason, r.Metrics[0].Against = v1beta1.VerdictFail, "OutOfTolerance", 104
	return s
}

func TestAReleaseThatIsRolledBack(t *testing.T) {
	m := New(func() time.Time { return noon })
	m.Saw(shop, Pass{After: watched(), Target: "checkout-app", CanaryService: "web-canary", Now: noon})
	m.Saw(shop, Pass{Before: watched(), After: watched(), Target: "checkout-app", CanaryService: "web-canary", Now: noon}) // nothing is counted twice
	want := []string{
		"canary_backend{backend_namespace=shop,backend_service=web,version=stable} 1",
		"canary_backend{backend_namespace=shop,backend_service=web-canary,version=canary} 1",
		"canary_evidence{metric=errors,side=against} 0.3",
		"canary_evidence{metric=errors,side=for} 0.62",
		"canary_info{stable=old,target=checkout-app,version=new} 1",
		"canary_phase{phase=Stepping} 1",
		"canary_requests{class=bad,metric=errors,version=canary} 2",
		"canary_requests{class=bad,metric=errors,version=stable} 3",
		"canary_requests{class=good,metric=errors,version=canary} 98",
		"canary_requests{class=good,metric=errors,version=stable} 297",
		"canary_step{} 2",
		"canary_unknown_seconds{} 20",
		"canary_verdict{metric=errors,verdict=Unknown} 1",
		"canary_weight{} 25",
		"verdicts_total{metric=errors,reason=TooFewRequests,verdict=Unknown} 1",
	}
	if diff := cmp.Diff(want, scrape(t, m)); diff != "" {
		t.Error(diff)
	}

	back := rolledBack(v1beta1.PhaseRollingBack)
	m.Saw(shop, Pass{Before: watched(), After: back, Target: "checkout-app", CanaryService: "web-canary", Now: noon.Add(time.Second)})
	for range 2 { // the routes are restored in one pass or in several
		m.Saw(shop, Pass{Before: back, After: back, Target: "checkout-app", CanaryService: "web-canary", Emptied: true, Now: noon.Add(1250 * time.Millisecond)})
	}
	m.Saw(shop, Pass{Before: back, After: rolledBack(v1beta1.PhaseRolledBack), Target: "checkout-app", CanaryService: "web-canary", Now: noon.Add(2 * time.Second)})
	want = []string{
		"canary_backend{backend_namespace=shop,backend_service=web,version=stable} 1",
		"canary_backend{backend_namespace=shop,backend_service=web-canary,version=canary} 1",
		"canary_evidence{metric=errors,side=against} 1.04",
		"canary_evidence{metric=errors,side=for} 0.62",
		"canary_info{stable=old,target=checkout-app,version=} 1",
		"canary_phase{phase=RolledBack} 1",
		"canary_requests{class=bad,metric=errors,version=canary} 2",
		"canary_requests{class=bad,metric=errors,version=stable} 3",
		"canary_requests{class=good,metric=errors,version=canary} 98",
		"canary_requests{class=good,metric=errors,version=stable} 297",
		"canary_verdict{metric=errors,verdict=Fail} 1",
		"release_duration_seconds{outcome=RolledBack} 1 in 61s",
		"releases_total{outcome=RolledBack,reason=MetricFailed} 1",
		"rollback_duration_seconds{} 1 in 0.25s",
		"verdicts_total{metric=errors,reason=OutOfTolerance,verdict=Fail} 1",
		"verdicts_total{metric=errors,reason=TooFewRequests,verdict=Unknown} 1",
	}
	if diff := cmp.Diff(want, scrape(t, m)); diff != "" {
		t.Error(diff)
	}
}

func TestAPromotedReleaseThatANewerOneFollows(t *testing.T) {
	m := New(func() time.Time { return noon })
	done := watched()
	done.Phase, done.Weight, done.Step, done.Stable = v1beta1.PhaseIdle, 0, "", "new"
	done.Service = ""
	done.Release.Outcome, done.Release.Reason = v1beta1.OutcomeSucceeded, v1beta1.ReasonPromoted
	m.Saw(shop, Pass{Before: watched(), After: done, Now: noon})
	m.Saw(shop, Pass{Before: done, After: done, Now: noon})
	want := []string{
		"canary_info{stable=new,target=,version=} 1",
		"canary_phase{phase=Idle} 1",
		"release_duration_seconds{outcome=Succeeded} 1 in 60s",
		"releases_total{outcome=Succeeded,reason=Promoted} 1",
	}
	if diff := cmp.Diff(want, scrape(t, m)); diff != "" {
		t.Error(diff)
	}
	next := watched()
	next.Release.Attempt++
	m.Saw(shop, Pass{Before: done, After: next, Now: noon})
	if got := scrape(t, m); !slices.Contains(got, "verdicts_total{metric=errors,reason=TooFewRequests,verdict=Unknown} 1") {
		t.Errorf("the verdicts of another attempt are not counted: %q", got)
	}
}

func TestACanaryThatGoesLeavesNothing(t *testing.T) {
	m := New(func() time.Time { return noon })
	other := types.NamespacedName{Namespace: "shop", Name: "cart"}
	m.Saw(other, Pass{After: v1beta1.CanaryStatus{Phase: v1beta1.PhaseIdle}, Now: noon})
	before := scrape(t, m)
	m.Saw(shop, Pass{After: watched(), Now: noon})
	m.Saw(shop, Pass{Before: watched(), After: rolledBack(v1beta1.PhaseRollingBack), Emptied: true, Now: noon.Add(time.Minute)})
	m.Forget(shop)
	if diff := cmp.Diff(before, scrape(t, m)); diff != "" {
		t.Error(diff)
	}
}
