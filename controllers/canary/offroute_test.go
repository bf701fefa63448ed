// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"headgate.dev/headgate/api/v1beta1"
)

// refusing is an admission webhook that lets no route be written while it is on.
type refusing struct {
	next http.RoundTripper
	on   *atomic.Bool
}

func (d refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || !d.on.Load() || !strings.Contains(r.URL.Path, "/httproutes/") {
		return d.next.RoundTrip(r)
	}
	body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"admission webhook \"routes.example.com\" denied the request"}`
	return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestNothingIsCountedWhileTheRepairIsRefused: somebody takes the canary out of the routes, and a webhook keeps it out; the
// operator is started anew meanwhile.
func TestNothingIsCountedWhileTheRepairIsRefused(t *testing.T) {
	e := newEnv(t)
	e.shop(2, gated)
	on := &atomic.Bool{}
	wrap := func(next http.RoundTripper) http.RoundTripper { return refusing{next, on} }
	e.startWith(wrap)
	e.phase(v1beta1.PhaseIdle)
	e.image("v2")
	since := e.weight(10).Status.Release.ConfirmedAt
	counts := func() bool {
		e.verdicts.mu.Lock()
		defer e.verdicts.mu.Unlock()
		return !e.verdicts.asked.Subject.Since.IsZero()
	}
	e.eventually("counting", func(*v1beta1.Canary) bool { return counts() })
	on.Store(true)
	e.takeOut()
	held := func(c *v1beta1.Canary) bool {
		ready := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady)
		return !counts() && c.Status.Release.OffRoute != nil && c.Status.Release.OffRoute.Since != nil && ready.Reason == v1beta1.ReasonRouteRepaired &&
			strings.Contains(ready.Message, "nothing is counted") && strings.Contains(ready.Message, "routes.example.com")
	}
	e.eventually("it holds and says why", held)
	e.stop()
	e.startWith(wrap)
	e.verdicts.say(e, func(v *verdicts) {})
	e.eventually("it holds after a restart", held)
	on.Store(false)
	c := e.eventually("counting again", func(*v1beta1.Canary) bool { return counts() })
	off := c.Status.Release.OffRoute
	if off == nil || off.Since != nil || off.Until == nil || off.Lost.Duration <= 0 || !c.Status.Release.ConfirmedAt.Equal(since) {
		t.Errorf("the step goes on with %+v, confirmed at %v, at first %v", off, c.Status.Release.ConfirmedAt, since)
	}
	e.verdicts.mu.Lock()
	resumed := e.verdicts.asked.Subject.Resumed
	e.verdicts.mu.Unlock()
	if !resumed.Equal(off.Until.Time) {
		t.Errorf("it counts from %v, want %v", resumed, off.Until)
	}
	e.command(v1beta1.CommandPromote)
	e.eventually("the end", func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle && c.Status.Release.Outcome == v1beta1.OutcomeSucceeded
	})
}

// takeOut takes the canary out of every rule, as an older copy of the route does that is applied.
func (e *env) takeOut() {
	e.Helper()
	route := e.route()
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	for _, each := range rules {
		rule := each.(map[string]any)
		refs, _ := rule["backendRefs"].([]any)
		var kept []any
		for _, ref := range refs {
			if ref.(map[string]any)["name"] != "checkout-canary" {
				kept = append(kept, ref)
			}
		}
		rule["backendRefs"] = kept
	}
	if err := unstructured.SetNestedSlice(route.Object, rules, "spec", "rules"); err != nil {
		e.Fatal(err)
	}
	if err := server.client.Update(e.ctx, route); err != nil {
		e.Fatal(err)
	}
}
