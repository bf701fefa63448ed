// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// dying lets a number of writes through and refuses everything after them, as
// a process that was killed there would have.
type dying struct {
	next http.RoundTripper
	left *atomic.Int64
	died chan struct{}
}

func (d dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || strings.Contains(r.URL.Path, "/events") {
		return d.next.RoundTrip(r)
	}
	if d.left.Add(-1) < 0 {
		select {
		case d.died <- struct{}{}:
		default:
		}
		return nil, errors.New("the operator was killed")
	}
	return d.next.RoundTrip(r)
}

// untilDone runs the operator again and again, one write each time, until done.
func (e *env) untilDone(done func(*v1beta1.Canary) bool) (kills int) {
	e.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for time.Now().Before(deadline) {
		left := &atomic.Int64{}
		left.Store(1)
		died := make(chan struct{}, 1)
		e.startWith(func(next http.RoundTripper) http.RoundTripper { return dying{next, left, died} })
		for alive := true; alive; {
			select {
			case <-died:
				alive = false
				kills++
			case <-time.After(20 * time.Millisecond):
				if done(e.canary()) {
					e.stop()
					return kills
				}
			}
		}
		e.stop()
	}
	e.Fatalf("not done after %d kills: %+v", kills, e.canary().Status)
	return kills
}

func TestKilledAfterEveryWrite(t *testing.T) {
	if testing.Short() {
		t.Skip("about a minute")
	}
	e := newEnv(t)
	e.shop(2, nil)
	e.start()
	e.phase(v1beta1.PhaseIdle)
	before := e.snapshot()
	e.stop()

	e.image("v2")
	kills := e.untilDone(func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release != nil && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded && e.recorded(c)
	})
	t.Logf("a promotion survived %d kills", kills)
	if kills < 15 {
		t.Errorf("only %d kills: the release was not interrupted everywhere", kills)
	}
	revision := e.canary().Status.Release.Revision
	if diff := cmp.Diff(e.podsOf(revision), e.pods()); diff != "" {
		t.Errorf("other pods than the canary's serve:\n%s", diff)
	}
	e.restored(before)

	e.verdicts.bad[2] = true
	e.image("v3")
	kills = e.untilDone(func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRolledBack && c.Status.Release.FinishedAt != nil && e.recorded(c)
	})
	t.Logf("a rollback survived %d kills", kills)
	e.restored(before)
	e.ready(metav1.ConditionFalse, v1beta1.ReasonMetricFailed)

	e.verdicts.silent = true
	e.image("v4")
	e.untilDone(func(c *v1beta1.Canary) bool {
		return c.Status.Release.Attempt == 3 && len(c.Status.Release.Metrics) > 0
	})
	e.verdicts.silent = false
	e.image("v5")
	kills = e.untilDone(func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Attempt == 4 && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded && e.recorded(c)
	})
	t.Logf("a release that took another one's place survived %d kills", kills)
	e.restored(before)

	e.tells(1, v1beta1.OutcomeSucceeded, "10 Pass", "50 Pass", "100 Pass")
	e.tells(2, v1beta1.OutcomeRolledBack, "10 Fail")
	e.tells(3, v1beta1.OutcomeSuperseded, "10 Unknown")
	e.tells(4, v1beta1.OutcomeSucceeded, "10 Pass", "50 Pass", "100 Pass")
}
