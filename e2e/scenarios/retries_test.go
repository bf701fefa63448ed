// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// retried lets the proxies try again what a version failed, and is so patient that no visitor sees a failure of
// flaky. Every fourth of its tries fails, so more than the 15 % that would be bad, and each is followed by a wait in
// which a route may move.
const retried = `,"retry":{"codes":[500],"attempts":12,"backoff":"100ms"}`

var flaky = shop.Version{Name: "flaky", Env: map[string]string{"ERROR_RATE": "0.25"}}

// retries makes the visitors' route retry, or not if it is empty.
func (sc *scene) retries(retry string) {
	sc.t.Helper()
	route := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"rules":[{"backendRefs":[{"name":"checkout","port":80}]`+retry+`}]}}`))
	r := &gwv1.HTTPRoute{}
	r.Namespace, r.Name = sc.Name, shop.Name
	sc.must(sc.Client.Patch(sc.t.Context(), r, route))
}

// Tries that nobody saw fail are no failures: a request counts once, by its last answer. Neither is one lost
// that waits for its next try while the release ends and the canary's Service goes.
func TestRetriedRequestsCountOnce(t *testing.T) {
	t.Parallel()
	sc := open(t, testers)
	sc.retries(retried)
	sc.deploy(flaky)
	sc.waitFor("the gate at 0 %", waitsAt(0))
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitFor("the gate", waitsForApproval)
	time.Sleep(5 * time.Second)
	sc.countsOnce(flaky.Name)
	sc.must(sc.Command(t.Context(), "promote"))
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.close()

	// The version does fail, and visitors see it once nothing is tried again.
	sc.retries("")
	sc.must(sc.Wait(t.Context(), "failures without retries", 10*time.Second, func(context.Context) (bool, string, error) {
		report := sc.send(shop.Host, "/", rate, time.Second)
		return report.Versions[flaky.Name].Errors > report.Versions[flaky.Name].Requests/10, report.String(), nil
	}))
}
