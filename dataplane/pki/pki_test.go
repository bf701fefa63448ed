// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/pki"
)

var (
	now     = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	gateway = types.NamespacedName{Namespace: "infra", Name: "edge.v2"}
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func parse(t *testing.T, p pki.Pair) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(p.Cert)
	return must[*x509.Certificate](t)(x509.ParseCertificate(block.Bytes))
}

func TestAProxysCertificateNamesItsGateway(t *testing.T) {
	authority := must[pki.Pair](t)(pki.NewAuthority(now, rand.Reader))
	proxy := must[pki.Pair](t)(pki.NewProxy(authority, gateway, now, rand.Reader))
	if got, err := pki.GatewayOf(parse(t, proxy)); err != nil || got != gateway {
		t.Errorf("it names %v, %v", got, err)
	}
	if !pki.SignedBy(proxy.Cert, authority.Cert) {
		t.Error("it is not signed by its authority")
	}
	other := must[pki.Pair](t)(pki.NewAuthority(now, rand.Reader))
	if pki.SignedBy(proxy.Cert, other.Cert) {
		t.Error("it counts as signed by another authority")
	}
	if _, err := pki.GatewayOf(parse(t, authority)); err == nil || !strings.Contains(err.Error(), "spiffe://headgate.dev/gateway/") {
		t.Errorf("a certificate that names none: %v, want the form of the name", err)
	}
}

func TestNamesThatAreNotAGateway(t *testing.T) {
	for _, name := range []string{
		"spiffe://headgate.dev/gateway/only-namespace", "spiffe://headgate.dev/gateway/a/b/c", "spiffe://headgate.dev/gateway//b",
		"spiffe://elsewhere.dev/gateway/a/b", "https://headgate.dev/gateway/a/b", "spiffe://headgate.dev/other/a/b",
	} {
		uri := must[*url.URL](t)(url.Parse(name))
		if got, err := pki.GatewayOf(&x509.Certificate{URIs: []*url.URL{uri}}); err == nil {
			t.Errorf("%s names the Gateway %s", name, got)
		}
	}
}

func TestRotationIsDueAfterTwoThirdsOfTheLife(t *testing.T) {
	authority := must[pki.Pair](t)(pki.NewAuthority(now, rand.Reader))
	server := must[pki.Pair](t)(pki.NewServer(authority, []string{"headgate.example", "10.0.0.1"}, now, rand.Reader))
	expiry := must[time.Time](t)(pki.Expiry(server.Cert))
	if want := now.Add(pki.LeafLifetime); !expiry.Equal(want) {
		t.Errorf("it ends at %v, want %v", expiry, want)
	}
	first, last := now.Add(pki.LeafLifetime*2/3-5*time.Minute), now.Add(pki.LeafLifetime*3/4)
	moments := map[time.Time]bool{}
	for range 40 { // issued together, and not due together
		server, err := pki.NewServer(authority, []string{"headgate"}, now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		due := pki.RotationDue(server.Cert)
		if moments[due] = true; due.Before(first) || due.After(last) {
			t.Errorf("rotation is due at %v, want from %v to %v", due, first, last)
		}
	}
	if len(moments) < 20 {
		t.Errorf("40 certificates are due at %d moments", len(moments))
	}
	for _, broken := range [][]byte{nil, []byte("nonsense"), server.Key} {
		if due := pki.RotationDue(broken); !due.IsZero() {
			t.Errorf("a certificate that cannot be read is due at %v, want at once", due)
		}
		if _, err := pki.Expiry(broken); err == nil {
			t.Error("the end of something that is no certificate has no error")
		}
	}
}

func TestASignerThatCannotBeRead(t *testing.T) {
	for _, authority := range []pki.Pair{{}, {Cert: []byte("x"), Key: []byte("y")}} {
		if _, err := pki.NewProxy(authority, gateway, now, rand.Reader); err == nil || !strings.Contains(err.Error(), "reading the authority") {
			t.Errorf("got %v", err)
		}
	}
}

func TestServerAndProxyTrustEachOtherOnly(t *testing.T) {
	start := time.Now()
	authority := must[pki.Pair](t)(pki.NewAuthority(start, rand.Reader))
	foreign := must[pki.Pair](t)(pki.NewAuthority(start, rand.Reader))
	identity := pki.Identity{Pair: must[pki.Pair](t)(pki.NewServer(authority, []string{"headgate.example"}, start, rand.Reader)), CA: authority.Cert}
	config := must[*tls.Config](t)(identity.ServerConfig())
	for _, tt := range []struct {
		name   string
		signer pki.Pair
		ok     bool
	}{{"a proxy of the authority", authority, true}, {"a proxy of another authority", foreign, false}} {
		t.Run(tt.name, func(t *testing.T) {
			pair := must[pki.Pair](t)(pki.NewProxy(tt.signer, gateway, start, rand.Reader))
			cert := must[tls.Certificate](t)(tls.X509KeyPair(pair.Cert, pair.Key))
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(authority.Cert)
			a, b := net.Pipe()
			client := tls.Client(a, &tls.Config{ServerName: "headgate.example", RootCAs: roots, Certificates: []tls.Certificate{cert}})
			server := tls.Server(b, config)
			deadline := time.Now().Add(10 * time.Second)
			_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
			go func() { _ = client.Handshake(); _, _ = client.Read(make([]byte, 1)) }()
			if err := server.Handshake(); (err == nil) != tt.ok {
				t.Errorf("the handshake ended with %v", err)
			}
			_ = a.Close()
		})
	}
	if _, err := (pki.Identity{}).ServerConfig(); err == nil {
		t.Error("an empty identity has no error")
	}
}
