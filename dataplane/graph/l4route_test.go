// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"testing"
)

// l4 gives a route of a kind, attached to Gateway web.
func l4(kind, spec string) string {
	return "---\nkind: " + kind + "\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: web}]\n" + indented([]string{spec})
}

const toShop = "rules: [{backendRefs: [{name: shop, port: 80}]}]"

func TestListenersOfConnectionsAndDatagrams(t *testing.T) {
	passthrough := "- {name: p, port: 443, protocol: TLS, hostname: p.com, tls: {mode: Passthrough}}"
	checkProblems(t, []problemCase{
		{
			"one number serves TCP and UDP, and names tell TLS listeners apart",
			[]string{gateway("- {name: a, port: 53, protocol: UDP}\n- {name: b, port: 53, protocol: TCP}\n" + passthrough + "\n- {name: q, port: 443, protocol: TLS, hostname: q.com, tls: {mode: Passthrough}}")},
			nil,
		},
		{
			"a port that stands for a low one of TCP is free for UDP",
			[]string{gateway("- {name: b, port: 10080, protocol: UDP}\n" + http)},
			nil,
		},
		{
			"two TCP listeners on a port both lose",
			[]string{gateway("- {name: a, port: 5432, protocol: TCP, hostname: a.com}\n- {name: b, port: 5432, protocol: TCP}\n" + http)},
			[]string{"gateway", "listener a: Conflicted/HostnameConflict", "listener b: Conflicted/HostnameConflict"},
		},
		{
			"TCP and TLS do not share a port",
			[]string{gateway("- {name: a, port: 443, protocol: TCP}\n" + passthrough + "\n" + http)},
			[]string{"gateway", "listener a: Conflicted/ProtocolConflict", "listener p: Conflicted/ProtocolConflict"},
		},
		{
			"HTTPS and TLS share a port, but not a name",
			[]string{gateway(passthrough + "\n- {name: s, port: 443, protocol: HTTPS, hostname: p.com, tls: {certificateRefs: []}}\n" + http)},
			[]string{
				"gateway", "listener p: Conflicted/HostnameConflict | host p.com",
				"listener s: ResolvedRefs/InvalidCertificateRef", "listener s: Conflicted/HostnameConflict",
			},
		},
		{
			"TLS without mode ends TLS, and needs a certificate",
			[]string{gateway("- {name: a, port: 443, protocol: TLS}\n" + http)},
			[]string{"listener a: ResolvedRefs/InvalidCertificateRef | certificateRefs is empty"},
		},
		{
			"tls belongs to HTTPS and TLS only",
			[]string{gateway("- {name: a, port: 5432, protocol: TCP, tls: {mode: Passthrough}}\n" + http)},
			[]string{"gateway", "listener a: Accepted/UnsupportedValue | write HTTPS or TLS"},
		},
		{
			"TLS that is passed through takes TLSRoutes only",
			[]string{gateway("- {name: a, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: TLSRoute}]}}")},
			[]string{"listener a: ResolvedRefs/InvalidRouteKinds | can serve TLSRoute of"},
		},
	})
}

func TestRoutesOfConnectionsAndDatagrams(t *testing.T) {
	tcp, udp := gateway("- {name: tcp, port: 5432, protocol: TCP}"), gateway("- {name: udp, port: 53, protocol: UDP}")
	tls := gateway("- {name: tls, port: 443, protocol: TLS, hostname: '*.a.com', tls: {mode: Passthrough}}")
	checkProblems(t, []problemCase{
		{"a TCPRoute on a TCP listener", []string{tcp, l4("TCPRoute", toShop)}, nil},
		{"a UDPRoute needs a UDP port of the Service", []string{udp, l4("UDPRoute", "rules: [{backendRefs: [{name: shop, port: 53}]}]")}, nil},
		{
			"a TCP port is none",
			[]string{udp, l4("UDPRoute", toShop)},
			[]string{"backend 0.0: ResolvedRefs/BackendNotFound | has no UDP port 80"},
		},
		{
			"bytes go to a port of any appProtocol",
			[]string{tcp, l4("TCPRoute", "rules: [{backendRefs: [{name: secure, port: 443}]}]")},
			nil,
		},
		{
			"a TCPRoute on an HTTP listener",
			[]string{gateway(http), l4("TCPRoute", toShop)},
			[]string{"parent 0: Accepted/NotAllowedByListeners | its protocol is HTTP"},
		},
		{"a TLSRoute whose name the listener covers", []string{tls, l4("TLSRoute", "hostnames: [x.a.com, b.com]\n"+toShop)}, nil},
		{
			"a TLSRoute without a common name",
			[]string{tls, l4("TLSRoute", "hostnames: [a.com]\n"+toShop)},
			[]string{"parent 0: Accepted/NoMatchingListenerHostname"},
		},
		{
			"a backend in another namespace needs a grant for the kind",
			[]string{tcp, l4("TCPRoute", "rules: [{backendRefs: [{name: billing, namespace: finance, port: 80}]}]")},
			[]string{"backend 0.0: ResolvedRefs/RefNotPermitted | lets TCPRoutes of namespace"},
		},
		{
			"a backend that is no Service",
			[]string{tcp, l4("TCPRoute", "rules: [{backendRefs: [{kind: Pod, name: x, port: 80}]}]")},
			[]string{"backend 0.0: ResolvedRefs/InvalidKind"},
		},
	})
}

func TestTheOlderRouteGetsTheTraffic(t *testing.T) {
	route := func(name, created string) string {
		return "---\nkind: UDPRoute\nmetadata: {name: " + name + ", creationTimestamp: '" + created + "'}\nspec:\n  parentRefs: [{name: web}]\n  rules: [{backendRefs: [{name: shop, port: 53}]}]\n"
	}
	g := build(t, gateway("- {name: udp, port: 53, protocol: UDP}"), route("a", "2026-01-02T00:00:00Z"), route("b", "2026-01-01T00:00:00Z"))
	attached := g.Gateways[0].Listeners[0].Attachments
	if len(attached) != 2 {
		t.Fatalf("%d routes attach, want both", len(attached))
	}
	if got := attached[0]; got.Route.Key.Name != "b" || got.OlderRoute() != nil {
		t.Errorf("%s comes first, behind %v", got.Route.Key, got.OlderRoute())
	}
	if got := attached[1].OlderRoute(); got == nil || got.Key.Name != "b" {
		t.Errorf("the younger route stands behind %v", got)
	}
}
