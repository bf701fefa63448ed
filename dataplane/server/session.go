// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"
	"time"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// warmWait bounds how long a route table waits for a new cluster's first endpoints. The
// proxy itself gives up after two seconds (xds: initial_fetch_timeout); the rest is for the way.
const warmWait = 5 * time.Second

// session is the state of one proxy's stream: what it has, what it should have, and what
// is under way. It does no I/O: requests and publications come in as calls of receive,
// publish and endpointsChanged; next gives, one at a time, the responses that bring the
// proxy closer to its target, in an order in which every reference holds:
//
//	runtime keys, endpoints     at once
//	clusters                    at once; endpoints again behind each
//	secrets                     at once
//	route tables, filters       when all clusters they name are warm
//	listeners                   when no route table waits, their filters may go, and all
//	                            clusters they name are warm
//	route tables removed        after that
//	clusters removed            when for the linger no route table, filter or listener the
//	                            proxy may have named them
//	runtime keys removed        when the proxy has the new route tables
//
// Nothing is queued: next compares what the proxy has with the newest target, so a slow
// proxy skips what was replaced meanwhile.
type session struct {
	target *target
	// endpoints looks up the present endpoints of a cluster; never nil.
	endpoints func(cluster string) *resource

	types    [kinds]subscription
	inflight map[string]*response // by nonce
	nonce    uint64
	// warming are the clusters sent and not yet known to be usable.
	warming map[string]warming
	// lingering are the clusters that it has and nothing names.
	lingering lingering
	// diversions are those the proxy has to keep to, keptTo is the generation that it is known to.
	diversions *diversions
	keptTo     uint64
	// pending is, for each published resource that the proxy does not have, the first
	// publish version that asked for another than it has.
	pending map[ref]uint64
}

type ref struct {
	kind kind
	name string
}

// subscription is what a proxy asked for and has, of one type.
type subscription struct {
	seen bool
	// claimed is set when the proxy brought resources along from an earlier stream.
	claimed bool
	// owed is an answer to the first wildcard request, empty if need be: the
	// proxy waits for it.
	owed  bool
	names map[string]bool
	// held is what the proxy acknowledged; last what it was sent last.
	held, last map[string]*resource
	refused    map[string]refusal
	// maybe is what the proxy may have beside held: it stood in a response of several that
	// was refused as a whole, of which a proxy keeps what it did not mind.
	maybe map[string][]*resource
	// half are the names in that response, which the proxy must forget first.
	half []string
	// dirty names may have to be sent; force names must be, changed or not; alone
	// names must be the only one in their response.
	dirty        queue
	force, alone map[string]bool
}

type refusal struct {
	resource *resource
	message  string
}

// response is one message to the proxy, until it is answered.
type response struct {
	kind      kind
	nonce     uint64
	resources []*resource
	removed   []string
}

type warming struct {
	nonce    uint64 // of the response that carried the cluster
	deadline time.Time
	// fresh is set when the proxy had no older form of the cluster to serve from meanwhile.
	fresh bool
	// filled is set when its endpoints have arrived.
	filled bool
}

// newSession begins with a proxy of which nothing is known. Linger is that of Options.
func newSession(endpoints func(string) *resource, linger time.Duration) *session {
	s := &session{
		endpoints: endpoints, diversions: &diversions{},
		inflight:  map[string]*response{},
		warming:   map[string]warming{},
		lingering: newLingering(linger),
		pending:   map[ref]uint64{},
	}
	for k := range s.types {
		s.types[k] = subscription{
			names: map[string]bool{}, held: map[string]*resource{}, last: map[string]*resource{},
			refused: map[string]refusal{}, maybe: map[string][]*resource{}, dirty: newQueue(), force: map[string]bool{}, alone: map[string]bool{},
		}
	}
	return s
}

// publish sets a new target. Changed lists the names whose content differs from
// the previous target's, removals included.
func (s *session) publish(t *target, changed [kinds][]string) {
	first := s.target == nil
	s.target = t
	if first {
		for k := range s.types {
			s.reconsiderAll(kind(k))
			for name := range t.resources[k].names() {
				s.wants(ref{kind(k), name}, 1)
			}
		}
		return
	}
	for k, names := range changed {
		for _, name := range names {
			if kind(k) != kindEndpoints || t.resources[k].get(name) != nil { // a mix that is gone is kept until its cluster goes
				s.types[k].dirty.push(name)
			}
			s.wants(ref{kind(k), name}, t.version)
		}
	}
}

// withdraw leaves the proxy with what it has.
func (s *session) withdraw() {
	s.target = nil
	clear(s.pending)
}

