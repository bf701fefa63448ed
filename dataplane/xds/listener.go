// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// bufferLimit bounds what one connection may hold in the proxy's memory, in bytes:
// 32 KiB, as Envoy's guide for edge proxies advises.
const bufferLimit = 32 << 10

// Names of Envoy listeners and route tables. They depend on nothing but the port
// and the listener's own ID, so that no change elsewhere renames them.
func httpName(port int32) string         { return "http-" + strconv.Itoa(int(port)) }
func httpsName(port int32) string        { return "https-" + strconv.Itoa(int(port)) }
func chainName(l *graph.Listener) string { return httpsName(l.Port) + "/" + l.ID() }
func statPrefix(protocol string, port int32) string {
	return protocol + "-" + strconv.Itoa(int(port))
}

func httpListener(p port) *listenerv3.Listener {
	l := listenerOn(p, httpName(p.number))
	l.FilterChains = []*listenerv3.FilterChain{{
		Name:    httpName(p.number),
		Filters: []*listenerv3.Filter{connectionManager(statPrefix("http", p.number), table{name: httpName(p.number)}, p.listeners[0].Gateway)},
	}}
	return l
}

// httpsListener tells the Gateway's listeners of HTTPS and TLS apart by the server name of
// the TLS handshake. A name that no listener has finds no filter chain: Envoy closes.
func httpsListener(p port) *listenerv3.Listener {
	l := listenerOn(p, httpsName(p.number))
	l.ListenerFilters = []*listenerv3.ListenerFilter{{
		Name:       "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&tlsinspectorv3.TlsInspector{})},
	}}
	for _, gl := range p.listeners {
		if overHTTP(gl) {
			l.FilterChains = append(l.FilterChains, tlsChain(p, gl))
			continue
		}
		for _, name := range serverNames(p, gl) {
			l.FilterChains = append(l.FilterChains, serverNameChain(name))
		}
	}
	return l
}

func listenerOn(p port, name string) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                          name,
		StatPrefix:                    name,
		Address:                       everyAddress(uint32(graph.ProxyPort(p.number)), p.ipv6),
		PerConnectionBufferLimitBytes: number(bufferLimit),
	}
}

// everyAddress is the port on every address of the pod. With IPv6 one socket takes both
// families, and IPv4 clients keep the addresses they are known by; where the kernel has
// no IPv6, such a socket would be refused.
func everyAddress(port uint32, ipv6 bool) *corev3.Address {
	if !ipv6 {
		return socketAddress("0.0.0.0", port)
	}
	address := socketAddress("::", port)
	address.GetSocketAddress().Ipv4Compat = true
	return address
}
