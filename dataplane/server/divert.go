// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"time"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

// diversions are those in force. They are not changed once made; a later one has a greater generation.
type diversions struct {
	generation uint64
	away       xds.Diversions
}

// diverted is a Runtime with the weights that the proxies get instead of the published ones.
type diverted struct {
	by       *diversions
	resource *resource
}

// Divert keeps a Service away from the traffic of every Gateway, whatever is published, until
// Restore: in each rule of a route under release, to gets what from has (see xds.Divert). It
// does not wait for a publication that is being made, and sends nothing but the runtime
// keys that differ, ahead of everything else that is due. It is lost with the process.
func (s *Server) Divert(from, to types.NamespacedName) {
	if s.changeDiversions(func(away xds.Diversions) { away[from] = to }) {
		s.options.Log.Info("Diverted a Service", "service", from, "to", to)
	}
}

// Restore ends a diversion: the proxies get what is published.
func (s *Server) Restore(from types.NamespacedName) {
	if s.changeDiversions(func(away xds.Diversions) { delete(away, from) }) {
		s.options.Log.Info("Ended the diversion of a Service", "service", from)
	}
}

// changeDiversions tells whether anything differs. A change and a publication may pass each other
// anywhere: each session has the newest of both and makes of them what its proxy gets.
func (s *Server) changeDiversions(change func(xds.Diversions)) bool {
	start := time.Now()
	s.mu.Lock()
	away := xds.Diversions{}
	maps.Copy(away, s.diversions.away)
	change(away)
	if maps.Equal(away, s.diversions.away) {
		s.mu.Unlock()
		return false
	}
	next := &diversions{generation: s.diversions.generation + 1, away: away}
	s.diversions = next
	streams := make(map[types.NamespacedName][]*stream, len(s.streams))
	for gateway, of := range s.streams {
		for st := range of {
			streams[gateway] = append(streams[gateway], st)
		}
	}
	s.mu.Unlock()
	for gateway, of := range streams {
		behind := false
		for _, st := range of {
			st.do(func(session *session) { behind = session.divert(next) || behind })
		}
		if behind {
			s.pace.diverted.begin(gateway, next.generation, start)
			s.divertAnswered(gateway)
		}
	}
	return true
}

// divertAnswered is called when the proxies of a gateway, or what they have of the diversions, changed.
func (s *Server) divertAnswered(gateway types.NamespacedName) {
	s.mu.Lock()
	generation := s.diversions.generation
	for st := range s.streams[gateway] {
		generation = min(generation, st.progress.Load().diverted)
	}
	s.mu.Unlock()
	s.pace.diverted.reached(gateway, generation, time.Now())
}

// diversionsOf counts the diversions that make a difference to what is published for a gateway.
func (s *Server) diversionsOf(gateway types.NamespacedName) int {
	s.mu.Lock()
	present, away := s.targets[gateway], s.diversions.away
	s.mu.Unlock()
	n := 0
	if present == nil {
		return n
	}
	for from, to := range away {
		for _, r := range present.resources[kindRuntime].all() {
			if xds.Divert(r.message, xds.Diversions{from: to}) != r.message {
				n++
				break
			}
		}
	}
	return n
}

// divert takes new diversions over, and tells whether the proxy has to be sent anything for them.
func (s *session) divert(d *diversions) (behind bool) {
	if d.generation <= s.diversions.generation {
		return false // a newer one was faster
	}
	s.diversions = d
	if s.target == nil {
		return false
	}
	sub := &s.types[kindRuntime]
	for name := range sub.names {
		last := sub.last[name]
		// What was sent last may also have keys of former route tables.
		if !last.standsFor(s.wanted(kindRuntime, name)) || last.message != nil && xds.Divert(last.message, d.away) != last.message {
			sub.dirty.push(name)
			behind = true
		}
	}
	return behind
}

// divertedTo is the newest generation of diversions that the proxy is known to keep to.
func (s *session) divertedTo() uint64 {
	if s.keptTo == s.diversions.generation {
		return s.keptTo
	}
	sub := &s.types[kindRuntime]
	if s.target != nil && !sub.seen {
		return s.keptTo // what it has from an earlier stream is not known yet
	}
	for name := range sub.names {
		held, last, want := sub.held[name], sub.last[name], s.wanted(kindRuntime, name)
		if want != nil && (sub.dirty.has[name] || held == nil || last == nil || held.version != last.version || !held.standsFor(want)) {
			return s.keptTo
		}
	}
	s.keptTo = s.diversions.generation
	return s.keptTo
}

// divertedBy gives a published Runtime as the proxies get it: itself where nothing is diverted in it.
func (r *resource) divertedBy(d *diversions) *resource {
	if r == nil || r.message == nil || len(d.away) == 0 {
		return r
	}
	if made := r.diverted.Load(); made != nil && made.by == d {
		return made.resource // all proxies get one
	}
	out := r
	if message := xds.Divert(r.message, d.away); message != r.message {
		out = newResource(kindRuntime, r.name, message, r.since)
	}
	r.diverted.Store(&diverted{by: d, resource: out})
	return out
}

// mergedRuntime adds to the keys of a layer those that the proxy still has of former route tables, diverted too.
func mergedRuntime(want, last *resource, d *diversions) *resource {
	if last == nil || last.message == nil {
		return want
	}
	fields := maps.Clone(want.message.GetLayer().GetFields())
	added := false
	for key, value := range last.message.GetLayer().GetFields() {
		if _, ok := fields[key]; ok {
			continue
		}
		if fields == nil {
			fields = map[string]*structpb.Value{}
		}
		fields[key] = value
		added = true
	}
	if !added {
		return want
	}
	merged := &runtimev3.Runtime{Name: want.name, Layer: &structpb.Struct{Fields: fields}}
	r := newResource(kindRuntime, want.name, xds.Divert(merged, d.away), want.since)
	r.base = want
	return r
}
