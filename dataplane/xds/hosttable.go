// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// hostTable is what a listener that speaks HTTP serves, by host. Routes are added and removed one by one:
// then it tells which hosts are concerned.
type hostTable struct {
	port     port
	listener *graph.Listener
	part     listenerPart
	owners   map[string]*graph.Listener
	// byHost has the attachments by their routes' hostnames, as the routes' owners wrote them, in order
	// of precedence.
	byHost map[string][]*graph.Attachment
	// taken counts the attachments that each host is served for.
	taken map[string]int
	// retries is what all virtual hosts share.
	retries *routev3.RetryPolicy
}

func newHostTable(p port, l *graph.Listener, owners map[string]*graph.Listener) *hostTable {
	t := &hostTable{
		port: p, listener: l, owners: owners, byHost: map[string][]*graph.Attachment{}, taken: map[string]int{},
		part: listenerPart{id: l.ID(), hostname: l.Hostname, port: l.Port, protocol: l.Protocol},
	}
	for _, a := range l.Attachments {
		t.add(a)
	}
	return t
}

// ownHosts are the hostnames that a route's owner wrote; without any it is every host.
func ownHosts(route *graph.Route) []string {
	if len(route.Hostnames) == 0 {
		return []string{anyHost}
	}
	return route.Hostnames
}

// add adds an attachment. Those of a listener come in order of precedence.
func (t *hostTable) add(a *graph.Attachment) {
	t.file(a, func(others []*graph.Attachment) int { return len(others) })
}

// insert adds an attachment among others that may go after it.
func (t *hostTable) insert(a *graph.Attachment) {
	t.file(a, func(others []*graph.Attachment) int {
		at, _ := slices.BinarySearchFunc(others, a, func(a, b *graph.Attachment) int { return graph.ComparePrecedence(a.Route, b.Route) })
		return at
	})
}

func (t *hostTable) file(a *graph.Attachment, place func([]*graph.Attachment) int) {
	for _, host := range ownHosts(a.Route) {
		others := t.byHost[orAny(host)]
		t.byHost[orAny(host)] = slices.Insert(others, place(others), a)
	}
	for _, host := range a.Hostnames {
		t.taken[orAny(host)]++
	}
}

// remove takes an attachment out again.
func (t *hostTable) remove(a *graph.Attachment) {
	for _, host := range ownHosts(a.Route) {
		host = orAny(host)
		t.byHost[host] = slices.DeleteFunc(t.byHost[host], func(other *graph.Attachment) bool { return other == a })
		if len(t.byHost[host]) == 0 {
			delete(t.byHost, host)
		}
	}
	for _, host := range a.Hostnames {
		host = orAny(host)
		if t.taken[host]--; t.taken[host] == 0 {
			delete(t.taken, host)
		}
	}
}

// hosts is the sorted hostnames that the listener serves.
func (t *hostTable) hosts() []string {
	hosts := slices.Sorted(maps.Keys(t.taken))
	if own := orAny(t.listener.Hostname); t.taken[own] == 0 {
		hosts = append(hosts, own)
		slices.Sort(hosts)
	}
	return slices.DeleteFunc(hosts, func(host string) bool { return !t.owns(host) })
}

// serves tells whether the listener has a virtual host of a name.
func (t *hostTable) serves(host string) bool {
	return (t.taken[host] > 0 || host == orAny(t.listener.Hostname)) && t.owns(host)
}

// owns tells whether no more specific listener of the port has the host.
func (t *hostTable) owns(host string) bool {
	for _, wider := range widening(host) {
		if owner := t.owners[wider]; owner != nil {
			return owner == t.listener
		}
	}
	return false
}

// ownedHosts is the sorted hostnames that are served by l and by no more specific
// listener of the port.
func ownedHosts(p port, l *graph.Listener) []string { return newHostTable(p, l, ownersOf(p)).hosts() }

// ownersOf gives the first listener of a port with each hostname.
func ownersOf(p port) map[string]*graph.Listener {
	owners := map[string]*graph.Listener{}
	for _, l := range p.listeners {
		if _, taken := owners[orAny(l.Hostname)]; !taken {
			owners[orAny(l.Hostname)] = l
		}
	}
	return owners
}

// concerned adds the hosts that an attachment is or was served under, and those that requests fall
// through to it from.
func (t *hostTable) concerned(a *graph.Attachment, hosts map[string]bool) {
	for _, host := range a.Hostnames {
		hosts[orAny(host)] = true
	}
	for _, host := range ownHosts(a.Route) {
		host = orAny(host)
		if exact(host) {
			continue // a host of the attachment, or none of the listener's
		}
		for under := range t.taken {
			if within(under, host) {
				hosts[under] = true
			}
		}
		if own := orAny(t.listener.Hostname); within(own, host) {
			hosts[own] = true
		}
	}
}

// within tells whether widening a host comes to a wildcard.
func within(host, wildcard string) bool {
	return wildcard == anyHost || host == wildcard || strings.HasSuffix(host, strings.TrimPrefix(wildcard, "*"))
}

// virtualHost gives the virtual host of a name, made anew if anything in it changed.
func (t *hostTable) virtualHost(host string, m *memory) *routev3.VirtualHost {
	return m.host(scopeName(t.port.name(), host), t.part, partsFor(host, t.byHost), func() *routev3.VirtualHost {
		return virtualHost(t.port, t.listener, host, t.byHost, t.retries)
	})
}
