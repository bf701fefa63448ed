// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"math/rand/v2"
	"testing"
	"time"

	"headgate.dev/headgate/analysis/sequential"
)

// TestWhatIsTakenIsWhatWasSaid lets proxies come, report, lie, go and come back in an order that
// chance gives, beside taps that open, take and close: what the Takes of a tap give is, in
// sum, what was said while it was open and could be true, and each flush is in one Take with both versions.
func TestWhatIsTakenIsWhatWasSaid(t *testing.T) {
	type listener struct {
		tap                          *Tap
		said, taken                  [arms]sequential.Counts
		refused, dropped, gaps, seen int
	}
	for seed := range uint64(200) {
		r, h := rand.New(rand.NewPCG(seed, 7)), newHand(t)
		lines := map[string]*line{}
		listeners := []*listener{{tap: h.open()}}
		take := func(l *listener) {
			got := l.tap.Take(time.Time{})
			for arm, a := range [arms]Arm{got.Stable, got.Canary} {
				l.taken[arm].N += a.Requests.N
				l.taken[arm].X += a.Requests.X
			}
			// Every flush here has nine times as many requests of stable.
			if got.Stable.Requests.N != 9*got.Canary.Requests.N {
				t.Fatalf("seed %d: a flush was cut: %+v", seed, got)
			}
			l.dropped += got.Dropped
			l.seen += got.Gaps
		}
		for range 300 {
			h.pass(time.Duration(r.IntN(700)+1) * time.Millisecond)
			name := string(rune('a' + r.IntN(4)))
			one := lines[name]
			switch action := r.IntN(20); {
			case one == nil:
				lines[name] = h.connect(name)
				lines[name].behind = time.Duration(r.IntN(7200)-3600) * time.Second
				for _, l := range listeners {
					l.gaps++
				}
			case action == 0:
				one.disconnect()
				delete(lines, name)
			case action == 1:
				listeners = append(listeners, &listener{tap: h.open()})
			case action < 5:
				take(listeners[r.IntN(len(listeners))])
			case action == 5:
				one.flush(map[string]float64{"cluster.shop/canary/80.upstream_rq_2xx": -1})
				for _, l := range listeners {
					l.refused++
				}
			default:
				n := float64(r.IntN(1000))
				x, y := float64(r.IntN(int(9*n)+1)), float64(r.IntN(int(n)+1))
				one.flush(both(9*n, x, n, y))
				for _, l := range listeners {
					l.said[stable].N += 9 * n
					l.said[stable].X += x
					l.said[canary].N += n
					l.said[canary].X += y
				}
			}
		}
		for _, l := range listeners {
			take(l)
			if l.taken != l.said || l.dropped != l.refused || l.seen != l.gaps {
				t.Fatalf("seed %d: said %+v, taken %+v; refused %d, dropped %d; came %d, seen %d", seed, l.said, l.taken, l.refused, l.dropped, l.gaps, l.seen)
			}
		}
		for _, l := range lines {
			l.disconnect()
		}
	}
}

// TestNothingFromBeforeAChangeIsTakenAfterIt gives every flush as many requests as its
// interval has milliseconds before the change, through delays of any length and clocks that differ.
func TestNothingFromBeforeAChangeIsTakenAfterIt(t *testing.T) {
	const flushes = 30
	for seed := range uint64(200) {
		r, h := rand.New(rand.NewPCG(seed, 8)), newHand(t)
		tap, proxy := h.open(), h.connect("a")
		skew := time.Duration(r.IntN(7200)-3600) * time.Second
		changed := h.clock.Add(time.Duration(r.IntN(20_000)) * time.Millisecond)
		made, before, after := h.clock, 0.0, 0.0
		for i := range flushes {
			began := made
			made = made.Add(time.Duration(800+r.IntN(400)) * time.Millisecond)
			old := max(min(changed.Sub(began), made.Sub(began)), 0).Milliseconds()
			// The first one comes at once, so the clocks are known; others wait for seconds, each behind the one before.
			delay := time.Duration(min(i, 1)*r.IntN(2)*r.IntN(5000)) * time.Millisecond
			if arrival := made.Add(delay); arrival.After(h.clock) {
				h.clock = arrival
			}
			proxy.say(said{at: made.Add(skew).UnixMilli(), counters: both(float64(old), 0, 1, 0)})
			got := tap.Take(changed)
			before += got.Stable.Requests.N
			after += got.Canary.Requests.N
		}
		if most := (flushes * drift).Milliseconds(); before > float64(most) {
			t.Errorf("seed %d: %v ms of before the change are taken, which is more than %d", seed, before, most)
		}
		if after < 5 {
			t.Errorf("seed %d: of %d flushes %v were taken", seed, flushes, after)
		}
		proxy.disconnect()
	}
}

// FuzzParse hands arbitrary bytes to a stream, before and behind a message that is right.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(said{at: 9, counters: both(10, 1, 5, 0), times: map[string][]uint64{"cluster.shop/canary/80.upstream_rq_time": {1, 2, 5}}}.message(f))
	f.Add(said{at: 9, counters: map[string]float64{"cluster.shop/canary/80/h2c.grpc.total": 5, "cluster.shop/canary/80/h2c.grpc.14": 9}}.message(f))
	f.Fuzz(func(t *testing.T, message []byte) {
		h := newHand(t)
		tap, proxy := h.open(), h.connect("a")
		proxy.flush(both(10, 1, 5, 0))
		h.pass(time.Second)
		proxy.raw(message)
		r := tap.Take(time.Time{})
		for _, a := range []Arm{r.Stable, r.Canary} {
			if n, x := a.Requests.N, a.Requests.X; !(n >= 0 && n <= 1e15 && x >= 0 && x <= n) {
				t.Errorf("%+v", a.Requests)
			}
			for i := 1; i < len(a.Latency); i++ {
				if !(a.Latency[i].Le > a.Latency[i-1].Le && a.Latency[i].Count >= a.Latency[i-1].Count) {
					t.Errorf("%+v", a.Latency)
				}
			}
		}
		if n := len(r.Why); n > maxWhy+len("…") {
			t.Errorf("a sentence of %d bytes", n)
		}
		proxy.disconnect()
	})
}
