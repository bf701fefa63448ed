// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"headgate.dev/headgate/dataplane/graph"
)

// unsent is what certainly reached no backend: the connection failed, or the backend
// refused the stream. A reset after the request was sent is not in it, because the
// backend may have acted on the request.
const unsent = "connect-failure,refused-stream,reset-before-request"

// retryUnsent tries again, on another endpoint of the same version, what certainly
// reached no backend. The Gateway API asks for it also where no retries are configured.
func retryUnsent() *routev3.RetryPolicy { return retry(unsent, 2) }

// retryPolicy is the policy of a rule that has its own; nil leaves the host's.
func retryPolicy(r *graph.Retry) *routev3.RetryPolicy {
	switch {
	case r == nil:
		return nil
	case r.Attempts == 0: // it stands there to switch the host's off
		return &routev3.RetryPolicy{NumRetries: number(0)}
	}
	on := unsent
	if len(r.Codes) > 0 {
		on += ",retriable-status-codes"
	}
	policy := retry(on, r.Attempts)
	policy.RetriableStatusCodes = r.Codes
	if r.Backoff != nil {
		policy.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(*r.Backoff)}
	}
	return policy
}

func retry(on string, attempts uint32) *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    on,
		NumRetries: number(attempts),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{}),
			},
		}},
		HostSelectionRetryMaxAttempts: 3,
	}
}

// setTimes applies the timeouts and the retries of a rule. Where a request may reach
// several backends, one after the other, the backend's timeout bounds each attempt;
// else it bounds the request. An attempt that runs into its timeout is not repeated: the
// backend may be at work on it.
func setTimes(action *routev3.RouteAction, rule *graph.Rule) {
	action.RetryPolicy = retryPolicy(rule.Retry)
	// Envoy's own 15 s would cut downloads and streams that nobody bounded.
	if rule.Retry == nil || rule.Retry.Attempts == 0 {
		action.Timeout = durationpb.New(shortest(rule.RequestTimeout, rule.BackendTimeout))
		return
	}
	action.Timeout = durationpb.New(shortest(rule.RequestTimeout))
	if t := shortest(rule.BackendTimeout); t > 0 {
		action.RetryPolicy.PerTryTimeout = durationpb.New(t)
	}
}

// shortest is the shortest of the timeouts that are one; 0 means none.
func shortest(timeouts ...*graph.Duration) time.Duration {
	out := time.Duration(0)
	for _, t := range timeouts {
		if t != nil && *t > 0 && (out == 0 || *t < out) {
			out = *t
		}
	}
	return out
}
