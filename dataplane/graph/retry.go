// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"math"
	"slices"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/utils"
)

// Retry says how a rule's requests are tried again. Without one, only what certainly
// reached no backend is.
type Retry struct {
	// Attempts is how often, beyond the first time; 0 is never.
	Attempts uint32
	// Codes are the statuses of a backend that lead to another attempt, sorted.
	Codes []uint32
	// Backoff is the base of the growing time between attempts; nil leaves it to the proxy.
	Backoff *Duration
}

func readRetry(field string, src *gwv1.HTTPRouteRetry) (*Retry, []Problem) {
	if src == nil {
		return nil, nil
	}
	out := &Retry{}
	var problems []Problem
	attempts := deref(src.Attempts, 1) // the default of the API
	if attempts < 0 || int64(attempts) > math.MaxUint32 {
		problems = append(problems, valueUnsupported(field+".attempts", "%d is not a number of attempts: write 0 or more", attempts))
		attempts = 0
	}
	out.Attempts = uint32(attempts)
	for i, code := range src.Codes {
		if code < 400 || code > 599 {
			problems = append(problems, valueUnsupported(fmt.Sprintf("%s.codes[%d]", field, i),
				"%d is not the status of an error: write a number from 400 to 599", code))
			continue
		}
		out.Codes = append(out.Codes, uint32(code))
	}
	slices.Sort(out.Codes)
	out.Codes = slices.Compact(out.Codes)
	if src.Backoff != nil {
		backoff, err := utils.ParseDuration(string(*src.Backoff))
		if err != nil || *backoff <= 0 {
			problems = append(problems, valueUnsupported(field+".backoff", "%q is not a time to wait: write 25ms or 1s", *src.Backoff))
		} else {
			out.Backoff = backoff
		}
	}
	return out, problems
}
