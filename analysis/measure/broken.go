// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"fmt"
	"runtime/debug"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// guard runs what works on the evidence. Where that panics the release holds with the verdict Unknown until
// a person decides, another attempt begins or its metrics are edited: it must not take the operator, and
// with it every other release, down, again after each restart.
func (e *entry) guard(work func()) (sound bool) {
	defer func() {
		if what := recover(); what != nil {
			e.broken = true
			e.told, e.toldAt = broken(e.plan, what), e.m.o.Now()
			e.m.o.Broke(e.key, what, debug.Stack())
		}
	}()
	work()
	return true
}

// broken is the verdict on a release whose analysis panicked.
func broken(p analysis.Plan, what any) analysis.Verdict {
	v := analysis.Verdict{
		Result: v1beta1.VerdictUnknown, Reason: v1beta1.ReasonAnalysisBroken,
		Why: fmt.Sprintf("an error in Headgate itself ended the analysis of this release, so nothing is known of it (%.200v): a person decides, with promote or abort; please report what Headgate's log says", what),
	}
	for _, m := range p.Metrics {
		v.Metrics = append(v.Metrics, v1beta1.MetricStatus{Name: m.Name, Observed: m.Observe, Verdict: v.Result, Reason: v.Reason, Message: "not judged: an error in Headgate itself"})
	}
	return v
}
