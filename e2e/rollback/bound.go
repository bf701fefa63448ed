// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollback

import (
	"math"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
)

// Need is how many canary requests it takes on average to prove, by the defaults of a release,
// that a version fails at a rate from 0 to 1 while the other one, which has the rest of the traffic,
// never fails: ln(1/α) nats at what a request is worth to a bet that knows the rate beforehand. No
// test with that chance of a false rollback and that tolerance can do with less.
func Need(failing, weight float64) float64 {
	defaults := trial.Default()
	tolerance := sequential.DefaultRegression().Tolerance
	others := (1 - weight) / weight
	tick := sequential.Tick{Canary: sequential.Counts{N: 1, X: failing}, Stable: sequential.Counts{N: others}, Weight: weight}
	best := 0.0
	for bet := 1.01; bet < 1e6; bet *= 1.01 {
		best = max(best, sequential.LogFactor(tick, sequential.Exposure{Canary: 1, Stable: others}, tolerance, bet))
	}
	return math.Log(1/defaults.Alpha) / best
}
