// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command hitless changes a Gateway in every way that its users, its cluster and its
// operators do, again and again under constant load, and fails when a single request
// is lost. It runs on the cluster of KUBECONFIG, or on this machine's node.
//
//	load ───────────────▶ Gateway ─▶ blue, green      HTTP/1.1, HTTP/2, gRPC, HTTPS: every request counts
//	changes ─▶ API server ─▶ Headgate ─▶ proxies      one after the other, each until a probe sees it
//	events ──▶ pods, Headgate, proxies are replaced   beside the changes
//
// The load never tries a request again, and says so when its library did.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"headgate.dev/headgate/e2e/env"
)

// options say how much is done.
type options struct {
	// changes is how many are made, rate the requests per second of all protocols together.
	changes int
	rate    float64
	// rounds is how often each of the events happens.
	rounds int
	// pause lies between two changes.
	pause time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.changes, "changes", 1000, "changes to make")
	flag.Float64Var(&o.rate, "rate", 600, "requests per second, of all protocols together")
	flag.IntVar(&o.rounds, "rounds", 3, "how often the pods are rolled, Headgate is killed and upgraded, and the proxies are rolled")
	flag.DurationVar(&o.pause, "pause", 20*time.Millisecond, "time between two changes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hitless:", err)
		os.Exit(1)
	}
}

// run makes the changes and prints the table. A lost request is an error.
func run(ctx context.Context, o options) error {
	c, err := env.Connect(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if err := c.InstallGatewayAPI(ctx, env.Standard); err != nil {
		return err
	}
	if err := c.InstallHeadgate(ctx, nil); err != nil {
		return err
	}
	space, err := c.NewSpace(ctx, "hitless")
	if err != nil {
		return err
	}
	w, err := open(ctx, space)
	if err != nil {
		return fmt.Errorf("in namespace %s: %w", space.Name, err)
	}
	j, err := w.perform(ctx, o)
	if j != nil {
		fmt.Print(j)
	}
	if err != nil {
		return fmt.Errorf("in namespace %s: %w", space.Name, err)
	}
	if lost := j.lost(); lost > 0 {
		return fmt.Errorf("%d requests were lost; namespace %s is kept for looking into", lost, space.Name)
	}
	return space.Close(ctx)
}

// perform makes the changes under load, with the events beside them. An error ends it
// early; the journal then tells how far it came.
func (w *world) perform(ctx context.Context, o options) (*journal, error) {
	visitors, err := w.visit(ctx, o.rate)
	if err != nil {
		return nil, err
	}
	j := &journal{}
	both, stop := errgroup.WithContext(ctx)
	both.Go(func() error { return w.events(stop, j, o.rounds) })
	both.Go(func() error { return w.changes(stop, j, o) })
	err = both.Wait()
	j.took = time.Since(visitors.begin)
	for _, r := range visitors.stop() {
		j.charge(r.name, r.report)
	}
	return j, err
}

// changes makes them in turn, one kind after the other.
func (w *world) changes(ctx context.Context, j *journal, o options) error {
	kinds := w.kinds()
	for i := range o.changes {
		k := kinds[i%len(kinds)]
		begin := time.Now()
		seen, err := k.make(ctx)
		if err != nil {
			return fmt.Errorf("change %d, %s: %w", i+1, k.name, err)
		}
		if err := w.await(ctx, seen); err != nil {
			return fmt.Errorf("change %d, %s, was written after %s and is not served: %w", i+1, k.name, begin.Format(time.TimeOnly), err)
		}
		j.add(entry{kind: k.name, begin: begin, end: time.Now()})
		if !sleep(ctx, o.pause) {
			return ctx.Err()
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
