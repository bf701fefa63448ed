// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/record"
)

// release gives the record of an attempt; nil where there is none.
func (e *env) release(attempt int64) *v1beta1.Release {
	e.Helper()
	rec := &v1beta1.Release{}
	err := server.client.Get(e.ctx, types.NamespacedName{Namespace: e.namespace, Name: record.Name("checkout", attempt)}, rec)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		e.Fatal(err)
	}
	return rec
}

// recorded is true once the record of the Canary's release tells what its status does.
func (e *env) recorded(c *v1beta1.Canary) bool {
	e.Helper()
	if c.Status.Release == nil {
		return false
	}
	rec := e.release(c.Status.Release.Attempt)
	return rec != nil && record.Told(rec.Status, c)
}

// tells checks the story of a release that is over: complete, in order, and with these steps.
func (e *env) tells(attempt int64, outcome v1beta1.Outcome, steps ...string) {
	e.Helper()
	rec := e.release(attempt)
	if rec == nil {
		e.Errorf("there is no record of attempt %d", attempt)
		return
	}
	s := rec.Status
	if s.Outcome != outcome || s.Reason == "" || s.Message == "" || s.Phase != "" || s.Weight != 0 || s.Evidence != nil {
		e.Errorf("attempt %d: outcome %q, reason %q, message %q, phase %q, weight %d, evidence %v", attempt, s.Outcome, s.Reason, s.Message, s.Phase, s.Weight, s.Evidence)
	}
	if s.StartedAt == nil || s.DecidedAt == nil || s.FinishedAt == nil || s.DecidedAt.Before(s.StartedAt) || s.FinishedAt.Before(s.DecidedAt) {
		e.Errorf("attempt %d: started %s, decided %s, finished %s", attempt, s.StartedAt, s.DecidedAt, s.FinishedAt)
	}
	var got []string
	for _, step := range s.Steps {
		got = append(got, fmt.Sprintf("%d %s", step.Weight, step.Verdict))
		if step.SetAt == nil || step.ConfirmedAt == nil || step.LeftAt == nil || len(step.Metrics) != 1 || step.Why == "" {
			e.Errorf("attempt %d: the step is not complete: %+v", attempt, step)
		}
	}
	if diff := cmp.Diff(steps, got); diff != "" {
		e.Errorf("attempt %d: the steps are\n%s", attempt, diff)
	}
	if n := int64(len(s.Journal)); n != s.Told || n == 0 || s.Journal[0].Reason != v1beta1.ReasonReleaseStarted {
		e.Errorf("attempt %d: %d of %d entries: %+v", attempt, n, s.Told, s.Journal)
	}
	for i := range s.Journal[1:] {
		if s.Journal[i+1].Time.Before(&s.Journal[i].Time) {
			e.Errorf("attempt %d: entry %d is out of order", attempt, i+1)
		}
	}
	if !slices.ContainsFunc(s.Journal, func(j v1beta1.JournalEntry) bool { return j.Reason == s.Reason }) {
		e.Errorf("attempt %d: the journal does not say %s", attempt, s.Reason)
	}
	c := e.canary()
	if c.Status.Release.Attempt == attempt {
		if diff := cmp.Diff(c.Status.Release.Journal, s.Journal, cmpopts.EquateEmpty()); diff != "" {
			e.Errorf("attempt %d: the status and the record differ:\n%s", attempt, diff)
		}
	}
	if !metav1.IsControlledBy(rec, c) || len(rec.Spec.Images) != 1 || len(rec.Spec.StableImages) != 1 || len(rec.Spec.Steps) != len(c.Spec.Steps) {
		e.Errorf("attempt %d: %+v", attempt, rec)
	}
}

