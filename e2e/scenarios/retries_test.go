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
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

// Tries that nobody saw fail are no failures: a request counts once, by its last answer.
func TestRetriedRequestsCountOnce(t *testing.T) {
	t.Parallel()
	c := ground(t)
	if err := c.InstallGatewayAPI(t.Context(), env.Experimental); err != nil { // retry is a field of that channel
		t.Fatal(err)
	}
	sc := open(t, testers)
	retry := func(retry string) {
		t.Helper()
		route := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"rules":[{"backendRefs":[{"name":"checkout","port":80}]`+retry+`}]}}`))
		r := &gwv1.HTTPRoute{}
		r.Namespace, r.Name = sc.Name, shop.Name
		sc.must(sc.Client.Patch(t.Context(), r, route))
	}
	retry(`,"retry":{"codes":[500],"attempts":5,"backoff":"1ms"}`)
	flaky := shop.Version{Name: "flaky", Env: map[string]string{"ERROR_RATE": "0.02"}}
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

	retry("")
	sc.must(sc.Wait(t.Context(), "failures without retries", 10*time.Second, func(context.Context) (bool, string, error) {
		report := sc.send(shop.Host, "/", rate, time.Second)
		return report.Versions[flaky.Name].Errors > 0, report.String(), nil
	}))
}