// wants records since when the proxy lacks a resource of the target, or that it lacks none.
func (s *session) wants(r ref, since uint64) {
	sub := &s.types[r.kind]
	want := s.target.resources[r.kind].get(r.name).divertedBy(s.diversions)
	for _, have := range []map[string]*resource{sub.held, sub.last} {
		// Brought along by the proxy, and now known.
		if was := have[r.name]; was != nil && was.opaque && want != nil && was.version == want.version {
			have[r.name] = want
		}
	}
	held, last := sub.held[r.name], sub.last[r.name]
	switch {
	case want == nil && (held == nil || r.kind != kindListener && r.kind != kindRoute):
		// A cluster that is left over serves nobody, so nobody waits for its removal;
		// a listener and a route table do.
		delete(s.pending, r)
	case want != nil && held.standsFor(want) && last.standsFor(want):
		delete(s.pending, r)
	default:
		if _, ok := s.pending[r]; !ok {
			s.pending[r] = since
		}
	}
}

// acked is the newest publish version that the proxy has completely, 0 for none;
// answered is the newest one when what it refuses is left out of account.
func (s *session) acked() (acked, answered uint64) {
	if s.target == nil {
		return 0, 0
	}
	acked, answered = s.target.version, s.target.version
	for r, since := range s.pending {
		acked = min(acked, since-1)
		if want := s.wanted(r.kind, r.name); want == nil || !s.isRefused(r.kind, r.name, want) {
			answered = min(answered, since-1)
		}
	}
	return acked, answered
}

// refusals are those of contents that are still wanted, in the order of kinds and names.
func (s *session) refusals() []Nack {
	if s.target == nil {
		return nil
	}
	var out []Nack
	for k := range s.types {
		for _, name := range slices.Sorted(maps.Keys(s.types[k].refused)) {
			want := s.wanted(kind(k), name)
			if want != nil && s.isRefused(kind(k), name, want) {
				out = append(out, Nack{TypeURL: typeURLs[k], Resource: name, Message: s.types[k].refused[name].message})
			}
		}
	}
	return out
}

// wanted is what the proxy should have under a name, nil for nothing.
func (s *session) wanted(k kind, name string) *resource {
	if k == kindEndpoints {
		if !s.mayKnow(name) {
			return unknownEndpoints(name)
		}
		if s.isPublished(kindEndpoints, name) {
			return mixed(s.target.resources[kindEndpoints].get(name), s.endpoints)
		}
		return s.endpoints(name)
	}
	if s.target == nil {
		return nil
	}
	if r := s.target.resources[k].get(name); r != nil || k != kindRuntime {
		return r.divertedBy(s.diversions)
	}
	// A proxy waits for each runtime layer it was started with, also for one this
	// server does not know.
	return newResource(kindRuntime, name, &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{}}, 0)
}

// mayKnow tells whether the endpoints of a cluster are this proxy's business: the cluster
// is in its configuration, or was and is not removed yet. A proxy that asks for others,
// or says it had them from another server, is told nothing of other Gateways' upstreams.
func (s *session) mayKnow(cluster string) bool {
	if s.target != nil && s.target.resources[kindCluster].get(cluster) != nil {
		return true
	}
	last := s.types[kindCluster].last[cluster]
	return last != nil && !last.opaque
}

// endpointsChanged tells that the lookup gives something new for a cluster.
func (s *session) endpointsChanged(cluster string) {
	s.types[kindEndpoints].dirty.push(cluster)
	if s.target == nil {
		return
	}
	for name, mix := range s.target.resources[kindEndpoints].all() {
		if slices.Contains(mix.refs, ref{kindEndpoints, cluster}) {
			s.types[kindEndpoints].dirty.push(name)
		}
	}
}

// isPublished tells whether a resource is one of those whose acknowledgement is waited for:
// all of a published target. Of the endpoints these are the mixes.
func (s *session) isPublished(k kind, name string) bool {
	return k != kindEndpoints || s.target != nil && s.target.resources[kindEndpoints].get(name) != nil
}

// reconsiderAll marks everything of a kind that the proxy has or should have.
func (s *session) reconsiderAll(k kind) {
	sub := &s.types[k]
	names := slices.Collect(maps.Keys(sub.last))
	names = slices.AppendSeq(names, maps.Keys(sub.names))
	if s.target != nil {
		names = slices.AppendSeq(names, s.target.resources[k].names())
	}
	slices.Sort(names)
	for _, name := range names {
		sub.dirty.push(name)
	}
}
