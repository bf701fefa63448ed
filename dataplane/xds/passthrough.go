// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strconv"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// serverName is one server name that a TLS listener answers to, and the route that gets
// its connections; without a route they are closed.
type serverName struct {
	listener *graph.Listener
	host     string
	route    *graph.Route
}

// filterName names the filter chain and its filter. It does not contain the route, so that
// another route for the name ends no connection.
func (n serverName) filterName() string {
	return "tls-" + strconv.Itoa(int(n.listener.Port)) + "/" + n.listener.ID() + "/" + n.host
}

// serverNames gives the names of a TLS listener, sorted. As for HTTP, a name belongs to the
// listener with the most specific hostname of the port, and a listener without a route for its
// own hostname closes its connections rather than leave them to a wider one. That also gives
// a port without any route a filter chain, without which Envoy refuses to listen.
func serverNames(p port, l *graph.Listener) []serverName {
	var names []serverName
	for _, host := range ownedHosts(p, l) {
		names = append(names, serverName{listener: l, host: host, route: routeOfHost(l, host)})
	}
	return names
}

// routeOfHost is the route with the most specific hostname of its own for host, then the
// oldest; nil for none. One of the listener's TCPRoutes takes what no TLSRoute names.
func routeOfHost(l *graph.Listener, host string) *graph.Route {
	var best *graph.Attachment
	bare := host
	if host == anyHost {
		bare = ""
	}
	for _, a := range l.Attachments {
		if !slices.Contains(a.Hostnames, bare) {
			continue
		}
		if best == nil || a.Outranks(best, bare) {
			best = a
		}
	}
	if best == nil {
		return nil
	}
	return best.Route
}

// serverNameChain leads the connections of one server name to its filter.
func serverNameChain(n serverName) *listenerv3.FilterChain {
	chain := &listenerv3.FilterChain{
		Name:             n.filterName(),
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: "tls"},
		Filters:          []*listenerv3.Filter{namedFilter(n.filterName())},
	}
	if n.host != anyHost {
		chain.FilterChainMatch.ServerNames = []string{n.host}
	}
	if len(n.listener.Certificates) > 0 {
		endTLS(chain, n.listener)
	}
	return chain
}

func overHTTP(l *graph.Listener) bool {
	return l.Protocol == gwv1.HTTPProtocolType || l.Protocol == gwv1.HTTPSProtocolType
}