func TestEveryReleaseHasARecord(t *testing.T) {
	e := newEnv(t)
	e.shop(2, func(c *v1beta1.Canary) { c.Spec.Steps[1].Approval = true })
	e.start()
	e.phase(v1beta1.PhaseIdle)

	e.image("v2")
	e.judged(1, 50)
	e.command("promote: looks good")
	e.eventually("promoted", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle && e.recorded(c) })
	e.tells(1, v1beta1.OutcomeSucceeded, "10 Pass", "50 Pass", "100 Pass")
	if got := e.release(1).Spec; got.Images[0].Image != "v2" || got.StableImages[0].Image != "v1" || got.Revision != e.canary().Status.Stable {
		t.Errorf("%+v", got)
	}

	e.verdicts.bad[2] = true
	e.image("v3")
	e.eventually("rolled back", func(c *v1beta1.Canary) bool {
		return c.Status.Release.Attempt == 2 && c.Status.Release.FinishedAt != nil
	})
	e.command("retry")
	e.judged(3, 50)
	e.tells(2, v1beta1.OutcomeRolledBack, "10 Fail")
	e.command("abort: wrong prices")
	e.eventually("aborted", func(c *v1beta1.Canary) bool {
		return c.Status.Release.Outcome == v1beta1.OutcomeAborted && c.Status.Release.FinishedAt != nil && e.recorded(c)
	})
	if rec := e.release(3); !strings.Contains(rec.Status.Message, "wrong prices") {
		t.Errorf("%+v", rec.Status)
	}

	e.image("v4")
	e.judged(4, 50)
	e.tells(3, v1beta1.OutcomeAborted, "10 Pass", "50 Pass")
	e.image("v5")
	e.judged(5, 50)
	e.tells(4, v1beta1.OutcomeSuperseded, "10 Pass", "50 Pass")
	e.image("v2")
	e.eventually("reverted", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle && e.recorded(c) })
	e.tells(5, v1beta1.OutcomeReverted, "10 Pass", "50 Pass")
	e.atRest()

	if err := server.client.Delete(e.ctx, e.release(5)); err != nil {
		t.Fatal(err)
	}
	e.command("pause") // refused, but a pass
	e.eventually("a pass", func(c *v1beta1.Canary) bool { return c.Annotations[v1beta1.AnnotationCommand] == "" })
	time.Sleep(200 * time.Millisecond)
	if e.release(5) != nil {
		t.Error("a record that was deleted came back")
	}
	if err := server.client.Delete(e.ctx, e.canary()); err != nil {
		t.Fatal(err)
	}
	e.gone(1)
}

// judged waits until there is a verdict on an attempt at a confirmed weight.
func (e *env) judged(attempt int64, weight int32) {
	e.Helper()
	e.eventually(fmt.Sprintf("a verdict on attempt %d at %d %%", attempt, weight), func(c *v1beta1.Canary) bool {
		r := c.Status.Release
		return r != nil && r.Attempt == attempt && c.Status.Weight == weight && r.ConfirmedAt != nil && len(r.Metrics) > 0
	})
}

// gone waits until a record is collected with its Canary.
func (e *env) gone(attempt int64) {
	e.Helper()
	for deadline := time.Now().Add(patience); e.release(attempt) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatal("the record outlives its Canary")
		}
	}
}

func TestOldRecordsAreDeleted(t *testing.T) {
	e := newEnv(t)
	one := int32(1)
	e.shop(1, func(c *v1beta1.Canary) {
		c.Spec.ReleaseHistoryLimit, c.Spec.Steps = &one, []v1beta1.Step{{Weight: 100}}
	})
	e.start()
	e.phase(v1beta1.PhaseIdle)
	for attempt := range int64(3) {
		e.image(fmt.Sprintf("v%d", attempt+2))
		e.eventually("promoted", func(c *v1beta1.Canary) bool {
			return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release != nil && c.Status.Release.Attempt == attempt+1 && e.recorded(c)
		})
	}
	e.eventually("one record", func(*v1beta1.Canary) bool {
		list := &v1beta1.ReleaseList{}
		if err := server.client.List(e.ctx, list, client.InNamespace(e.namespace)); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 1 && list.Items[0].Spec.Attempt == 3
	})
	e.tells(3, v1beta1.OutcomeSucceeded, "100 Pass")
}

