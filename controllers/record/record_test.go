// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}

// tale is a Canary whose release goes on from status to status.
type tale struct {
	canary   v1beta1.Canary
	statuses []v1beta1.CanaryStatus
	second   int
}

func newTale() *tale {
	t := &tale{}
	t.canary.Name, t.canary.Namespace = "checkout", "shop"
	t.canary.Status.Release = &v1beta1.ReleaseProgress{
		Revision: "new", Stable: "old", Attempt: 3, StartedAt: at(0), Steps: []v1beta1.Step{{Weight: 5}, {Weight: 50}, {Weight: 100}},
	}
	return t
}

// then changes the status, one second later, and keeps it as one that was recorded.
func (t *tale) then(change func(s *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress)) {
	t.second++
	change(&t.canary.Status, t.canary.Status.Release)
	t.statuses = append(t.statuses, *t.canary.Status.DeepCopy())
}

func (t *tale) journal(reason string) {
	r := t.canary.Status.Release
	r.Told++
	r.Journal = append(r.Journal, v1beta1.JournalEntry{
		Time: at(t.second), Reason: reason, Message: reason + ".", Weight: t.canary.Status.Weight,
	})
	r.Journal = r.Journal[max(0, len(r.Journal)-32):]
}

func (t *tale) verdict(status metav1.ConditionStatus, canaryRequests int64) {
	name := map[metav1.ConditionStatus]v1beta1.VerdictResult{metav1.ConditionTrue: v1beta1.VerdictPass, metav1.ConditionFalse: v1beta1.VerdictFail}[status]
	if name == "" {
		name = v1beta1.VerdictUnknown
	}
	meta.SetStatusCondition(&t.canary.Status.Conditions, metav1.Condition{Type: v1beta1.ConditionAnalysis, Status: status, Reason: "R", Message: fmt.Sprintf("%d requests.", canaryRequests)})
	t.canary.Status.Release.Metrics = []v1beta1.MetricStatus{{Name: "errors", Verdict: name, CanaryRequests: canaryRequests}}
}

func (t *tale) starts() {
	t.then(func(s *v1beta1.CanaryStatus, _ *v1beta1.ReleaseProgress) {
		s.Phase = v1beta1.PhaseStarting
		t.journal(v1beta1.ReasonReleaseStarted)
	})
}

func (t *tale) takes(step int, ticks int) {
	t.then(func(s *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
		s.Phase, s.Weight, r.StepIndex = v1beta1.PhaseStepping, r.Steps[step].Weight, int32(step)
		r.ConfirmedAt, r.Metrics = nil, nil
		meta.RemoveStatusCondition(&s.Conditions, v1beta1.ConditionAnalysis)
		t.journal(v1beta1.ReasonWeightSet)
	})
	t.then(func(_ *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
		r.ConfirmedAt = &metav1.MicroTime{Time: at(t.second).Time.Add(250 * time.Millisecond)}
		t.journal(v1beta1.ReasonWeightConfirmed)
	})
	for i := range ticks {
		t.then(func(*v1beta1.CanaryStatus, *v1beta1.ReleaseProgress) {
			t.verdict(metav1.ConditionUnknown, int64(i+1)*10)
		})
	}
}

func (t *tale) passes() {
	t.then(func(*v1beta1.CanaryStatus, *v1beta1.ReleaseProgress) {
		t.verdict(metav1.ConditionTrue, 1000)
		t.journal(v1beta1.ReasonStepCompleted)
	})
}

func (t *tale) isPromoted() {
	t.then(func(s *v1beta1.CanaryStatus, _ *v1beta1.ReleaseProgress) {
		s.Phase = v1beta1.PhasePromoting
		t.journal(v1beta1.ReasonPromoting)
	})
	t.then(func(s *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
		s.Phase, s.Weight = v1beta1.PhaseIdle, 0
		end := at(t.second)
		r.Outcome, r.Reason, r.Message, r.FinishedAt, r.ConfirmedAt = v1beta1.OutcomeSucceeded, v1beta1.ReasonPromoted, "Version new serves all traffic.", &end, nil
		meta.RemoveStatusCondition(&s.Conditions, v1beta1.ConditionAnalysis)
		t.journal(v1beta1.ReasonPromoted)
	})
}

