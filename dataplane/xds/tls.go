// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// tlsChain is one HTTPS listener: the server names it answers to, its
// certificates by SDS, and its own route table.
func tlsChain(l *graph.Listener) *listenerv3.FilterChain {
	match := &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	if l.Hostname != "" {
		match.ServerNames = []string{l.Hostname}
	}
	common := &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		AlpnProtocols: []string{"h2", "http/1.1"},
	}
	seen := map[string]bool{}
	for _, cert := range l.Certificates {
		name := secretName(cert)
		if seen[name] {
			continue
		}
		seen[name] = true
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, &tlsv3.SdsSecretConfig{
			Name: name, SdsConfig: adsSource(nil),
		})
	}
	return &listenerv3.FilterChain{
		Name:             chainName(l),
		FilterChainMatch: match,
		Filters:          []*listenerv3.Filter{connectionManager(statPrefix("https", l.Port), chainName(l))},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&tlsv3.DownstreamTlsContext{
				CommonTlsContext: common,
			})},
		},
		// A client that never finishes its handshake must not hold a connection.
		TransportSocketConnectTimeout: seconds(10),
	}
}
