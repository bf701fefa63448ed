// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates between the control plane and its proxies.
// Everything is a function of its arguments, time and randomness included; keys and
// certificates come and go as PEM.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Lifetimes. A leaf is renewed after two thirds of its life (see RotationDue).
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	LeafLifetime      = 90 * 24 * time.Hour
	// backdate lets a certificate be used by a machine whose clock is a little behind.
	backdate = 5 * time.Minute
)

// Pair is a certificate and its private key, both PEM.
type Pair struct{ Cert, Key []byte }

// Identity is one end of a connection: its own pair and the authority it trusts, PEM.
type Identity struct {
	Pair
	CA []byte
}

// NewAuthority makes a self-signed authority.
func NewAuthority(now time.Time, rand io.Reader) (Pair, error) {
	return issue(nil, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Headgate data plane authority"},
		NotAfter:              now.Add(AuthorityLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, now, rand)
}

// NewServer makes the control plane's certificate, valid for the names, which are
// DNS names or IP addresses.
func NewServer(authority Pair, names []string, now time.Time, rand io.Reader) (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "headgate"},
		NotAfter:    now.Add(LeafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return issue(&authority, template, now, rand)
}

// NewProxy makes the certificate of a gateway's proxies. Its only name is the
// URI of the gateway (see GatewayURI).
func NewProxy(authority Pair, gateway types.NamespacedName, now time.Time, rand io.Reader) (Pair, error) {
	return issue(&authority, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "headgate proxy"},
		NotAfter:    now.Add(LeafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{GatewayURI(gateway)},
	}, now, rand)
}

// scheme and host of GatewayURI.
const uriHost, uriPath = "headgate.dev", "/gateway/"

// GatewayURI is the name of a gateway in a certificate:
// spiffe://headgate.dev/gateway/<namespace>/<name>.
func GatewayURI(gateway types.NamespacedName) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: uriHost, Path: uriPath + gateway.Namespace + "/" + gateway.Name}
}

// GatewayOf reads the gateway that a proxy's certificate names.
func GatewayOf(cert *x509.Certificate) (types.NamespacedName, error) {
	for _, uri := range cert.URIs {
		rest, ok := strings.CutPrefix(uri.Path, uriPath)
		if uri.Scheme != "spiffe" || uri.Host != uriHost || !ok {
			continue
		}
		namespace, name, ok := strings.Cut(rest, "/")
		if ok && namespace != "" && name != "" && !strings.Contains(name, "/") {
			return types.NamespacedName{Namespace: namespace, Name: name}, nil
		}
	}
	return types.NamespacedName{}, errors.New("the certificate does not name a Gateway: it needs the URI spiffe://headgate.dev/gateway/<namespace>/<name>")
}

// Expiry is when the first certificate of the PEM block ends.
func Expiry(certPEM []byte) (time.Time, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}

// RotationDue is when a certificate should be replaced: after two thirds of its
// life, or up to a twelfth of it later, by its serial number, so that those that were
// issued together are not due together. A certificate that cannot be read is due at once, the zero time.
func RotationDue(certPEM []byte) time.Time {
	cert, err := parseCert(certPEM)
	if err != nil {
		return time.Time{}
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	spread := life / 12 * time.Duration(new(big.Int).And(cert.SerialNumber, big.NewInt(0xff)).Int64()) / 0x100
	return cert.NotBefore.Add(life*2/3 + spread)
}

// SignedBy tells whether a certificate was signed by the authority and both can
// be read.
func SignedBy(certPEM, authorityPEM []byte) bool {
	cert, err := parseCert(certPEM)
	if err != nil {
		return false
	}
	authority, err := parseCert(authorityPEM)
	return err == nil && cert.CheckSignatureFrom(authority) == nil
}

// issue signs template with the authority's key, or with its own when authority is nil.
func issue(authority *Pair, template *x509.Certificate, now time.Time, rand io.Reader) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return Pair{}, fmt.Errorf("generating a key: %w", err)
	}
	serial := make([]byte, 16)
	if _, err := io.ReadFull(rand, serial); err != nil {
		return Pair{}, fmt.Errorf("choosing a serial number: %w", err)
	}
	serial[0] &= 0x7f // positive, and at most 20 octets as RFC 5280 wants
	template.SerialNumber = new(big.Int).SetBytes(serial)
	template.NotBefore = now.Add(-backdate)
	parent, signer := template, key
	if authority != nil {
		if parent, err = parseCert(authority.Cert); err != nil {
			return Pair{}, fmt.Errorf("reading the authority: %w", err)
		}
		if signer, err = parseKey(authority.Key); err != nil {
			return Pair{}, fmt.Errorf("reading the authority: %w", err)
		}
	}
	der, err := x509.CreateCertificate(rand, template, parent, &key.PublicKey, signer)
	if err != nil {
		return Pair{}, fmt.Errorf("signing a certificate: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encoding a key: %w", err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM block of type CERTIFICATE found")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, errors.New("no PEM block of type EC PRIVATE KEY found")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// ServerConfig is the TLS configuration of the control plane: every client must show a
// certificate that the authority signed.
func (i Identity) ServerConfig() (*tls.Config, error) {
	pair, err := tls.X509KeyPair(i.Cert, i.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(i.CA) {
		return nil, errors.New("reading the authority: no certificate found")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authorities,
		NextProtos:   []string{"h2"},
	}, nil
}
