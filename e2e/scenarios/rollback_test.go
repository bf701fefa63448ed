// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"
	"time"

	"headgate.dev/headgate/e2e/rollback"
	"headgate.dev/headgate/e2e/shop"
)

// TestAVersionThatBeginsToFailIsOffTheRoadInSeconds is a short run of `make bench-rollback`, among all other scenarios.
func TestAVersionThatBeginsToFailIsOffTheRoadInSeconds(t *testing.T) {
	t.Parallel()
	c := ground(t)
	space := c.SpaceForTest(t, "rollback")
	s, err := shop.Open(t.Context(), space, 2, v1)
	if err != nil {
		t.Fatal(err)
	}
	o := rollback.Options{Weight: 50, Rate: 100, Healthy: 3 * time.Second}
	b, err := rollback.Begin(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	var rounds []rollback.Round
	for _, share := range []float64{1, .2} {
		r, err := b.Round(t.Context(), share)
		if err != nil {
			t.Fatal(err)
		}
		rounds = append(rounds, r)
		// Three reports of the proxies, one on its way, and a machine that has a lot to do.
		if r.Away > 8*time.Second {
			t.Errorf("at %v of bad answers the canary got requests for %s", share, r.Away)
		}
		if r.Acknowledged > time.Second {
			t.Errorf("the proxies took %s to take the canary off the road", r.Acknowledged)
		}
		if r.Blameless > 0 {
			t.Errorf("%d requests failed that no version caused", r.Blameless)
		}
	}
	if n := b.End(); n > 0 {
		t.Errorf("%d requests failed that no version caused, with the canary well", n)
	}
	if err := rollback.Print(t.Output(), o, rounds); err != nil {
		t.Error(err)
	}
}
