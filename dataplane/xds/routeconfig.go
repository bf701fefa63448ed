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

func routeConfig(name string, hosts []*routev3.VirtualHost) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:         name,
		VirtualHosts: hosts,
		// The backend sees the Host header as the client sent it, port included.
		IgnorePortInHostMatching: true,
		// A route may name a cluster that is missing, on purpose: that share of the
		// traffic answers 500.
		ValidateClusters: boolean(false),
	}
}

// virtualHosts gives one virtual host per effective hostname of the listeners
// in, which are some of the port's.
//
// Listeners of a port are isolated from each other: a request belongs to the one
// with the most specific hostname, and finds 404 there rather than a route of
// another. So each listener owns the virtual host of its own hostname even without
// routes, and what a route has in common with a listener that does not own it is
// left out.
func virtualHosts(p port, in []*graph.Listener) []*routev3.VirtualHost {
	var hosts []*routev3.VirtualHost
	retries := retryUnsent()
	for _, l := range in {
		byHost := attachmentsByHost(l)
		for _, host := range ownedHosts(p, l) {
			hosts = append(hosts, virtualHost(l, host, byHost, retries))
		}
	}
	sortHosts(hosts)
	return hosts
}

func virtualHost(l *graph.Listener, host string, byHost map[string][]ranked, retries *routev3.RetryPolicy) *routev3.VirtualHost {
	vh := &routev3.VirtualHost{Name: host, Domains: []string{host}, RetryPolicy: retries}
	entries := entriesFor(host, byHost)
	slices.SortStableFunc(entries, compareEntries)
	for _, e := range entries {
		vh.Routes = append(vh.Routes, routesOf(l, host, e)...)
	}
	return vh
}

// misdirected answers 421 for the hosts of the port's other listeners: over HTTP/2 a
// client may reuse a connection for a name that another listener serves, with other
// certificates and policies, and must then open a new one.
func misdirected(p port, l *graph.Listener) []*routev3.VirtualHost {
	own := ownedHosts(p, l)
	var domains []string
	for _, other := range p.listeners {
		host := orAny(other.Hostname)
		if !slices.Contains(own, host) && !slices.Contains(domains, host) {
			domains = append(domains, host)
		}
	}
	if len(domains) == 0 {
		return nil
	}
	slices.Sort(domains)
	return []*routev3.VirtualHost{{
		Name:    "misdirected",
		Domains: domains,
		Routes: []*routev3.Route{{
			Name:   "misdirected",
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: directResponse(421),
		}},
	}}
}

// ownedHosts is the sorted hostnames that are served by l and by no more specific
// listener of the port.
func ownedHosts(p port, l *graph.Listener) []string {
	hosts := []string{orAny(l.Hostname)}
	for _, a := range l.Attachments {
		for _, host := range a.Hostnames {
			hosts = append(hosts, orAny(host))
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	owners := map[string]*graph.Listener{}
	for _, pl := range p.listeners {
		if _, taken := owners[orAny(pl.Hostname)]; !taken {
			owners[orAny(pl.Hostname)] = pl
		}
	}
	return slices.DeleteFunc(hosts, func(host string) bool {
		for _, wider := range widening(host) {
			if owner := owners[wider]; owner != nil {
				return owner != l
			}
		}
		return true
	})
}

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

// ranked is an attachment and its place in the listener's order of age and name.
type ranked struct {
	order int
	*graph.Attachment
}

// attachmentsByHost files a listener's attachments under the hostnames of their
// routes, as the routes' owners wrote them.
func attachmentsByHost(l *graph.Listener) map[string][]ranked {
	byHost := map[string][]ranked{}
	for i, a := range l.Attachments {
		hosts := a.Route.Hostnames
		if len(hosts) == 0 {
			hosts = []string{anyHost}
		}
		for _, host := range hosts {
			host = orAny(host)
			byHost[host] = append(byHost[host], ranked{i, a})
		}
	}
	return byHost
}
