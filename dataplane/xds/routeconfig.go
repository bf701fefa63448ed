// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// anyHost is the hostname of a virtual host that takes what no other takes.
const anyHost = "*"

func routeConfig(name string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: name,
		// The backend sees the Host header as the client sent it, port included.
		IgnorePortInHostMatching: true,
		RequestHeadersToRemove:   internalHeaders(),
		// A route may name a cluster that is missing, on purpose: that share of the
		// traffic answers 500.
		ValidateClusters: boolean(false),
	}
}

// virtualHosts gives one virtual host per effective hostname of the port's listeners.
//
// Listeners of a port are isolated from each other: a request belongs to the one
// with the most specific hostname, and finds 404 there rather than a route of
// another. So each listener owns the virtual host of its own hostname even without
// routes, and what a route has in common with a listener that does not own it is
// left out. The host of a listener for TLS connections answers nothing over HTTP but 421.
func virtualHosts(p port, m *memory) []*routev3.VirtualHost {
	var hosts []*routev3.VirtualHost
	owners, others, retries := ownersOf(p), listenersOf(p), retryUnsent()
	for _, l := range p.listeners {
		if !overHTTP(l) {
			hosts = append(hosts, &routev3.VirtualHost{
				Name: orAny(l.Hostname), Domains: []string{orAny(l.Hostname)}, Routes: []*routev3.Route{misdirected(p, l)},
			})
			continue
		}
		t := newHostTable(p, l, owners)
		t.part.others, t.retries = others, retries
		m.remember(t)
		for _, host := range t.hosts() {
			hosts = append(hosts, t.virtualHost(host, m))
		}
	}
	sortHosts(hosts)
	return hosts
}

func virtualHost(p port, l *graph.Listener, host string, byHost map[string][]*graph.Attachment, retries *routev3.RetryPolicy) *routev3.VirtualHost {
	vh := &routev3.VirtualHost{Name: host, Domains: []string{host}, RetryPolicy: retries}
	if guarded(p) {
		vh.Routes = append(vh.Routes, misdirected(p, l))
	}
	entries := entriesFor(host, byHost)
	slices.SortStableFunc(entries, compareEntries)
	for _, e := range entries {
		vh.Routes = append(vh.Routes, routesOf(l, host, e)...)
	}
	if exact(host) {
		// Without a route the filters that lead to the wildcards would not know that they are
		// switched off, and lead the request to one that another listener may own.
		vh.Routes = append(vh.Routes, &routev3.Route{Name: unmatchedName, Match: everything(), Action: directResponse(404)})
	}
	return vh
}

// listenersOf names the listeners of a port where requests can be misdirected among them.
func listenersOf(p port) string {
	if !guarded(p) {
		return ""
	}
	var names strings.Builder
	for _, l := range p.listeners {
		names.WriteString(l.ID() + " " + l.Hostname + "\n")
	}
	return names.String()
}

// guarded tells whether requests on a port can be misdirected.
func guarded(p port) bool { return p.kind == portTLS && len(p.listeners) > 1 }

// widening lists the hostnames that cover host, from host itself over ever shorter
// wildcards to every host: a.b.c, *.b.c, *.c, *.
func widening(host string) []string {
	hosts := []string{host}
	rest := strings.TrimPrefix(host, "*.")
	for {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		hosts = append(hosts, "*."+parent)
		rest = parent
	}
	if host != anyHost {
		hosts = append(hosts, anyHost)
	}
	return hosts
}

func orAny(host string) string {
	if host == "" {
		return anyHost
	}
	return host
}

func sortHosts(hosts []*routev3.VirtualHost) {
	slices.SortFunc(hosts, func(a, b *routev3.VirtualHost) int { return strings.Compare(a.Name, b.Name) })
}
