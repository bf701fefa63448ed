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
	// Start, where it is above 0, is what it begins with in place of 1: see Left.
	Start float64 `json:"start,omitempty"`
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
		return m.start()
	}
	sum := m.Waiting
	for _, v := range m.Placed {
		sum += v
	}
	return sum
}

func (m *Mixture) start() float64 {
	if m.Start > 0 {
		return m.Start
	}
	return 1
}

// Left is what the evidence of another question begins with that takes the place of this one, at most 1: what
// was gained is lost, and what was lost stays so. Both together are then wrong no more often than one
// alone, however often the question is changed, and with whatever in view.
func (m *Mixture) Left() float64 { return min(m.Evidence(), 1) }

// Scale multiplies the evidence by a factor above 0 and at most 1, for a bound that is
// so much easier to reach from now on.
func (m *Mixture) Scale(factor float64) {
	if factor >= 1 {
		return
	}
	m.Start = max(m.start()*factor, math.SmallestNonzeroFloat64)
	m.Waiting *= factor
	for j := range m.Placed {
		m.Placed[j] *= factor
	}
}

// step adds one tick: logs are the nats of the first n bets.
func (m *Mixture) step(logs *[maxBets]float64, n int, weight, clump float64, b Bound) {
	placed := placedLater
	switch {
	case !m.Begun:
		m.Begun, m.Waiting, placed = true, m.start(), placedFirst
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
