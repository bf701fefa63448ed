// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// routeKinds are the kinds of routes that a listener of the protocol can carry; none for a
// protocol that is not supported.
//
//	HTTP, HTTPS       HTTPRoute, GRPCRoute
//	TLS, Passthrough  TLSRoute
//	TLS, Terminate    TLSRoute, TCPRoute
//	TCP               TCPRoute
//	UDP               UDPRoute
func routeKinds(src gwv1.Listener) []RouteKind {
	switch src.Protocol {
	case gwv1.HTTPProtocolType, gwv1.HTTPSProtocolType:
		return []RouteKind{KindGRPCRoute, KindHTTPRoute}
	case gwv1.TLSProtocolType:
		if passesThrough(src) {
			return []RouteKind{KindTLSRoute}
		}
		return []RouteKind{KindTCPRoute, KindTLSRoute}
	case gwv1.TCPProtocolType:
		return []RouteKind{KindTCPRoute}
	case gwv1.UDPProtocolType:
		return []RouteKind{KindUDPRoute}
	}
	return nil
}

// passesThrough tells whether the proxies leave the TLS of a listener's connections alone.
func passesThrough(src gwv1.Listener) bool {
	return src.Protocol == gwv1.TLSProtocolType && src.TLS != nil && deref(src.TLS.Mode, gwv1.TLSModeTerminate) == gwv1.TLSModePassthrough
}

// terminates tells whether a listener needs certificates.
func terminates(src gwv1.Listener) bool {
	return src.Protocol == gwv1.HTTPSProtocolType || src.Protocol == gwv1.TLSProtocolType && !passesThrough(src)
}

// hostnameOf is a listener's hostname in lower case. Protocols that carry no name have
// none, whatever is written.
func hostnameOf(src gwv1.Listener) string {
	switch src.Protocol {
	case gwv1.TCPProtocolType, gwv1.UDPProtocolType:
		return ""
	}
	return strings.ToLower(string(deref(src.Hostname, "")))
}

// Transport is what a listener's port is a port of. The same number may be used once for each.
func Transport(protocol gwv1.ProtocolType) corev1.Protocol {
	if protocol == gwv1.UDPProtocolType {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// portNumbers are the ports that listeners use, by transport.
func portNumbers(listeners []gwv1.Listener) map[corev1.Protocol]map[int32]bool {
	ports := map[corev1.Protocol]map[int32]bool{corev1.ProtocolTCP: {}, corev1.ProtocolUDP: {}}
	for _, l := range listeners {
		ports[Transport(l.Protocol)][l.Port] = true
	}
	return ports
}

// samePort tells whether two listeners need the same port of the proxies.
func samePort(a, b *Listener) bool {
	return a.Port == b.Port && Transport(a.Protocol) == Transport(b.Protocol)
}

// sharePort tells whether listeners of two protocols can stand on one port: those that the
// server name of the TLS handshake tells apart.
func sharePort(a, b gwv1.ProtocolType) bool {
	return a == b || overTLS(a) && overTLS(b)
}

func overTLS(protocol gwv1.ProtocolType) bool {
	return protocol == gwv1.HTTPSProtocolType || protocol == gwv1.TLSProtocolType
}

// tlsProblems says what is wrong with the tls of a listener without certificates.
func tlsProblems(src gwv1.Listener) []Problem {
	switch {
	case src.TLS == nil:
		return nil
	case passesThrough(src):
		return optionProblems(src.TLS)
	}
	return []Problem{listenerValueUnsupported("tls does not belong to protocol %s: write HTTPS or TLS, or remove tls", src.Protocol)}
}
