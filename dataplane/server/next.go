// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// next gives the next response, or nil when there is nothing to send now; then
// wake is when to ask again even if nothing happens, zero for never.
func (s *session) next(now time.Time) (r *response, wake time.Time) {
	if s.target != nil {
		if r := s.nextNamed(kindRuntime, now); r != nil {
			return r, time.Time{}
		}
	}
	// Endpoints do not wait for a gateway's first configuration: they have none to wait for.
	if r := s.nextNamed(kindEndpoints, now); r != nil || s.target == nil {
		return r, time.Time{}
	}
	for _, step := range []func(time.Time) *response{
		s.nextClusters,
		func(now time.Time) *response { return s.nextNamed(kindSecret, now) },
		s.nextRoutes,
		func(now time.Time) *response { return s.nextNamed(kindFilter, now) },
		s.nextListeners,
		s.nextRouteRemovals,
		s.nextRemovals,
	} {
		if r := step(now); r != nil {
			return r, time.Time{}
		}
	}
	return nil, s.wake(now)
}

// nextNamed gives one resource of a type that is subscribed by name.
func (s *session) nextNamed(k kind, now time.Time) *response {
	sub := &s.types[k]
	for len(sub.dirty.order) > 0 {
		name, want := s.firstDue(k, now)
		if want == nil {
			return nil
		}
		if k == kindRuntime && !s.routesKnown(true) {
			want = mergedRuntime(want, sub.last[name], s.diversions)
		}
		if sub.force[name] || sub.last[name] == nil || sub.last[name].version != want.version {
			return s.issue(k, []*resource{want}, nil)
		}
		s.regard(k, want)
	}
	return nil
}

// regard takes note that the proxy was sent a content before, under whatever name.
func (s *session) regard(k kind, want *resource) {
	sub := &s.types[k]
	sub.dirty.drop(want.name)
	sub.last[want.name] = want
	if held := sub.held[want.name]; held != nil && held.version == want.version {
		sub.held[want.name] = want
	}
	if s.isPublished(k, want.name) {
		s.wants(ref{k, want.name}, max(want.since, 1))
	}
}

// firstDue finds the first dirty name that may go, and forgets those that need not.
func (s *session) firstDue(k kind, now time.Time) (string, *resource) {
	sub := &s.types[k]
	for i := 0; i < len(sub.dirty.order); {
		name := sub.dirty.order[i]
		want := s.wanted(k, name)
		switch {
		case !sub.names[name], want == nil, !sub.force[name] && s.isRefused(k, name, want):
			sub.dirty.drop(name)
		case k == kindFilter && s.anyCold(want, now), k == kindEndpoints && s.mustWait(want):
			i++
		default:
			return name, want
		}
	}
	return "", nil
}

// mustWait tells whether endpoints that are unknown should not be sent as none: a proxy
// that has some keeps them until they are known, as after a restart of the server.
// One that has not gets none for the time being, or it would not finish its start.
func (s *session) mustWait(want *resource) bool {
	return want.unknown && (s.target == nil || s.types[kindEndpoints].last[want.name] != nil)
}

// nextClusters gives all clusters that are new or changed. Behind each changed one
// its endpoints go again: Envoy does not ask for them anew, and would wait.
func (s *session) nextClusters(now time.Time) *response {
	sub := &s.types[kindCluster]
	if !sub.seen {
		return nil
	}
	due := s.dueOf(kindCluster, func(*resource) bool { return true })
	if len(due) == 0 && !sub.owed {
		return nil
	}
	r := s.issue(kindCluster, due, nil)
	for _, res := range due {
		fresh := sub.held[res.name] == nil || s.warming[res.name].fresh
		s.warming[res.name] = warming{nonce: r.nonce, deadline: now.Add(warmWait), fresh: fresh}
		if endpoints := &s.types[kindEndpoints]; endpoints.names[res.name] {
			endpoints.dirty.push(res.name)
			endpoints.force[res.name] = true
		}
	}
	return r
}

