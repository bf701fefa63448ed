// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"cmp"
	"errors"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// stream is one proxy that reports. The first group is its own goroutine's, the second is
// guarded by the store's mu.
type stream struct {
	flush flush
	clock clock

	arrived, end time.Time
	// usual is the shorter of the last two intervals, the last of which is latest: one gap is not usual.
	usual, latest time.Duration
	node          string
}

const (
	// maxNode bounds the name that a proxy gives itself; that of a pod is shorter.
	maxNode = 253
	// rememberFor is how long a proxy that went is known.
	rememberFor = time.Minute
)

// Serve takes the flushes of one proxy of a gateway, until receive gives an error, which
// it returns. Receive gives one message of Envoy's metrics service at a time, as it came;
// the bytes are not used after the next call. The caller has made sure that the proxy
// belongs to the gateway. A message that cannot be true is refused whole and counted by
// those who wanted something of it; the stream goes on.
func (s *Store) Serve(gateway types.NamespacedName, node string, receive func() ([]byte, error)) error {
	st := s.attach(gateway, node)
	defer s.detach(gateway, st)
	for {
		message, err := receive()
		if err != nil {
			return err
		}
		s.take(gateway, st, message)
	}
}

func (s *Store) attach(gateway types.NamespacedName, node string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &stream{node: node[:min(len(node), maxNode)]}
	st.clock.begun = s.lastFlush(gateway, st.node)
	if s.streams[gateway] == nil {
		s.streams[gateway] = map[*stream]bool{}
	}
	s.streams[gateway][st] = true
	for _, t := range s.tapsOf(gateway) {
		t.gaps++
	}
	return st
}

func (s *Store) detach(gateway types.NamespacedName, st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !st.end.IsZero() {
		s.left[proxy{gateway, st.node}] = st.end
	}
	delete(s.streams[gateway], st)
	if len(s.streams[gateway]) == 0 {
		delete(s.streams, gateway)
	}
}

// proxy is a proxy by the name that it gives itself.
type proxy struct {
	gateway types.NamespacedName
	node    string
}

// lastFlush is when a proxy flushed last on a stream that has ended: the first flush of its next stream
// is about what came after, even if the proxy was started again in between. It is zero when
// that is not known, or while another stream has the same name. mu is held.
func (s *Store) lastFlush(gateway types.NamespacedName, node string) time.Time {
	now := s.now()
	maps.DeleteFunc(s.left, func(_ proxy, end time.Time) bool { return now.Sub(end) > rememberFor })
	for st := range s.streams[gateway] {
		if st.node == node {
			return time.Time{}
		}
	}
	return s.left[proxy{gateway, node}]
}

// Why a flush is refused as a whole.
var (
	errTwice  = errors.New("the same flush came twice")
	errNoTime = errors.New("the flush does not say when it was made")
)

// take reads one message and hands out what is wanted of it.
func (s *Store) take(gateway types.NamespacedName, st *stream, message []byte) {
	arrival := s.now()
	s.mu.Lock()
	wanted := s.wanted[gateway]
	s.mu.Unlock()

	f := &st.flush
	f.begin(wanted)
	err := f.parse(message, wanted)
	switch {
	case err != nil:
	case f.at <= 0:
		err = errNoTime
	case f.at == st.clock.last:
		err = errTwice
	}
	var settled []settlement
	if err == nil {
		settled, err = f.settle()
	}
	before := st.clock.last
	var begin, end time.Time
	if f.at > 0 && f.at != before { // a flush that is refused ends an interval all the same
		begin, end = st.clock.interval(f.at, arrival)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refuse(gateway, err)
		return
	}
	interval := time.Duration(f.at-before) * time.Millisecond
	if before != 0 && interval > 0 {
		st.usual, st.latest = min(cmp.Or(st.latest, interval), interval), interval
	}
	st.arrived, st.end = arrival, end
	if before != 0 && interval > LateAfter {
		for _, t := range s.tapsOf(gateway) {
			t.late++
		}
	}
	s.commit(settled, begin, end)
	for _, t := range s.tapsOf(gateway) {
		select {
		case t.arrived <- struct{}{}:
		default:
		}
	}
}

func (s *Store) refuse(gateway types.NamespacedName, why error) {
	sentence := why.Error()
	if len(sentence) > maxWhy {
		sentence = sentence[:maxWhy] + "…"
	}
	for _, t := range s.tapsOf(gateway) {
		t.dropped++
		t.why = sentence
	}
}

// settlement is what a flush says of one cluster.
type settlement struct {
	cluster *cluster
	part    part
	carry   carry
}

// settle reads what a flush says, and changes nothing.
func (f *flush) settle() ([]settlement, error) {
	var out []settlement
	for _, c := range f.clusters {
		if c.seen == 0 && c.carry == (carry{}) {
			c.before = 0
			continue
		}
		one := settlement{cluster: c}
		one.part.classes = c.classes()
		var err error
		if one.part.counts, one.carry, err = c.settle(&one.part.classes); err != nil {
			return nil, err
		}
		if one.part.times, err = c.clientTimes(); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// commit hands out what the clusters did, all of it to each tap at once. mu is held.
func (s *Store) commit(settled []settlement, begin, end time.Time) {
	var records map[*Tap]*record
	for i := range settled {
		one := &settled[i]
		one.cluster.carry, one.cluster.before = one.carry, one.part.counts.N
		for _, w := range one.cluster.upstream.by {
			if !s.taps[w.tap] || one.part.empty() {
				continue
			}
			if records == nil {
				records = map[*Tap]*record{}
			}
			if records[w.tap] == nil {
				records[w.tap] = &record{begin: begin, end: end}
			}
			records[w.tap].arms[w.arm].add(&one.part)
		}
	}
	for t, r := range records {
		t.add(*r)
	}
}

func (p *part) empty() bool {
	return p.counts.N == 0 && p.counts.X == 0 && p.times.total == 0 && p.classes == Classes{}
}