func (t *tale) isRolledBack() {
	t.then(func(s *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
		t.verdict(metav1.ConditionFalse, 700)
		s.Phase, s.Weight = v1beta1.PhaseRollingBack, 0
		r.Outcome, r.Reason, r.Message, r.ConfirmedAt = v1beta1.OutcomeRolledBack, v1beta1.ReasonMetricFailed, "Too many errors.", nil
		t.journal(v1beta1.ReasonMetricFailed)
	})
	t.then(func(s *v1beta1.CanaryStatus, _ *v1beta1.ReleaseProgress) {
		s.Phase = v1beta1.PhaseRolledBack
		t.journal(v1beta1.ReasonRolledBack)
	})
	t.then(func(_ *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
		end := at(t.second)
		r.FinishedAt = &end
		t.journal(v1beta1.ReasonRestored)
	})
}

// recorded writes the record as the reconciler does, of the statuses that seen lets through.
func (t *tale) recorded(seen func(i int) bool) (rec v1beta1.ReleaseStatus, writes int) {
	for i, s := range t.statuses {
		if !seen(i) {
			continue
		}
		c := t.canary.DeepCopy()
		c.Status = s
		before := c.DeepCopy()
		next, now := Next(rec, c), noon.Add(time.Duration(i+1)*time.Second)
		if diff := cmp.Diff(before, c); diff != "" {
			panic("Next modified its argument: " + diff)
		}
		if !Due(rec, next, now) {
			continue
		}
		writes++
		recordedAt := metav1.NewMicroTime(now)
		next.RecordedAt = &recordedAt
		rec = next
	}
	return rec, writes
}

func always(int) bool { return true }

func rolledBack() *tale {
	t := newTale()
	t.starts()
	t.takes(0, 25)
	t.passes()
	t.takes(1, 5)
	t.isRolledBack()
	return t
}

func promoted() *tale {
	t := newTale()
	t.starts()
	for step := range 3 {
		t.takes(step, 3)
		t.passes()
	}
	t.isPromoted()
	return t
}