// deafTo refuses every write to a resource.
type deafTo struct {
	next     http.RoundTripper
	resource string
}

func (d deafTo) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/"+d.resource) {
		return nil, errors.New("no " + d.resource + " today")
	}
	return d.next.RoundTrip(r)
}

func TestARecordThatCannotBeWrittenHoldsNothingUp(t *testing.T) {
	e := newEnv(t)
	e.shop(2, nil)
	e.verdicts.bad[2] = true
	e.startWith(func(next http.RoundTripper) http.RoundTripper { return deafTo{next, "releases"} })
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.eventually("promoted", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release != nil && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
	e.told(v1beta1.ReasonNotRecorded)
	// The next one waits a minute for it at most; a process that can write does not.
	e.stop()
	e.start()
	e.image("v3")
	e.eventually("rolled back", func(c *v1beta1.Canary) bool {
		return c.Status.Release.Attempt == 2 && c.Status.Release.FinishedAt != nil && e.recorded(c)
	})
	e.tells(2, v1beta1.OutcomeRolledBack, "10 Fail")
}

func TestARecordOfTheSameName(t *testing.T) {
	e := newEnv(t)
	e.shop(1, func(c *v1beta1.Canary) { c.Spec.Steps = []v1beta1.Step{{Weight: 100}} })
	spec := v1beta1.ReleaseSpec{Canary: "checkout", Target: v1beta1.TargetReference{Kind: "Deployment", Name: "checkout"}, Attempt: 1, Revision: "x", Stable: "y"}
	e.create(&v1beta1.Release{ // what kubectl delete --cascade=orphan leaves
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout-1", Labels: map[string]string{v1beta1.LabelManagedBy: v1beta1.ManagedBy, v1beta1.LabelHold: "checkout"}},
		Spec:       spec,
	})
	e.create(&v1beta1.Release{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout-2"}, Spec: spec})
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.eventually("promoted and recorded", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle && e.recorded(c) })
	e.tells(1, v1beta1.OutcomeSucceeded, "100 Pass")
	e.image("v3")
	e.eventually("promoted", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Attempt == 2 && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
	e.told(v1beta1.ReasonNotRecorded)
	if rec := e.release(2); rec == nil || len(rec.Status.Journal) > 0 {
		t.Errorf("somebody else's object was written to: %+v", rec)
	}
}

func TestEvidenceSurvivesTheProcess(t *testing.T) {
	e := newEnv(t)
	e.shop(1, nil)
	e.verdicts.silent, e.verdicts.evidence = true, `{"tests": [1, 2.5]}`
	e.start()
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	e.weight(10)
	e.eventually("evidence", func(*v1beta1.Canary) bool { rec := e.release(1); return rec != nil && rec.Status.Evidence != nil })
	e.stop()
	if got := e.verdicts.saved; len(got) > 0 {
		t.Errorf("a release that began in this process was given evidence: %q", got)
	}
	e.start()
	e.eventually("what was saved", func(*v1beta1.Canary) bool {
		e.verdicts.mu.Lock()
		defer e.verdicts.mu.Unlock()
		return slices.Equal(e.verdicts.saved, []string{`{"tests":[1,2.5]}`})
	})
	e.verdicts.say(e, func(v *verdicts) { v.silent = false })
	e.eventually("promoted", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle && e.recorded(c) })
	e.tells(1, v1beta1.OutcomeSucceeded, "10 Pass", "50 Pass", "100 Pass")
}

func TestARecordIsNotEdited(t *testing.T) {
	e := newEnv(t)
	rec := &v1beta1.Release{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace, Name: "checkout-1"},
		Spec:       v1beta1.ReleaseSpec{Canary: "checkout", Target: v1beta1.TargetReference{Name: "checkout"}, Attempt: 1, Revision: "x", Stable: "y"},
	}
	e.create(rec)
	rec.Spec.Revision = "z"
	if err := server.client.Update(e.ctx, rec); err == nil || !strings.Contains(err.Error(), "is a record and cannot be changed") {
		t.Errorf("the API server says %v", err)
	}
}
