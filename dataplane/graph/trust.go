// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

// UpstreamTLS is how the proxies speak TLS to a backend. It is the same for every
// route that names the same ClusterKey, whatever says so: a BackendTLSPolicy for a
// port of a Service, or the object itself that stands for the backend.
type UpstreamTLS struct {
	// ServerName is sent as the server name (SNI). It is lower case.
	ServerName string
	// Names are those of which the backend's certificate must have at least one. There is
	// always one: without a name any certificate of the authority would do.
	Names []CertificateName
	// Trust is what the certificate must be signed by.
	Trust TrustBundle
	// Client is the certificate that the proxies show. Nil means that of their Gateway
	// (Gateway.ClientCertificate), if it has one.
	Client *Certificate
	// Anonymous tells that no certificate is shown, not that of the Gateway either.
	Anonymous bool
}

// CertificateName is a subject alternative name of a certificate.
type CertificateName struct {
	// URI tells that Value is a URI, such as a SPIFFE ID, and not a DNS name.
	URI bool
	// Value is compared whole. A DNS name is lower case, and may begin with "*.", which
	// stands for one label.
	Value string
}

// TrustBundle is a set of certificates of authorities.
type TrustBundle struct {
	// Name tells bundles apart: bundles with the same name have the same content, for
	// all proxies of a Gateway. It is <who refers>/<namespace>/<name>, for example
	// "policy/shop/web", or "system".
	Name string
	// PEM are the certificates, at least one.
	PEM []byte
}

// ClientValidation is what a listener that ends TLS asks of its clients' certificates.
type ClientValidation struct {
	Trust TrustBundle
	// Insecure lets clients in whose certificate is missing or not signed by Trust.
	Insecure bool
}