func TestTheRecordOfAReleaseThatWasRolledBack(t *testing.T) {
	rec, _ := rolledBack().recorded(always)
	rec.Journal, rec.RecordedAt = nil, nil
	got, err := yaml.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	want := `decidedAt: "2026-05-04T12:00:37Z"
finishedAt: "2026-05-04T12:00:39Z"
message: Too many errors.
outcome: RolledBack
reason: MetricFailed
startedAt: "2026-05-04T12:00:00Z"
steps:
- confirmedAt: "2026-05-04T12:00:03.250000Z"
  index: 0
  leftAt: "2026-05-04T12:00:30Z"
  metrics:
  - canaryRequests: 1000
    message: ""
    name: errors
    reason: ""
    verdict: Pass
  setAt: "2026-05-04T12:00:02Z"
  verdict: Pass
  weight: 5
  why: 1000 requests.
- confirmedAt: "2026-05-04T12:00:31.250000Z"
  index: 1
  leftAt: "2026-05-04T12:00:37Z"
  metrics:
  - canaryRequests: 700
    message: ""
    name: errors
    reason: ""
    verdict: Fail
  setAt: "2026-05-04T12:00:30Z"
  verdict: Fail
  weight: 50
  why: 700 requests.
told: 9
weight: 0
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAPromotedReleaseLeavesItsLastStepWhenThePromotionBegins(t *testing.T) {
	rec, _ := promoted().recorded(always)
	if len(rec.Steps) != 3 || rec.Outcome != v1beta1.OutcomeSucceeded || !Ended(rec) || rec.Phase != "" {
		t.Fatalf("%+v", rec)
	}
	last := rec.Steps[2]
	if last.Weight != 100 || last.Verdict != v1beta1.VerdictPass || last.LeftAt == nil || !last.LeftAt.Time.Before(rec.FinishedAt.Time) {
		t.Errorf("%+v", last)
	}
	if !rec.DecidedAt.Equal(rec.FinishedAt) {
		t.Errorf("decided at %s, finished at %s", rec.DecidedAt, rec.FinishedAt)
	}
}

func TestNumbersAreWrittenEveryTenSecondsAndWhatHappensAtOnce(t *testing.T) {
	tale := rolledBack()
	_, writes := tale.recorded(always)
	// Nine statuses with news, one with the first numbers of each step, and in 25 ticks two more.
	if writes != 13 {
		t.Errorf("%d writes of %d statuses", writes, len(tale.statuses))
	}
}

// Whatever was not written is caught up from the journal, and telling twice changes nothing.
func TestWhatWasMissedIsCaughtUp(t *testing.T) {
	for name, tale := range map[string]*tale{"rolled back": rolledBack(), "promoted": promoted()} {
		want, _ := tale.recorded(always)
		for seed := range uint64(300) {
			random := rand.New(rand.NewPCG(seed, 1))
			last := len(tale.statuses) - 1
			got, _ := tale.recorded(func(i int) bool { return i == last || random.IntN(4) == 0 })
			if diff := cmp.Diff(want.Journal, got.Journal); diff != "" {
				t.Fatalf("%s, seed %d: %s", name, seed, diff)
			}
			c := tale.canary.DeepCopy()
			if !Told(got, c) || Due(got, Next(got, c), noon.Add(time.Hour)) {
				t.Fatalf("%s, seed %d: there is always more to write", name, seed)
			}
			for _, s := range []*v1beta1.ReleaseStatus{&want, &got} {
				s.RecordedAt = nil
				for i := range s.Steps {
					s.Steps[i].Metrics, s.Steps[i].Why, s.Steps[i].Verdict, s.Steps[i].ConfirmedAt = nil, "", "", nil
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, seed %d: %s", name, seed, diff)
			}
		}
	}
}

func TestAJournalThatWasWrittenBeforeEntriesWereCountedIsTaken(t *testing.T) {
	tale := promoted()
	tale.canary.Status.Release.Told = 0
	rec := Next(v1beta1.ReleaseStatus{}, &tale.canary)
	if len(rec.Journal) != len(tale.canary.Status.Release.Journal) || rec.Told != int64(len(rec.Journal)) {
		t.Errorf("%d entries, %d told", len(rec.Journal), rec.Told)
	}
}

func TestARecordIsBounded(t *testing.T) {
	tale := newTale()
	tale.starts()
	long := strings.Repeat("ä", 4000)
	rec := v1beta1.ReleaseStatus{}
	for i := range 700 {
		tale.then(func(s *v1beta1.CanaryStatus, r *v1beta1.ReleaseProgress) {
			s.Weight = int32(i % 100)
			r.Metrics = nil
			for m := range 16 {
				r.Metrics = append(r.Metrics, v1beta1.MetricStatus{Name: fmt.Sprint(m), Message: long})
			}
			tale.journal(v1beta1.ReasonWeightSet)
			r.Journal[len(r.Journal)-1].Message = long
		})
		rec = Next(rec, &tale.canary)
	}
	if len(rec.Journal) != JournalLength || rec.Told != 701 || len(rec.Steps) != stepsLimit {
		t.Errorf("%d entries, %d told, %d steps", len(rec.Journal), rec.Told, len(rec.Steps))
	}
	out, err := yaml.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	if room := 1<<20 + 1<<19 - EvidenceLimit; len(out) > room {
		t.Errorf("%d bytes, %d are left beside the evidence", len(out), room)
	}
	if m := rec.Journal[len(rec.Journal)-1].Message; !strings.HasSuffix(m, "ä …") || len(m) > sentenceLimit {
		t.Errorf("%q", m)
	}
}

func TestEvidenceIsKeptWhileTheReleaseIsUnderWay(t *testing.T) {
	open := v1beta1.ReleaseStatus{}
	for _, row := range []struct {
		name     string
		status   v1beta1.ReleaseStatus
		evidence string
		want     string
		refused  bool
	}{
		{name: "an object is kept", evidence: ` {"a": 1}` + "\n", want: `{"a": 1}`},
		{name: "none keeps what was recorded", evidence: ""},
		{name: "no list is taken", evidence: `[1]`, refused: true},
		{name: "nothing is taken that is cut off", evidence: `{"a"`, refused: true},
		{name: "nothing is taken that is too large", evidence: `{"a":"` + strings.Repeat("x", EvidenceLimit) + `"}`, refused: true},
		{name: "a decided release needs none", status: v1beta1.ReleaseStatus{Outcome: v1beta1.OutcomeAborted}, evidence: `{"a": 1}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, kept := WithEvidence(row.status, []byte(row.evidence))
			raw := ""
			if got.Evidence != nil {
				raw = string(got.Evidence.Raw)
			}
			if raw != row.want || kept == row.refused {
				t.Errorf("%q, kept %v", raw, kept)
			}
		})
	}
	tale := rolledBack()
	with, _ := WithEvidence(open, []byte(`{}`))
	for i, s := range tale.statuses {
		c := tale.canary.DeepCopy()
		c.Status = s
		with = Next(with, c)
		if (with.Evidence == nil) != (s.Release.Outcome != "") {
			t.Fatalf("status %d, outcome %q: evidence %v", i, s.Release.Outcome, with.Evidence)
		}
	}
}

