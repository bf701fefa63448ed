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
	return &tlsv3.Secret{
		Name: secretName(c),
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(c.Cert),
			PrivateKey:       inline(c.Key),
		}},
	}
}

// trustName is the SDS name of a set of authorities. It cannot be that of a
// certificate: no namespace has a colon.
func trustName(b graph.TrustBundle) string { return "trust:" + b.Name }

// trustSecret carries a set of authorities. It comes by SDS, so that another set drains no
// listener and changes no cluster.
func trustSecret(b graph.TrustBundle) *tlsv3.Secret {
	return &tlsv3.Secret{
		Name: trustName(b),
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: inline(b.PEM),
		}},
	}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// bySDS names a secret that comes with the rest of the configuration.
func bySDS(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: adsSource(nil)}
}
