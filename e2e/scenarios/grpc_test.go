// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/shop"
)

// A failing call has the HTTP status 200: only its code tells the versions apart.
func TestGRPCAGoodVersionIsReleasedAndABadOneIsRolledBack(t *testing.T) {
	t.Parallel()
	sc := openAs(t, shop.QuickCanary, shop.OpenGRPC)
	sc.deploy(v2)
	sc.waitOutcome(1, v1beta1.OutcomeSucceeded)
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.serves(v2)
	sc.restored()

	sc.deploy(broken)
	r := sc.waitOutcome(2, v1beta1.OutcomeRolledBack)
	if r.Reason != v1beta1.ReasonMetricFailed {
		t.Errorf("rolled back for %s (%s), want %s", r.Reason, r.Message, v1beta1.ReasonMetricFailed)
	}
	sc.serves(v2)
	sc.restored("Deployment") // it stays paused with the rejected template
	report := sc.close()
	if report.Versions[v2.Name].Requests == 0 {
		t.Error("no visitor saw the good version")
	}
	bad := report.Versions[broken.Name]
	t.Logf("%s: %s; the rejected version served %d calls, %d of them bad", r.Reason, r.Message, bad.Requests, bad.Errors)
	if bad.Errors == 0 {
		t.Error("the bad version served nothing bad: the scenario shows nothing")
	}
}
