// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures on a real cluster how long a canary that begins to fail
// stays on the road, and prints it beside what is possible.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/rollback"
	"headgate.dev/headgate/e2e/shop"
)

func main() {
	var o rollback.Options
	rounds := flag.Int("rounds", 20, "rollbacks for each rate of failures")
	weight := flag.Int("weight", 20, "the canary's share in percent")
	flag.Float64Var(&o.Rate, "rate", 100, "requests to the canary, per second")
	flag.DurationVar(&o.Healthy, "healthy", 5*time.Second, "how long the canary does well before it fails")
	flag.Parse()
	o.Weight = int32(*weight)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench-rollback:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o rollback.Options, rounds int) error {
	c, err := env.Connect(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if err := shop.Ground(ctx, c); err != nil {
		return err
	}
	space, err := c.NewSpace(ctx, "rollback")
	if err != nil {
		return err
	}
	defer func() { _ = space.Close(context.WithoutCancel(ctx)) }()
	s, err := shop.Open(ctx, space, 2, shop.Version{Name: "v1"})
	if err != nil {
		return err
	}
	b, err := rollback.Begin(ctx, s, o)
	if err != nil {
		return err
	}
	defer b.End()
	var all []rollback.Round
	for _, share := range []float64{1, .2, .05} {
		for range rounds {
			r, err := b.Round(ctx, share)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%v %%: away after %.2f s, %d of %d bad, acknowledged after %.1f ms\n",
				100*share, r.Away.Seconds(), r.Bad, r.Served, 1000*r.Acknowledged.Seconds())
			all = append(all, r)
		}
	}
	return rollback.Print(os.Stdout, o, all)
}
