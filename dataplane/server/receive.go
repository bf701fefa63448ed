// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"
)

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
	s.lingering.clear() // what it brought along may name any of them
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
		if s.wanted(kindCluster, name) == nil && !s.lingering.has(name) {
			sub.dirty.push(name)
		}
	}
	for name, last := range s.types[kindRuntime].last {
		if last.base != nil {
			s.types[kindRuntime].dirty.push(name)
		}
	}
}