// nextRoutes gives a route table that is new or changed and whose clusters are warm. The
// first answer has all of them, because a proxy takes its listeners into use with it.
// After that each goes alone: of several in a refused response Envoy takes some into its
// books and not into use, and then believes to have them when they are sent again. Should the
// first answer be refused, its tables are removed before they are sent one by one.
func (s *session) nextRoutes(now time.Time) *response {
	sub := &s.types[kindRoute]
	if !sub.seen || sub.owed && s.routesWait(now) {
		return nil
	}
	if sub.owed {
		return s.issue(kindRoute, s.dueOf(kindRoute, func(*resource) bool { return true }), nil)
	}
	if half := sub.half; len(half) > 0 {
		sub.half = nil
		r := s.issue(kindRoute, nil, half)
		for _, name := range half {
			sub.dirty.push(name)
		}
		return r
	}
	for i := 0; i < len(sub.dirty.order); {
		name := sub.dirty.order[i]
		want := s.wanted(kindRoute, name)
		switch {
		case want == nil && sub.last[name] != nil:
			i++ // to be removed
		case want == nil, !sub.force[name] && s.isRefused(kindRoute, name, want), !sub.force[name] && sub.last[name].standsFor(want):
			sub.dirty.drop(name)
		case s.anyCold(want, now):
			i++
		default:
			return s.issue(kindRoute, []*resource{want}, nil)
		}
	}
	return nil
}

// routesWait tells whether a route table waits for its clusters.
func (s *session) routesWait(now time.Time) bool {
	return slices.ContainsFunc(s.types[kindRoute].dirty.order, func(name string) bool {
		table := s.wanted(kindRoute, name)
		return table != nil && s.anyCold(table, now)
	})
}

// nextListeners gives the listeners that are new or changed, or else those to remove.
// New ones wait until no route table has to wait any more: what they serve is then sent.
func (s *session) nextListeners(now time.Time) *response {
	sub := &s.types[kindListener]
	if !sub.seen {
		return nil
	}
	waiting := false
	due := s.dueOf(kindListener, func(listener *resource) bool {
		cold := s.anyCold(listener, now) || listener.routed && s.routesWait(now)
		for _, r := range listener.refs {
			if r.kind == kindFilter {
				filter := s.wanted(r.kind, r.name)
				cold = cold || filter != nil && s.anyCold(filter, now)
			}
		}
		waiting = waiting || cold
		return !cold
	})
	if len(due) > 0 {
		return s.issue(kindListener, due, nil)
	}
	removed := s.leftOver(kindListener)
	if len(removed) > 0 || sub.owed && !waiting {
		return s.issue(kindListener, nil, removed)
	}
	return nil
}

// nextRouteRemovals gives the route tables that are left over. They go after the listeners
// that had them, and after the tables that take over their hosts.
func (s *session) nextRouteRemovals(now time.Time) *response {
	if !s.types[kindRoute].seen || s.routesWait(now) {
		return nil
	}
	if removed := s.leftOver(kindRoute); len(removed) > 0 {
		return s.issue(kindRoute, nil, removed)
	}
	return nil
}

// dueOf collects the dirty resources of a wildcard type that differ from what was
// sent and may go. One that must be alone comes alone.
func (s *session) dueOf(k kind, may func(*resource) bool) []*resource {
	sub := &s.types[k]
	var due []*resource
	for _, name := range sub.dirty.names() {
		want := s.wanted(k, name)
		switch {
		case want == nil && sub.last[name] != nil:
			continue // to be removed
		case want == nil, !sub.force[name] && s.isRefused(k, name, want), !sub.force[name] && sub.last[name].standsFor(want):
			sub.dirty.drop(name)
		case !may(want):
		case sub.alone[name]:
			return []*resource{want}
		default:
			due = append(due, want)
		}
	}
	return due
}

