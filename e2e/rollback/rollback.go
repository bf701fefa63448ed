// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollback measures on a real cluster how long a version that begins to fail
// stays on the road, and what that costs its users. A canary has its share of
// the visitors and answers them well; from one request to the next it fails some of
// them; what follows is up to Headgate.
package rollback

import (
	"context"
	"fmt"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/load"
	"headgate.dev/headgate/e2e/shop"
)

// Failing is the version of the canary.
var failing = shop.Version{Name: "v2"}

// Options say what to measure.
type Options struct {
	// Weight is the canary's share in percent, Rate its requests per second.
	Weight int32
	Rate   float64
	// Healthy is how long the canary does well at that weight first.
	Healthy time.Duration
}

// Round is one rollback.
type Round struct {
	// Failing is the share of its requests that the canary failed, 0 to 1.
	Failing float64
	// Away is the time from the first bad answer until a request was sent that was the last
	// one to reach the canary.
	Away time.Duration
	// Bad is how many bad answers visitors got, of Served that the canary gave.
	Bad, Served int
	// Acknowledged is the time from the verdict until every proxy had acknowledged that
	// the canary gets nothing.
	Acknowledged time.Duration
	// Blameless are requests that failed and that no version caused.
	Blameless int
}

// Bench is a shop with a canary at its weight, and visitors.
type Bench struct {
	*shop.Shop
	o        Options
	visitors *load.Run
	attempt  int64
	blamed   int
}

const canary = `apiVersion: headgate.dev/v1beta1
kind: Canary
metadata:
  name: checkout
spec:
  target: {name: checkout}
  steps:
  - {weight: %d, hold: 1h}
  - {weight: 100}
  keepFailed: 0s
`

// Begin brings the canary into a shop of its own, by a Canary with the defaults of an analysis.
func Begin(ctx context.Context, s *shop.Shop, o Options) (*Bench, error) {
	if err := s.Apply(ctx, fmt.Sprintf(canary, o.Weight)); err != nil {
		return nil, err
	}
	err := s.WaitCanary(ctx, "the Canary to be at rest", time.Minute, func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.PhaseIdle })
	if err != nil {
		return nil, err
	}
	b := &Bench{Shop: s, o: o, attempt: 1}
	if b.visitors, err = b.requests(ctx, ""); err != nil {
		return nil, err
	}
	return b, s.Deploy(ctx, failing)
}

// requests begins to send visitors, with knobs for the app.
func (b *Bench) requests(ctx context.Context, query string) (*load.Run, error) {
	o := b.Requests(b.o.Rate*100/float64(b.o.Weight), time.Hour)
	o.URL += query
	return load.Begin(ctx, o)
}

// End stops the visitors and tells how many requests failed that no version caused.
func (b *Bench) End() int { return b.blamed + b.visitors.Stop().NotCaused() }

// Round lets the canary fail a share of its requests and measures until the release is over. It
// leaves the same version for the next round to try again.
func (b *Bench) Round(ctx context.Context, share float64) (Round, error) {
	if err := b.climb(ctx); err != nil {
		return Round{}, err
	}
	before, err := diversions(ctx, b.Space)
	if err != nil {
		return Round{}, err
	}
	bad, err := b.requests(ctx, fmt.Sprintf("?error_rate=%v&only=%s", share, failing.Name))
	if err != nil {
		return Round{}, err
	}
	b.blamed += b.visitors.Stop().NotCaused()
	err = b.WaitCanary(ctx, "the rollback", 2*time.Minute, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseRolledBack && c.Status.Release.Attempt == b.attempt
	})
	if err != nil {
		bad.Stop()
		return Round{}, err
	}
	time.Sleep(time.Second) // for the claim that nothing reaches the canary any more
	after, err := diversions(ctx, b.Space)
	if err != nil {
		bad.Stop()
		return Round{}, err
	}
	if b.visitors, err = b.requests(ctx, ""); err != nil {
		bad.Stop()
		return Round{}, err
	}
	b.attempt++
	report := bad.Stop()
	stats := report.Versions[failing.Name]
	r := Round{
		Failing: share, Away: stats.Last - stats.FirstError, Bad: stats.Errors, Served: stats.Requests, Blameless: report.NotCaused(),
	}
	if n := after.count - before.count; n != 1 {
		return r, fmt.Errorf("the operator measured %v diversions in this round, want 1", n)
	}
	r.Acknowledged = time.Duration((after.seconds - before.seconds) * float64(time.Second))
	if stats.Errors == 0 {
		return r, fmt.Errorf("attempt %d was rolled back without a bad answer", b.attempt-1)
	}
	return r, b.Command(ctx, v1beta1.CommandRetry)
}

// climb waits until the canary has had its weight, and done well, for long enough.
func (b *Bench) climb(ctx context.Context) error {
	err := b.WaitCanary(ctx, fmt.Sprintf("attempt %d at %d %%", b.attempt, b.o.Weight), 2*time.Minute, func(c *v1beta1.Canary) bool {
		r := c.Status.Release
		return r != nil && r.Attempt == b.attempt && r.ConfirmedAt != nil && c.Status.Weight == b.o.Weight
	})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.o.Healthy):
		return nil
	}
}
