// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
)

// Translate gives the complete configuration of the proxies of one Gateway. It
// is total: a Gateway that is unknown or not valid has an empty Snapshot, and
// what is not valid below it is left out or answers 500, as the Gateway API asks.
// Equal graphs give equal bytes.
func Translate(g *graph.Graph, gateway types.NamespacedName) Snapshot {
	return translate(g, gateway, &memory{})
}

func translate(g *graph.Graph, gateway types.NamespacedName, m *memory) Snapshot {
	snap := Snapshot{
		Gateway:     gateway,
		Listeners:   map[string]proto.Message{},
		Routes:      map[string]proto.Message{},
		Clusters:    map[string]proto.Message{},
		Secrets:     map[string]proto.Message{},
		Runtimes:    map[string]proto.Message{},
		Filters:     map[string]proto.Message{},
		Mixes:       map[string]proto.Message{},
		ClusterKeys: map[string]graph.ClusterKey{},
	}
	var routes []*graph.Route
	var client *graph.Certificate
	var log *v1beta1.AccessLog
	for _, gw := range g.Gateways {
		if gw.Key != gateway || !gw.Valid {
			continue
		}
		for _, p := range portsOf(gw) {
			snap.addPort(gateway, p, m)
		}
		routes, client, log = attachedRoutes(gw), gw.ClientCertificate, gw.Proxy.AccessLog
	}
	m.layers, m.client, m.log = routesByLayer(routes), client, log
	snap.addClusters(routes, client, m)
	if m.flush = flushes(m); m.flush != nil {
		snap.Clusters[bootstrap.Flush] = m.flush
	}
	m.runtimes = runtimes(m.layers, log)
	for name, runtime := range m.runtimes {
		snap.Runtimes[name] = runtime
	}
	return snap
}

// port is what one Envoy listener serves: the valid listeners of a Gateway that
// share a port. Build lets only one kind be valid on a port.
type port struct {
	number    int32
	kind      portKind
	ipv6      bool
	listeners []*graph.Listener
}

// portKind is the form of an Envoy listener.
type portKind int

const (
	portHTTP portKind = iota
	// portTLS has listeners of HTTPS and TLS.
	portTLS
	portTCP
	portUDP
)

func kindOf(l *graph.Listener) portKind {
	switch l.Protocol {
	case gwv1.HTTPSProtocolType, gwv1.TLSProtocolType:
		return portTLS
	case gwv1.TCPProtocolType:
		return portTCP
	case gwv1.UDPProtocolType:
		return portUDP
	}
	return portHTTP
}

func portsOf(gw *graph.Gateway) []port {
	var ports []port
	for _, l := range gw.Listeners {
		if !served(l) {
			continue
		}
		kind := kindOf(l)
		i := slices.IndexFunc(ports, func(p port) bool { return p.number == l.Port && (p.kind == portUDP) == (kind == portUDP) })
		switch {
		case i < 0:
			ports = append(ports, port{number: l.Port, kind: kind, ipv6: gw.IPv6, listeners: []*graph.Listener{l}})
		case ports[i].kind == kind:
			ports[i].listeners = append(ports[i].listeners, l)
		}
	}
	return ports
}

// served tells whether the proxies serve a listener at all.
func served(l *graph.Listener) bool {
	switch l.Protocol {
	case gwv1.HTTPProtocolType, gwv1.TLSProtocolType, gwv1.TCPProtocolType, gwv1.UDPProtocolType:
		return l.Valid
	case gwv1.HTTPSProtocolType:
		return l.Valid && len(l.Certificates) > 0
	}
	return false
}

// name is that of the Envoy listener.
func (p port) name() string {
	switch p.kind {
	case portTLS:
		return httpsName(p.number)
	case portTCP:
		return tcpName(p.number)
	case portUDP:
		return udpName(p.number)
	}
	return httpName(p.number)
}

// tableOf is where the requests of a listener find their routes.
func (p port) tableOf(l *graph.Listener) table {
	if p.kind != portTLS {
		return table{name: p.name()}
	}
	return table{name: p.name(), listener: l.ID()}
}