// leftOver lists the dirty names that the proxy has and should not have.
func (s *session) leftOver(k kind) []string {
	sub := &s.types[k]
	var names []string
	for _, name := range sub.dirty.order {
		if sub.last[name] != nil && s.wanted(k, name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// possibleRoutes lists every content of a route table or filter that the proxy may serve by now.
func (s *session) possibleRoutes() []*resource {
	return append(s.possibly(kindRoute), s.possibly(kindFilter)...)
}

// possibly lists every content of a kind that the proxy has or may have by now.
func (s *session) possibly(k kind) []*resource {
	all := slices.Collect(maps.Values(s.types[k].held))
	for _, maybe := range s.types[k].maybe {
		all = append(all, maybe...)
	}
	for _, r := range s.inflight {
		if r.kind == k {
			all = append(all, r.resources...)
		}
	}
	return all
}

// routesKnown tells whether it is known what every route table in the proxy says,
// and, if current, that it says what it should.
func (s *session) routesKnown(current bool) bool {
	if !s.routesArrived() && !s.eachRouteKnown(current) {
		return false
	}
	if !s.types[kindListener].seen {
		// A proxy that has not come to its listeners has no route tables, unless it
		// was connected before.
		return !s.types[kindCluster].claimed
	}
	for _, listener := range s.types[kindListener].held {
		if listener.opaque || listener.routed && !s.types[kindRoute].seen {
			return false
		}
		for _, r := range listener.refs {
			if r.kind == kindFilter && s.types[r.kind].held[r.name] == nil {
				return false
			}
		}
	}
	return true
}

// routesArrived tells whether the proxy has every route table and filter that it should have, and
// nothing else of them, without a look at each: there is nothing that it lacks, and nothing under way.
func (s *session) routesArrived() bool {
	if s.target == nil {
		return false
	}
	for _, k := range []kind{kindRoute, kindFilter} {
		sub := &s.types[k]
		if len(sub.maybe) > 0 || len(sub.held) != s.target.resources[k].len() {
			return false
		}
	}
	for r := range s.pending {
		if r.kind.namesClusters() {
			return false
		}
	}
	for _, r := range s.inflight {
		if r.kind.namesClusters() {
			return false
		}
	}
	return true
}

// eachRouteKnown looks at each.
func (s *session) eachRouteKnown(current bool) bool {
	for _, table := range s.possibleRoutes() {
		if table.opaque {
			return false
		}
		if want := s.wanted(table.kind, table.name); current && (want == nil || !table.standsFor(want)) {
			return false
		}
	}
	return true
}

// anyCold tells whether a route table, filter or listener names a cluster that the proxy should get and
// cannot use yet.
func (s *session) anyCold(table *resource, now time.Time) bool {
	return slices.ContainsFunc(table.refs, func(r ref) bool { return r.kind == kindCluster && s.isCold(r.name, now) })
}

func (s *session) isCold(name string, now time.Time) bool {
	want := s.wanted(kindCluster, name)
	sub := &s.types[kindCluster]
	switch {
	case want == nil, s.isRefused(kindCluster, name, want):
		return false
	case s.warming[name].fresh:
		return now.Before(s.warming[name].deadline)
	}
	return sub.last[name] == nil
}

func (s *session) isRefused(k kind, name string, want *resource) bool {
	refused, ok := s.types[k].refused[name]
	return ok && refused.resource.standsFor(want)
}

// wake is the next moment at which waiting for a cluster ends, or its linger.
func (s *session) wake(now time.Time) time.Time {
	var first time.Time
	if s.lingering.next.After(now) {
		first = s.lingering.next
	}
	for _, w := range s.warming {
		if w.deadline.After(now) && (first.IsZero() || w.deadline.Before(first)) {
			first = w.deadline
		}
	}
	return first
}

// issue makes a response, and notes what it holds as what was sent last.
func (s *session) issue(k kind, resources []*resource, removed []string) *response {
	s.nonce++
	slices.SortFunc(resources, func(a, b *resource) int { return strings.Compare(a.name, b.name) })
	slices.Sort(removed)
	r := &response{kind: k, nonce: s.nonce, resources: resources, removed: removed}
	s.inflight[nonceString(s.nonce)] = r
	sub := &s.types[k]
	sub.owed = false
	for _, res := range resources {
		s.named(res)
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
