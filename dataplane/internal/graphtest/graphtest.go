// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package graphtest builds graphs by hand, for tests of what is made from them.
package graphtest

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// GatewayKey is the Gateway of every graph here.
var GatewayKey = types.NamespacedName{Namespace: "infra", Name: "edge"}

// Graph is a graph of one Gateway.
func Graph(listeners ...*graph.Listener) *graph.Graph {
	gw := &graph.Gateway{Key: GatewayKey, Valid: true, Listeners: listeners}
	g := &graph.Graph{Gateways: []*graph.Gateway{gw}}
	seen := map[*graph.Route]bool{}
	for _, l := range listeners {
		l.Gateway = gw
		for _, a := range l.Attachments {
			if !seen[a.Route] {
				seen[a.Route] = true
				g.Routes = append(g.Routes, a.Route)
			}
		}
	}
	return g
}

// HTTP is a valid HTTP listener with routes, oldest first.
func HTTP(name string, port uint32, hostname string, routes ...*graph.Route) *graph.Listener {
	l := &graph.Listener{
		Name: gwv1.SectionName(name), Port: int32(port), Protocol: gwv1.HTTPProtocolType, Hostname: hostname, Valid: true,
	}
	for _, r := range routes {
		if hosts := intersect(hostname, r.Hostnames); len(hosts) > 0 {
			l.Attachments = append(l.Attachments, &graph.Attachment{Route: r, Listener: l, Hostnames: hosts})
		}
	}
	return l
}

// HTTPS is a valid HTTPS listener with routes, oldest first.
func HTTPS(name string, port uint32, hostname string, cert graph.Certificate, routes ...*graph.Route) *graph.Listener {
	l := HTTP(name, port, hostname, routes...)
	l.Protocol = gwv1.HTTPSProtocolType
	l.Certificates = []graph.Certificate{cert}
	return l
}

func intersect(listener string, route []string) []string {
	if len(route) == 0 {
		return []string{listener}
	}
	var hosts []string
	for _, host := range route {
		switch {
		case listener == "" || covers(listener, host):
			hosts = append(hosts, host)
		case covers(host, listener):
			hosts = append(hosts, listener)
		}
	}
	return hosts
}

func covers(wide, narrow string) bool {
	suffix, wildcard := strings.CutPrefix(wide, "*")
	return wide == narrow || wildcard && strings.HasSuffix(narrow, suffix) && len(narrow) > len(suffix)
}

// Route is an HTTPRoute in namespace shop.
func Route(name string, hostnames []string, rules ...*graph.Rule) *graph.Route {
	for i, rule := range rules {
		rule.Index = i
	}
	return &graph.Route{
		Kind:      graph.KindHTTPRoute,
		Key:       types.NamespacedName{Namespace: "shop", Name: name},
		Hostnames: hostnames,
		Rules:     rules,
	}
}

// Rule is a valid rule that matches a path prefix.
func Rule(prefix string, backends ...*graph.Backend) *graph.Rule {
	return &graph.Rule{
		Valid:    true,
		Matches:  []graph.Match{{Path: graph.StringMatch{Type: graph.MatchPrefix, Value: prefix}}},
		Backends: backends,
	}
}

// Key is port 80 of a Service in namespace shop.
func Key(service string) graph.ClusterKey {
	return graph.ClusterKey{Namespace: "shop", Service: service, Port: 80}
}

// Backend is a valid backend on port 80 of a Service.
func Backend(service string, weight int32) *graph.Backend {
	return &graph.Backend{Cluster: Key(service), Weight: weight, Valid: true}
}

// Connections is a valid listener of protocol TLS or TCP with routes, oldest first. With a
// certificate it ends TLS, without it passes TLS through.
func Connections(name string, port uint32, protocol gwv1.ProtocolType, hostname string, certs []graph.Certificate, routes ...*graph.Route) *graph.Listener {
	l := HTTP(name, port, hostname, routes...)
	l.Protocol, l.Certificates = protocol, certs
	return l
}

// Datagrams is a valid UDP listener with routes, oldest first.
func Datagrams(name string, port uint32, routes ...*graph.Route) *graph.Listener {
	l := HTTP(name, port, "", routes...)
	l.Protocol = gwv1.UDPProtocolType
	return l
}

// L4 is a route of connections or datagrams in namespace shop, with one rule.
func L4(kind graph.RouteKind, name string, hostnames []string, backends ...*graph.Backend) *graph.Route {
	for _, b := range backends {
		b.Cluster.Protocol = graph.UpstreamTCP
		if kind == graph.KindUDPRoute {
			b.Cluster.Protocol = graph.UpstreamUDP
		}
	}
	r := Route(name, hostnames, &graph.Rule{Valid: true, Backends: backends})
	r.Kind = kind
	return r
}

// Missing is a backend that does not exist.
func Missing(weight int32) *graph.Backend {
	return &graph.Backend{Cluster: Key("missing"), Weight: weight}
}
