// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package sequential

import "math"

// maxBets is how many bets a mixture has room for.
const maxBets = 8

// Mixture is evidence spread over bets on how bad it is and on when it began. It
// starts with everything waiting; each tick a share of what waits is placed on the
// bets, so that a canary that turns bad after an hour is found almost as soon as
// one that is bad from the start.
type Mixture struct {
	Begun   bool             `json:"begun,omitempty"`
	Waiting float64          `json:"waiting"`
	Placed  [maxBets]float64 `json:"placed"`
	Weight  float64          `json:"weight"`
	// Crossed is true once the evidence reached its bound, and stays so.
	Crossed bool `json:"crossed,omitempty"`
}

const (
	placedFirst  = 0.5
	placedOnRise = 0.25
	placedLater  = 1.0 / 4096
	// maxPlaced keeps evidence finite; it is far above any bound.
	maxPlaced = 1e100
)

// Bound is when evidence is enough, and how fast it may get there.
type Bound struct {
	// Alpha is the allowed chance of being wrong, over the whole release.
	Alpha float64
	// Ticks is how many ticks it takes at least: 1 or more.
	Ticks int
}

// mostPerTick is the cap on the evidence of one tick in nats: with it, fewer than
// Ticks ticks cannot reach the bound.
func (b Bound) mostPerTick() float64 {
	if b.Ticks < 2 {
		return math.Inf(1)
	}
	return -math.Log(b.Alpha) / float64(b.Ticks-1)
}

// Evidence is the present value of the process: 1 at the start.
func (m *Mixture) Evidence() float64 {
	if !m.Begun {
		return 1
	}
	sum := m.Waiting
	for _, v := range m.Placed {
		sum += v
	}
	return sum
}

// step adds one tick: logs are the nats of the first n bets.
func (m *Mixture) step(logs *[maxBets]float64, n int, weight, clump float64, b Bound) {
	placed := placedLater
	switch {
	case !m.Begun:
		m.Begun, m.Waiting, placed = true, 1, placedFirst
	case weight > m.Weight:
		placed = placedOnRise
	}
	m.Weight = weight
	moved := placed * m.Waiting
	m.Waiting -= moved
	most := min(b.mostPerTick(), 300)
	clump = max(clump, 1)
	for j := range n {
		v := (m.Placed[j] + moved/float64(n)) * math.Exp(min(logs[j]/clump, most))
		m.Placed[j] = min(v, maxPlaced)
	}
	if m.Evidence() >= 1/b.Alpha {
		m.Crossed = true
	}
}