func (s *Snapshot) addPort(gateway types.NamespacedName, p port, m *memory) {
	switch p.kind {
	case portTLS:
		s.addTLSPort(p, m)
	case portTCP:
		s.Listeners[tcpName(p.number)] = tcpListener(p)
		s.Filters[tcpName(p.number)] = tcpFilter(p)
	case portUDP:
		cluster := udpCluster(gateway, p.number)
		s.Listeners[udpName(p.number)] = udpListener(gateway, p)
		s.Clusters[cluster] = datagramCluster(cluster)
		s.Mixes[cluster] = mix(cluster, datagramRoute(p))
	default:
		s.Listeners[p.name()] = httpListener(p)
		s.addScopes(p, m)
	}
}

// addScopes adds the routes of a port's listeners that speak HTTP.
func (s *Snapshot) addScopes(p port, m *memory) {
	if !slices.ContainsFunc(p.listeners, overHTTP) {
		return
	}
	for name, scope := range scopes(p.name(), virtualHosts(p, m), m) {
		s.Routes[name] = scope
	}
}

func (s *Snapshot) addTLSPort(p port, m *memory) {
	s.Listeners[p.name()] = httpsListener(p)
	s.addScopes(p, m)
	for _, l := range p.listeners {
		if !overHTTP(l) {
			for _, n := range serverNames(p, l) {
				s.Filters[n.filterName()] = connectionFilter(n.filterName(), n.listener, n.route, len(l.Certificates) == 0)
			}
		}
		maps.Copy(s.Secrets, downstreamSecrets(l))
	}
}

// addClusters adds the upstreams of the routes. Client is the certificate that the
// Gateway shows to backends.
func (s *Snapshot) addClusters(routes []*graph.Route, client *graph.Certificate, m *memory) {
	m.upstreams, m.uses = make(map[graph.RouteKey][]upstream, len(routes)), map[string]int{}
	for _, route := range routes {
		ups := upstreams(route)
		m.upstreams[graph.RouteKey{Kind: route.Kind, NamespacedName: route.Key}] = ups
		for _, up := range ups {
			m.uses[up.key.Name()]++
			name := up.key.Name()
			if up.key.Protocol == graph.UpstreamUDP { // a part of its port's cluster
				s.ClusterKeys[name] = up.key
				continue
			}
			if _, known := s.Clusters[name]; known {
				continue
			}
			s.Clusters[name] = m.cluster(up, client)
			if up.host == "" {
				s.ClusterKeys[name] = up.key
			}
			maps.Copy(s.Secrets, upstreamSecrets(up.tls, client))
		}
	}
}

// upstreams are the clusters that a route sends requests, copies of them or questions
// about them to. One may be there more than once.
func upstreams(route *graph.Route) []upstream {
	var ups []upstream
	for _, rule := range route.Rules {
		if !rule.Valid {
			continue
		}
		ups = append(ups, asked(rule.Filters)...)
		for _, b := range rule.Backends {
			if b.Valid {
				ups = append(append(ups, upstreamOf(b)), asked(b.Filters)...)
			}
			if b.Through != nil {
				up := upstreamOf(b)
				up.key, up.tls = *b.Through, nil
				ups = append(ups, up)
			}
		}
		for _, m := range rule.Mirrors {
			if mirrored(m) {
				ups = append(ups, upstreamOf(m.Backend))
			}
		}
	}
	return ups
}

// attachedRoutes is every route on a served listener of the gateway, once each.
func attachedRoutes(gw *graph.Gateway) []*graph.Route {
	var routes []*graph.Route
	seen := map[*graph.Route]bool{}
	for _, l := range gw.Listeners {
		if !served(l) {
			continue
		}
		for _, a := range l.Attachments {
			if !seen[a.Route] {
				seen[a.Route] = true
				routes = append(routes, a.Route)
			}
		}
	}
	return routes
}
