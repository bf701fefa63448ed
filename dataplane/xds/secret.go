// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// secretName is the SDS name of a certificate: that of its Secret.
func secretName(c graph.Certificate) string { return c.Secret.Namespace + "/" + c.Secret.Name }

func secret(c graph.Certificate) *tlsv3.Secret {
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	return &tlsv3.Secret{
		Name: secretName(c),
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(c.Cert),
			PrivateKey:       inline(c.Key),
		}},
	}
}
