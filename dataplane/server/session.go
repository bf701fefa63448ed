// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
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
//	clusters removed            when no route table, filter or listener the proxy may have
//	                            names them
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

func newSession(endpoints func(string) *resource) *session {
	s := &session{
		endpoints: endpoints,
		inflight:  map[string]*response{},
		warming:   map[string]warming{},
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
			for name := range t.resources[k] {
				s.wants(ref{kind(k), name}, 1)
			}
		}
		return
	}
	for k, names := range changed {
		for _, name := range names {
			if kind(k) != kindEndpoints || t.resources[k][name] != nil { // a mix that is gone is kept until its cluster goes
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
	want := s.target.resources[r.kind][r.name]
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
			return mixed(s.target.resources[kindEndpoints][name], s.endpoints)
		}
		return s.endpoints(name)
	}
	if s.target == nil {
		return nil
	}
	if r := s.target.resources[k][name]; r != nil || k != kindRuntime {
		return r
	}
	// A proxy waits for each runtime layer it was started with, also for one this
	// server does not know.
	return newResource(kindRuntime, name, &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{}}, 0)
}

// mayKnow tells whether the endpoints of a cluster are this proxy's business: the cluster
// is in its configuration, or was and is not removed yet. A proxy that asks for others,
// or says it had them from another server, is told nothing of other Gateways' upstreams.
func (s *session) mayKnow(cluster string) bool {
	if s.target != nil && s.target.resources[kindCluster][cluster] != nil {
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
	for name, mix := range s.target.resources[kindEndpoints] {
		if slices.Contains(mix.refs, ref{kindEndpoints, cluster}) {
			s.types[kindEndpoints].dirty.push(name)
		}
	}
}

// isPublished tells whether a resource is one of those whose acknowledgement is waited for:
// all of a published target. Of the endpoints these are the mixes.
func (s *session) isPublished(k kind, name string) bool {
	return k != kindEndpoints || s.target != nil && s.target.resources[kindEndpoints][name] != nil
}

// reconsiderAll marks everything of a kind that the proxy has or should have.
func (s *session) reconsiderAll(k kind) {
	sub := &s.types[k]
	names := slices.Collect(maps.Keys(sub.last))
	names = slices.AppendSeq(names, maps.Keys(sub.names))
	if s.target != nil {
		names = slices.AppendSeq(names, maps.Keys(s.target.resources[k]))
	}
	slices.Sort(names)
	for _, name := range names {
		sub.dirty.push(name)
	}
}

// request is what a proxy asks for or answers.
type request struct {
	kind                   kind
	nonce                  string
	subscribe, unsubscribe []string
	initial                map[string]string // name → version
	refused                bool
	message                string
}

// receive takes a request.
func (s *session) receive(r request) {
	if answered := s.inflight[r.nonce]; r.nonce != "" && answered != nil && answered.kind == r.kind {
		delete(s.inflight, r.nonce)
		if r.refused {
			s.refuse(answered, r.message)
		} else {
			s.accept(answered)
		}
	}
	sub := &s.types[r.kind]
	if !sub.seen && r.nonce == "" { // else a late answer, after the proxy left the type
		s.begin(r)
	}
	for _, name := range r.subscribe {
		if name == "*" {
			continue
		}
		sub.names[name] = true
		sub.dirty.push(name)
		// Who subscribes again has dropped what he had, or would not ask.
		if sub.last[name] != nil && r.initial == nil {
			sub.force[name] = true
		}
	}
	for _, name := range r.unsubscribe {
		if name == "*" {
			s.leave(r.kind)
		} else {
			s.forget(r.kind, name)
		}
	}
	if len(r.unsubscribe) > 0 && r.kind.namesClusters() {
		s.routesSettled()
	}
}

// isWildcard tells whether proxies ask for all resources of a type at once.
func isWildcard(k kind) bool { return k == kindCluster || k == kindListener || k == kindRoute }

// leave drops all of a type that a proxy asks for no more, as it does for route tables when
// its last listener that had any is gone.
func (s *session) leave(k kind) {
	sub := &s.types[k]
	names := slices.Collect(maps.Keys(sub.last))
	names = slices.AppendSeq(names, maps.Keys(sub.held))
	for _, name := range names {
		s.forget(k, name)
	}
	sub.seen, sub.owed, sub.half = false, false, nil
	s.reconsiderAll(k)
}

// begin takes the first request of a type on this stream. After a reconnect it
// lists what the proxy still has.
func (s *session) begin(r request) {
	sub := &s.types[r.kind]
	sub.seen = true
	if isWildcard(r.kind) {
		sub.owed = true
	}
	sub.claimed = len(r.initial) > 0
	for name, version := range r.initial {
		had := &resource{kind: r.kind, name: name, version: version, opaque: true}
		if want := s.wanted(r.kind, name); want != nil && want.version == version {
			had = want
		}
		sub.held[name], sub.last[name] = had, had
		if s.target != nil {
			s.wants(ref{r.kind, name}, 1)
		}
	}
	s.reconsiderAll(r.kind)
	s.routesSettled()
}

// forget drops a name the proxy no longer asks for, and with it what it had.
func (s *session) forget(k kind, name string) {
	sub := &s.types[k]
	for _, m := range []map[string]*resource{sub.held, sub.last} {
		delete(m, name)
	}
	for _, m := range []map[string]bool{sub.names, sub.force, sub.alone} {
		delete(m, name)
	}
	sub.dirty.drop(name)
	delete(sub.refused, name)
	delete(sub.maybe, name)
	if s.target != nil && s.isPublished(k, name) {
		s.wants(ref{k, name}, s.target.version)
	}
}

// accept records an acknowledgement.
func (s *session) accept(r *response) {
	sub := &s.types[r.kind]
	for _, res := range r.resources {
		if sub.last[res.name] == nil {
			continue // removed, or no longer subscribed, meanwhile
		}
		sub.held[res.name] = res
		delete(sub.maybe, res.name)
		if s.target == nil || !s.isPublished(r.kind, res.name) {
			continue
		}
		delete(s.pending, ref{r.kind, res.name})
		s.wants(ref{r.kind, res.name}, max(res.since, 1)+1)
	}
	for _, name := range r.removed {
		if sub.last[name] == nil {
			delete(sub.held, name)
		}
		delete(sub.maybe, name)
		delete(sub.refused, name)
		if s.target != nil {
			s.wants(ref{r.kind, name}, s.target.version)
		}
	}
	s.warmed(r)
	if r.kind.namesClusters() || r.kind == kindListener {
		s.routesSettled()
	}
}

// warmed ends the waiting for clusters: their endpoints and secrets arrived, or the proxy
// acknowledged the clusters themselves, which it does only when all are warm. Unknown
// endpoints count as neither.
func (s *session) warmed(r *response) {
	switch r.kind {
	case kindEndpoints:
		for _, res := range r.resources {
			if w, ok := s.warming[res.name]; ok && r.nonce > w.nonce && !res.unknown {
				w.filled = true
				s.warming[res.name] = w
				s.warmedBySecrets(res.name)
			}
		}
	case kindSecret:
		for name, w := range s.warming {
			if w.filled {
				s.warmedBySecrets(name)
			}
		}
	case kindCluster:
		for _, res := range r.resources {
			endpoints := s.types[kindEndpoints].last[res.name]
			told := res.resolved || endpoints != nil && !endpoints.unknown
			if w, ok := s.warming[res.name]; ok && r.nonce >= w.nonce && told {
				delete(s.warming, res.name)
			}
		}
	}
}

// warmedBySecrets ends the waiting for a cluster with endpoints when the proxy has the secrets
// that it names too: without them it opens no connection.
func (s *session) warmedBySecrets(name string) {
	cluster := s.types[kindCluster].last[name]
	if slices.ContainsFunc(cluster.refs, func(secret ref) bool { return s.types[kindSecret].held[secret.name] == nil }) {
		return
	}
	delete(s.warming, name)
	// The proxy has it now, whenever it says so.
	s.types[kindCluster].held[name] = cluster
	if s.target != nil {
		s.wants(ref{kindCluster, name}, s.target.version)
	}
}

// refuse records a refusal. Of several resources in one response some may have been
// taken and some not, so each is sent once more, alone. A single one is not sent again until
// its content changes.
func (s *session) refuse(r *response, message string) {
	sub := &s.types[r.kind]
	if len(r.resources) > 1 {
		for _, res := range r.resources {
			if r.kind == kindRoute {
				sub.maybe[res.name] = append(sub.maybe[res.name], res)
				sub.half = append(sub.half, res.name)
			}
			if sub.last[res.name] == res {
				sub.dirty.push(res.name)
				sub.force[res.name], sub.alone[res.name] = true, true
			}
		}
		return
	}
	for _, res := range r.resources {
		sub.refused[res.name] = refusal{res, message}
		sub.maybe[res.name] = slices.DeleteFunc(sub.maybe[res.name], func(m *resource) bool { return m.version == res.version })
		if r.kind == kindCluster {
			delete(s.warming, res.name)
		}
		if sub.held[res.name] == res {
			// Taken for accepted, because its endpoints were.
			delete(sub.held, res.name)
			if s.target != nil {
				s.wants(ref{r.kind, res.name}, max(res.since, 1))
			}
		}
	}
}

// routesSettled is called when more became known of the route tables in the proxy:
// clusters and runtime keys may have become free.
func (s *session) routesSettled() {
	sub := &s.types[kindCluster]
	for name := range sub.last {
		if s.wanted(kindCluster, name) == nil {
			sub.dirty.push(name)
		}
	}
	for name, last := range s.types[kindRuntime].last {
		if last.base != nil {
			s.types[kindRuntime].dirty.push(name)
		}
	}
}

func (s *session) issue(k kind, resources []*resource, removed []string) *response {
	s.nonce++
	slices.SortFunc(resources, func(a, b *resource) int { return strings.Compare(a.name, b.name) })
	slices.Sort(removed)
	r := &response{kind: k, nonce: s.nonce, resources: resources, removed: removed}
	s.inflight[nonceString(s.nonce)] = r
	sub := &s.types[k]
	sub.owed = false
	for _, res := range resources {
		sub.last[res.name] = res
		sub.dirty.drop(res.name)
		delete(sub.force, res.name)
		delete(sub.alone, res.name)
	}
	for _, name := range removed {
		delete(sub.last, name)
		sub.dirty.drop(name)
		if k == kindCluster {
			// Should it come back, it is new to the proxy.
			delete(sub.held, name)
		}
	}
	return r
}

func nonceString(n uint64) string { return strconv.FormatUint(n, 10) }

// mergedRuntime adds to the published keys of a layer those the proxy still has.
func mergedRuntime(want, last *resource) *resource {
	if last == nil || last.message == nil {
		return want
	}
	merged := proto.Clone(want.message).(*runtimev3.Runtime)
	added := false
	for key, value := range last.message.GetLayer().GetFields() {
		if _, ok := merged.GetLayer().GetFields()[key]; ok {
			continue
		}
		if merged.Layer.Fields == nil {
			merged.Layer.Fields = map[string]*structpb.Value{}
		}
		merged.Layer.Fields[key] = value
		added = true
	}
	if !added {
		return want
	}
	r := newResource(kindRuntime, want.name, merged, want.since)
	r.base = want
	return r
}
