// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"context"
	"slices"

	dto "github.com/prometheus/client_model/go"

	"headgate.dev/headgate/e2e/env"
)

// measured is how often proxies acknowledged a change of the diversions, and how long that took in all.
type measured struct{ count, seconds float64 }

// diversions reads what the operator measured of the Gateways of a namespace.
func diversions(ctx context.Context, s *env.Space) (measured, error) {
	families, err := s.OperatorMetrics(ctx)
	if err != nil {
		return measured{}, err
	}
	var out measured
	for _, m := range families["headgate_gateway_divert_seconds"].GetMetric() {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "gateway_namespace" && l.GetValue() == s.Name }) {
			continue
		}
		out.count += float64(m.GetHistogram().GetSampleCount())
		out.seconds += m.GetHistogram().GetSampleSum()
	}
	return out, nil
}