func TestAnOvertakenReleaseIsClosed(t *testing.T) {
	tale := newTale()
	tale.starts()
	tale.takes(0, 3)
	cut, _ := tale.recorded(always)
	got := Overtaken(cut, at(60))
	if got.Outcome != v1beta1.OutcomeSuperseded || !Ended(got) || got.Phase != "" || got.Weight != 0 || !got.Steps[0].LeftAt.Equal(got.FinishedAt) {
		t.Errorf("%+v", got)
	}
	rejected, _ := rolledBack().recorded(func(i int) bool { return i < len(rolledBack().statuses)-1 })
	got = Overtaken(rejected, at(60))
	if got.Outcome != v1beta1.OutcomeRolledBack || got.DecidedAt.Equal(got.FinishedAt) {
		t.Errorf("what was recorded of the end is kept: %+v", got)
	}
}

func TestNames(t *testing.T) {
	for _, row := range []struct {
		canary  string
		attempt int64
		want    string
	}{
		{"checkout", 7, "checkout-7"},
		{strings.Repeat("a", 61), 7, strings.Repeat("a", 61) + "-7"},
		{strings.Repeat("a", 63), 7, strings.Repeat("a", 52) + "-7d3e74a0-7"},
		{strings.Repeat("a", 51) + "-" + strings.Repeat("a", 11), 7, strings.Repeat("a", 51) + "-787aefdb-7"},
	} {
		got := Name(row.canary, row.attempt)
		if got != row.want || len(got) > 63 || len(validation.IsDNS1123Subdomain(got)) > 0 {
			t.Errorf("Name(%q, %d) = %q", row.canary, row.attempt, got)
		}
	}
}

func TestNewSaysWhatIsReleased(t *testing.T) {
	tale := newTale()
	tale.canary.UID, tale.canary.Spec.Target.Name = "u1", "checkout"
	template := func(image string) *corev1.PodTemplateSpec {
		return &corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "migrate", Image: image + "-migrate"}}, Containers: []corev1.Container{{Name: "app", Image: image}},
		}}
	}
	got := New(&tale.canary, template("shop:2"), nil)
	want := []v1beta1.ContainerImage{{Name: "migrate", Image: "shop:2-migrate"}, {Name: "app", Image: "shop:2"}}
	if diff := cmp.Diff(want, got.Spec.Images); diff != "" || got.Spec.StableImages != nil {
		t.Error(diff, got.Spec.StableImages)
	}
	if !metav1.IsControlledBy(&got, &tale.canary) || got.Name != "checkout-3" || got.Labels[v1beta1.LabelHold] != "checkout" || got.Labels[v1beta1.LabelAttempt] != "3" {
		t.Errorf("%+v", got.ObjectMeta)
	}
	got.Spec.Steps[0].Weight = 99
	if tale.canary.Status.Release.Steps[0].Weight == 99 {
		t.Error("the record shares its steps with the Canary")
	}
}

func TestTheOldestEndedRecordsAreTooMany(t *testing.T) {
	end := at(0)
	list := func(attempts ...int64) (out []v1beta1.Release) {
		for _, a := range attempts {
			r := v1beta1.Release{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c-%d", a)}, Spec: v1beta1.ReleaseSpec{Attempt: a}}
			if a < 12 {
				r.Status.FinishedAt = &end
			}
			out = append(out, r)
		}
		return out
	}
	two, none := int32(2), int32(0)
	for _, row := range []struct {
		name    string
		limit   *int32
		records []v1beta1.Release
		want    []string
	}{
		{name: "few are kept", records: list(3, 1, 2, 12)},
		{name: "ten by default, the one under way is not counted", records: list(9, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 12), want: []string{"c-1"}},
		{name: "as the Canary says, by number and not by name", limit: &two, records: list(9, 12, 10, 11), want: []string{"c-9"}},
		{name: "none but the one under way", limit: &none, records: list(10, 11, 12), want: []string{"c-10", "c-11"}},
		{name: "one that was never closed counts as ended once a newer one is there", limit: &none, records: list(11, 12, 13), want: []string{"c-11", "c-13"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newTale().canary
			c.Status.Release.Attempt, c.Spec.ReleaseHistoryLimit = 12, row.limit
			if diff := cmp.Diff(row.want, Surplus(row.records, &c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
