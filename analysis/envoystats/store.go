// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package envoystats counts the requests of releases from what the proxies say of
// themselves once a second, by Envoy's metrics service:
//
//	proxy ─ flush ─▶ Serve ─▶ parse ─▶ what each open Tap wants of it ─▶ Take
//	      ─ loads ─▶ ServeLoads ─▶ the endpoints of stable ─┘
//
// A flush has the counts of the second since the one before, not since the start. So
// nothing has to be kept of what nobody asks for, a proxy that starts again does not count
// back, and one that goes away takes nothing with it. What is lost is a whole second of a
// proxy, of both versions alike: a flush is in one Reading with both versions or in none.
package envoystats

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis/sequential"
)

// Versions names what is counted. Upstreams are "namespace/service/port"; whatever
// protocol a proxy speaks to them, in a cluster of its own, is part of it.
type Versions struct {
	// Gateways are those whose proxies are listened to: the ones that the release's routes
	// belong to. A proxy of another Gateway has no say in it.
	Gateways       []types.NamespacedName
	Stable, Canary []string
}

// Arm is what one version did.
type Arm struct {
	// Requests are those of clients that were answered, once each whatever was tried to
	// answer them, and the bad ones among them: answers of 5xx, and gRPC calls
	// that ended by the server's fault. A client that went away counts neither way.
	Requests sequential.Counts
	// Latency is a cumulative histogram of the times of these requests in seconds, its last
	// bound +Inf; empty when no request has a time, as it is with resets.
	Latency []sequential.Bucket
	// Classes are the requests by what became of them.
	Classes Classes
}

// Pod is one endpoint of stable.
type Pod struct {
	// Name is its address, host:port.
	Name string
	// Requests are the tries that it answered, and the bad ones among them.
	Requests sequential.Counts
}

// Reading is what came since the Reading before.
type Reading struct {
	Stable, Canary Arm
	// StablePods are the endpoints of Stable that answered, in order of their names. They are
	// reported on their own, so their sum is not that of Stable: it can be of a second before or after.
	StablePods []Pod
	// Proxies counts the proxies that report now, Silent those that are connected and have
	// not done so for a while.
	Proxies, Silent int
	// Newest is the end of the newest interval that a proxy reported, whether it had
	// requests in it or not; zero when none ever did.
	Newest time.Time
	// Usual is the time from flush to flush of the proxies that report now, of the slowest of them; zero
	// while none has done so twice.
	Usual time.Duration
	// Early counts the flushes that were left out because they began too early.
	Early int
	// Late counts the flushes that came after more than LateAfter: an interval so long may hide
	// when something happened in it.
	Late int
	// Gaps counts the proxies that began to report, once each time: what such a proxy did before is not known.
	Gaps int
	// Dropped counts the flushes that were refused because they cannot be true; Why says what
	// was wrong with the last one.
	Dropped int
	Why     string
}

// LateAfter is how long a flush may take to come after the one before. A proxy flushes
// once a second unless its Gateway's settings say otherwise.
const LateAfter = 2500 * time.Millisecond

const (
	// silentAfter is how many of its usual intervals a proxy may be silent.
	silentAfter = 3
	// maxPending bounds the flushes that wait to be taken; the oldest are folded into one.
	maxPending = 512
	// maxWhy bounds a sentence that a proxy has a part in.
	maxWhy = 200
)

// Store has the streams of all proxies. Its methods may be called at the same time.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	streams map[types.NamespacedName]map[*stream]bool
	// left has the proxies that went away a moment ago, and when they flushed last.
	left map[proxy]time.Time
	taps map[*Tap]bool
	// askers are told when there are other taps.
	askers map[chan struct{}]bool
	wanted map[types.NamespacedName]map[string]*upstream // read without mu, replaced with it
	// listeners are the taps by Gateway.
	listeners map[types.NamespacedName][]*Tap
}

// upstream is an upstream that somebody wants. It does not change.
type upstream struct {
	name string
	by   []want
}

type want struct {
	tap *Tap
	arm int
}

