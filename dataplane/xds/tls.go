// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
)

// tlsChain is one HTTPS listener: the server names it answers to, its
// certificates by SDS, and its name in the scope header.
func tlsChain(p port, l *graph.Listener) *listenerv3.FilterChain {
	chain := &listenerv3.FilterChain{
		Name:             chainName(l),
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: "tls"},
		Filters:          []*listenerv3.Filter{connectionManager(statPrefix("https", l.Port), p.tableOf(l), l.Gateway)},
	}
	if l.Hostname != "" {
		chain.FilterChainMatch.ServerNames = []string{l.Hostname}
	}
	endTLS(chain, l, "h2", "http/1.1")
	return chain
}

// endTLS makes a filter chain end the clients' TLS.
func endTLS(chain *listenerv3.FilterChain, l *graph.Listener, alpn ...string) {
	chain.TransportSocket = downstreamSocket(l, alpn...)
	// A client that never finishes its handshake must not hold a connection.
	chain.TransportSocketConnectTimeout = seconds(10)
}

// downstreamSocket ends the TLS of a listener's clients. Certificates and authorities come
// by SDS, so that new ones drain nothing. ALPN is empty for what is not HTTP.
func downstreamSocket(l *graph.Listener, alpn ...string) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		AlpnProtocols: alpn,
	}
	seen := map[string]bool{}
	for _, cert := range l.Certificates {
		if name := secretName(cert); !seen[name] {
			seen[name] = true
			common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, bySDS(name))
		}
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	setClientValidation(context, l.ClientValidation)
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(context)},
	}
}

// setClientValidation asks the clients for a certificate. With the insecure fallback one
// that is missing, or that no authority signed, lets them in all the same.
func setClientValidation(context *tlsv3.DownstreamTlsContext, v *graph.ClientValidation) {
	if v == nil {
		return
	}
	context.RequireClientCertificate = boolean(!v.Insecure)
	defaults := &tlsv3.CertificateValidationContext{}
	if v.Insecure {
		defaults.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	}
	context.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         defaults,
			ValidationContextSdsSecretConfig: bySDS(trustName(v.Trust)),
		},
	}
}

// downstreamSecrets are the secrets that downstreamSocket refers to, by name.
func downstreamSecrets(l *graph.Listener) map[string]proto.Message {
	secrets := map[string]proto.Message{}
	for _, cert := range l.Certificates {
		secrets[secretName(cert)] = secret(cert)
	}
	if l.ClientValidation != nil {
		secrets[trustName(l.ClientValidation.Trust)] = trustSecret(l.ClientValidation.Trust)
	}
	return secrets
}
