// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command figures measures Headgate on a real cluster and prints the table of
// docs/performance.md: how fast a weight reaches the proxies, how many requests
// are lost by it, how many API requests a release costs, and the memory taken.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/shop"
)

func main() {
	changes := flag.Int("changes", 100, "weight changes to measure, each way")
	idle := flag.Duration("idle", time.Minute, "how long to watch Canaries at rest")
	canaries := flag.Int("canaries", 5, "Canaries at rest to watch")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *changes, *idle, *canaries); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// figure is one row of the table.
type figure struct{ what, value string }

func run(ctx context.Context, changes int, idle time.Duration, canaries int) error {
	c, err := env.Connect(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if err := shop.Ground(ctx, c); err != nil {
		return err
	}
	space, err := c.NewSpace(ctx, "figures")
	if err != nil {
		return err
	}
	defer func() { _ = space.Close(context.WithoutCancel(ctx)) }()
	s, err := shop.Open(ctx, space, 2, shop.Version{Name: "v1"})
	if err != nil {
		return err
	}
	var table []figure
	for _, measure := range []func() ([]figure, error){
		func() ([]figure, error) { return weightChanges(ctx, s, changes) },
		func() ([]figure, error) { return atRest(ctx, s, idle, canaries) },
		func() ([]figure, error) { return oneRelease(ctx, s) },
	} {
		rows, err := measure()
		if err != nil {
			return err
		}
		table = append(table, rows...)
	}
	fmt.Println("| figure | value |\n|---|---|")
	for _, row := range table {
		fmt.Printf("| %s | %s |\n", row.what, row.value)
	}
	return nil
}

// oneRelease counts what a whole release of four steps costs.
func oneRelease(ctx context.Context, s *shop.Shop) ([]figure, error) {
	if err := s.Apply(ctx, shop.QuickCanary); err != nil {
		return nil, err
	}
	if err := s.WaitCanary(ctx, "the Canary to be at rest", time.Minute, func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle }); err != nil {
		return nil, err
	}
	visitors, err := s.Visitors(ctx, 300)
	if err != nil {
		return nil, err
	}
	defer visitors.Stop()
	before, err := operator(ctx, s.Cluster)
	if err != nil {
		return nil, err
	}
	if err := s.Deploy(ctx, shop.Version{Name: "v2"}); err != nil {
		return nil, err
	}
	start := time.Now()
	err = s.WaitCanary(ctx, "the release", 2*time.Minute, func(c *v1beta1.Canary) bool {
		r := c.Status.Release
		return c.Status.Phase == v1beta1.PhaseIdle && r != nil && r.Outcome == v1beta1.OutcomeSucceeded && r.FinishedAt != nil
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := operator(ctx, s.Cluster)
	if err != nil {
		return nil, err
	}
	report := visitors.Stop()
	// A leader renews its lease whether there is a release or not.
	lease := took.Seconds() / leaseEvery.Seconds()
	requests := after.requests - before.requests - lease
	return []figure{
		{"API requests of one release, 5 → 25 → 50 → 100 %, with its hand-over (lease renewals left out)", fmt.Sprintf("%.0f", requests)},
		{"the same for each of its 4 steps", fmt.Sprintf("%.0f", requests/4)},
		{"requests of visitors failed during that release", fmt.Sprintf("%d of %d", report.NotCaused(), report.Requests)},
		{"resident memory of the operator after it", fmt.Sprintf("%.0f MB", after.memory/1e6)},
	}, nil
}
