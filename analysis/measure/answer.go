// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"context"
	"fmt"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// answer asks the source. A source that panics is a source without an answer: it
// must not take the operator, and with it every other release, down.
func (m *Measurer) answer(ctx context.Context, q analysis.Query) (answer analysis.Measurement) {
	defer func() {
		if r := recover(); r != nil {
			answer = analysis.Measurement{Problem: &analysis.Problem{
				Reason:  v1beta1.ReasonUnusableAnswer,
				Message: fmt.Sprintf("the answer could not be read: %v", r),
			}}
		}
	}()
	return m.o.Ask(ctx, q)
}

// tooBusy is for a query that found no free place in time.
func tooBusy(places int, timeout time.Duration) *analysis.Problem {
	return &analysis.Problem{
		Reason:  v1beta1.ReasonQueryTimedOut,
		Message: fmt.Sprintf("the query waited %s for one of %d places: the source is too slow for the number of releases under way", timeout, places),
	}
}