// New makes a Store that has heard nothing. Now is the clock.
func New(now func() time.Time) *Store {
	return &Store{
		now:     now,
		streams: map[types.NamespacedName]map[*stream]bool{},
		left:    map[proxy]time.Time{},
		taps:    map[*Tap]bool{},
		askers:  map[chan struct{}]bool{},
		wanted:  map[types.NamespacedName]map[string]*upstream{},
	}
}

// Tap counts for one release.
type Tap struct {
	store    *Store
	versions Versions
	arrived  chan struct{}

	// What follows is guarded by the store's mu.
	pending             []record
	loads               []loads
	late, gaps, dropped int
	why                 string
}

// Open begins to count. What was flushed before is not known.
func (s *Store) Open(v Versions) *Tap {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &Tap{store: s, arrived: make(chan struct{}, 1), versions: Versions{
		Gateways: slices.Clone(v.Gateways), Stable: slices.Clone(v.Stable), Canary: slices.Clone(v.Canary),
	}}
	s.taps[t] = true
	s.rewire()
	return t
}

// Arrived is sent to when a proxy of one of the Gateways flushed. What is sent while nobody
// receives is dropped, but for one.
func (t *Tap) Arrived() <-chan struct{} { return t.arrived }

// Close ends the counting.
func (t *Tap) Close() {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	delete(t.store.taps, t)
	t.pending, t.loads = nil, nil
	t.store.rewire()
}

// rewire makes the tables anew that streams look into. mu is held.
func (s *Store) rewire() {
	wanted := map[types.NamespacedName]map[string]*upstream{}
	listeners := map[types.NamespacedName][]*Tap{}
	for t := range s.taps {
		for _, gateway := range t.versions.Gateways {
			listeners[gateway] = append(listeners[gateway], t)
			if wanted[gateway] == nil {
				wanted[gateway] = map[string]*upstream{}
			}
			for arm, names := range [arms][]string{t.versions.Stable, t.versions.Canary} {
				for _, name := range names {
					up := wanted[gateway][name]
					if up == nil {
						up = &upstream{name: name}
						wanted[gateway][name] = up
					}
					if w := (want{tap: t, arm: arm}); !slices.Contains(up.by, w) {
						up.by = append(up.by, w)
					}
				}
			}
		}
	}
	s.wanted, s.listeners = wanted, listeners
	for changed := range s.askers {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// Take gives what came since the Take before. Only flushes whose interval began at or after
// since are in it; the others that came are left out for good.
func (t *Tap) Take(since time.Time) Reading {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	r := Reading{Late: t.late, Gaps: t.gaps, Dropped: t.dropped, Why: t.why}
	var sum [arms]part
	for i := range t.pending {
		p := &t.pending[i]
		if p.begin.Before(since) {
			r.Early++
			continue
		}
		for arm := range sum {
			sum[arm].add(&p.arms[arm])
		}
	}
	t.pending = slices.Delete(t.pending, 0, len(t.pending))
	t.late, t.gaps, t.dropped, t.why = 0, 0, 0, ""
	r.Stable, r.Canary = sum[stable].reading(), sum[canary].reading()
	r.StablePods = t.takePods(since)
	now := t.store.now()
	for _, gateway := range t.versions.Gateways {
		for st := range t.store.streams[gateway] {
			switch {
			case st.end.IsZero():
			case now.Sub(st.arrived) > silentAfter*max(st.usual, LateAfter/2):
				r.Silent++
			default:
				r.Proxies++
				r.Usual = max(r.Usual, st.usual)
			}
			if st.end.After(r.Newest) {
				r.Newest = st.end
			}
		}
	}
	return r
}

func (p *part) reading() Arm {
	return Arm{Requests: p.counts, Latency: p.times.buckets(), Classes: p.classes}
}

// tapsOf are those that listen to a gateway, in any order. mu is held.
func (s *Store) tapsOf(gateway types.NamespacedName) []*Tap {
	return s.listeners[gateway]
}

func (t *Tap) add(r record) {
	if len(t.pending) >= maxPending {
		slices.SortFunc(t.pending, func(a, b record) int { return cmp.Compare(a.end.UnixNano(), b.end.UnixNano()) })
		for i := range maxPending / 2 {
			t.pending[0].fold(&t.pending[i+1])
		}
		t.pending = slices.Delete(t.pending, 1, maxPending/2+1)
	}
	t.pending = append(t.pending, r)
}
