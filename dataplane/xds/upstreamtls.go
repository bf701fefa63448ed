// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
)

// upstreamSocket is TLS to a backend. What can change while traffic flows
// (authorities, the client's certificate) comes by SDS. ALPN is empty for what is not HTTP.
func upstreamSocket(tls *graph.UpstreamTLS, gateway *graph.Certificate, alpn ...string) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		AlpnProtocols: alpn,
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: nameMatchers(tls.Names)},
				ValidationContextSdsSecretConfig: bySDS(trustName(tls.Trust)),
			},
		},
	}
	if client := clientOf(tls, gateway); client != nil {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{bySDS(secretName(*client))}
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&tlsv3.UpstreamTlsContext{
			Sni: tls.ServerName, CommonTlsContext: common,
		})},
	}
}

// clientOf is the certificate that the proxies of a Gateway show to a backend, or nil.
func clientOf(tls *graph.UpstreamTLS, gateway *graph.Certificate) *graph.Certificate {
	if tls.Client != nil || tls.Anonymous {
		return tls.Client
	}
	return gateway
}

// upstreamSecrets are the secrets that upstreamSocket refers to, by name.
func upstreamSecrets(tls *graph.UpstreamTLS, gateway *graph.Certificate) map[string]proto.Message {
	if tls == nil {
		return nil
	}
	secrets := map[string]proto.Message{trustName(tls.Trust): trustSecret(tls.Trust)}
	if client := clientOf(tls, gateway); client != nil {
		secrets[secretName(*client)] = secret(*client)
	}
	return secrets
}

// nameMatchers tell which names a certificate may have. Envoy compares an exact DNS name as
// RFC 6125 says, so that a wildcard in the certificate covers it. A wildcard
// that is asked for stands for one label, as it would in a certificate.
func nameMatchers(names []graph.CertificateName) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	for _, n := range names {
		m := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: exactly(n.Value)}
		if n.URI {
			m.SanType = tlsv3.SubjectAltNameMatcher_URI
		} else if rest, ok := strings.CutPrefix(n.Value, "*"); ok {
			m.Matcher = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: regex(`(?i)[^.]+` + regexp.QuoteMeta(rest)),
			}}
		}
		out = append(out, m)
	}
	return out
}

// alpnOf is what the proxies offer in the handshake with a backend. For HTTP it must be said,
// because servers with several protocols choose by it; of other bytes the proxies do not know what they are.
func alpnOf(protocol graph.UpstreamProtocol) []string {
	switch protocol {
	case graph.UpstreamH2C:
		return []string{"h2"}
	case graph.UpstreamSecureTCP:
		return nil
	}
	return []string{"http/1.1"}
}
