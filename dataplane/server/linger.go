// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"time"
)

// ClusterLinger is how long a proxy keeps a cluster that no route table, filter or listener names any more,
// if Options.Linger does not say otherwise. A request goes by the route that was chosen for it when
// it came, and Envoy looks the route's cluster up anew for each retry: one that is gone is a 503. So it has to
// stay for as long as such a request may take until its next try. The wait before it is up to ten times the route's
// backoff, which is 25 ms where the route says nothing; what is longer is mostly the try before. Half a
// minute covers a backoff of 3 s, or a try that fails after 30 s.
const ClusterLinger = 30 * time.Second

// lingering are the clusters in a proxy that nothing in it names any more. Unless they are wanted again, they are
// removed when they have been so for the linger; those released shortly after one another go together.
type lingering struct {
	linger time.Duration
	// until is when each may go.
	until map[string]time.Time
	// next is when to look for those that may go, zero for never.
	next time.Time
}

func newLingering(linger time.Duration) lingering {
	if linger <= 0 {
		linger = ClusterLinger
	}
	return lingering{linger: linger, until: map[string]time.Time{}}
}

func (l *lingering) has(name string) bool {
	_, ok := l.until[name]
	return ok
}

// add begins the linger of a cluster.
func (l *lingering) add(name string, now time.Time) {
	l.until[name] = now.Add(l.linger)
	if l.next.IsZero() {
		l.next = l.until[name].Add(l.linger / 10)
	}
}

// drop tells whether a cluster was lingering. It is not any more.
func (l *lingering) drop(name string) bool {
	was := l.has(name)
	delete(l.until, name)
	return was
}

func (l *lingering) clear() {
	clear(l.until)
	l.next = time.Time{}
}

func (l *lingering) isDue(now time.Time) bool { return !l.next.IsZero() && !now.Before(l.next) }

// take takes out those that may go, sorted.
func (l *lingering) take(now time.Time) []string {
	if !l.isDue(now) {
		return nil
	}
	var names []string
	l.next = time.Time{}
	for name, until := range l.until {
		if !now.Before(until) {
			names = append(names, name)
			delete(l.until, name)
			continue
		}
		if at := until.Add(l.linger / 10); l.next.IsZero() || at.Before(l.next) {
			l.next = at
		}
	}
	slices.Sort(names)
	return names
}

// nextRemovals gives the clusters that nothing has been able to refer to for the linger: no route
// table, filter or listener that the proxy has, or may have by now.
func (s *session) nextRemovals(now time.Time) *response {
	names := s.leftOver(kindCluster)
	if len(names) == 0 && !s.lingering.isDue(now) || !s.routesKnown(false) {
		return nil
	}
	s.release(names, now)
	names = slices.DeleteFunc(s.lingering.take(now), func(name string) bool {
		return s.types[kindCluster].last[name] == nil || s.wanted(kindCluster, name) != nil
	})
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		delete(s.warming, name)
	}
	return s.issue(kindCluster, nil, names)
}

// release begins the linger of those among clusters that are left over which nothing names. Until
// something does again (see named), nobody has to look at them.
func (s *session) release(names []string, now time.Time) {
	if len(names) == 0 {
		return
	}
	used := map[string]bool{}
	for _, user := range append(s.possibly(kindListener), s.possibleRoutes()...) {
		for _, r := range user.refs {
			if r.kind == kindCluster {
				used[r.name] = true
			}
		}
	}
	for _, name := range names {
		if !used[name] {
			s.lingering.add(name, now)
			s.types[kindCluster].dirty.drop(name)
		}
	}
}

// named is called when the proxy is sent something that may name clusters. Whatever becomes of it, their
// linger begins anew after it.
func (s *session) named(user *resource) {
	for _, r := range user.refs {
		if r.kind == kindCluster && s.lingering.drop(r.name) {
			s.types[kindCluster].dirty.push(r.name)
		}
	}
}
