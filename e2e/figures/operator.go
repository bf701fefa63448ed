// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"

	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

// leaseEvery is how often the leader renews its lease, one request each time.
const leaseEvery = 2 * time.Second

// reading is what the operator says of itself.
type reading struct {
	// requests were sent to the API server since it started, memory is in bytes.
	requests, memory float64
}

// operator reads the metrics of the leading operator.
func operator(ctx context.Context, c *env.Cluster) (reading, error) {
	families, err := c.OperatorMetrics(ctx)
	if err != nil {
		return reading{}, err
	}
	return reading{
		requests: sum(families["rest_client_requests_total"]),
		memory:   sum(families["process_resident_memory_bytes"]),
	}, nil
}

func sum(f *dto.MetricFamily) float64 {
	total := 0.0
	for _, m := range f.GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

// atRest counts what Canaries cost that have nothing to do.
func atRest(ctx context.Context, s *shop.Shop, idle time.Duration, canaries int) ([]figure, error) {
	count := func() (float64, error) {
		before, err := operator(ctx, s.Cluster)
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(idle):
		}
		after, err := operator(ctx, s.Cluster)
		return after.requests - before.requests, err
	}
	// What setting the shop up has stirred must have settled.
	settle := 10 * time.Second
	time.Sleep(settle)
	without, err := count()
	if err != nil {
		return nil, err
	}
	spaces := make([]*env.Space, 0, canaries)
	defer func() {
		for _, space := range spaces {
			_ = space.Close(context.WithoutCancel(ctx))
		}
	}()
	for range canaries {
		space, err := s.NewSpace(ctx, "rest")
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, space)
		resting := &shop.Shop{Space: space, Replicas: 1}
		if err := resting.Rest(ctx); err != nil {
			return nil, err
		}
	}
	time.Sleep(settle)
	with, err := count()
	if err != nil {
		return nil, err
	}
	minutes := idle.Minutes()
	return []figure{
		{"API requests a minute without a Canary (the leader's lease)", fmt.Sprintf("%.0f", without/minutes)},
		{fmt.Sprintf("API requests a minute with %d Canaries at rest", canaries), fmt.Sprintf("%.0f", with/minutes)},
		{"API requests per idle Canary and minute", fmt.Sprintf("%.1f", max(0, with-without)/minutes/float64(canaries))},
	}, nil
}
