// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIntersect(t *testing.T) {
	tests := []struct {
		name     string
		listener string
		route    []string
		want     []string
	}{
		{"both serve every host", "", nil, []string{""}},
		{"the listener's host, when the route has none", "a.com", nil, []string{"a.com"}},
		{"the route's host, when the listener has none", "", []string{"a.com", "*.b.com"}, []string{"*.b.com", "a.com"}},
		{"the same", "a.com", []string{"a.com"}, []string{"a.com"}},
		{"the route's host under the listener's wildcard", "*.a.com", []string{"x.a.com", "a.com", "x.y.a.com"}, []string{"x.a.com", "x.y.a.com"}},
		{"the listener's host under the route's wildcard", "x.a.com", []string{"*.a.com", "*.com"}, []string{"x.a.com"}},
		{"the narrower of two wildcards", "*.a.com", []string{"*.com", "*.b.a.com"}, []string{"*.a.com", "*.b.a.com"}},
		{"nothing in common", "a.com", []string{"b.com", "*.a.com"}, nil},
		{"a suffix is not a domain", "*.a.com", []string{"xa.com"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, intersect(tt.listener, tt.route)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOriginIsTheMostSpecificHostname(t *testing.T) {
	a := &Attachment{Route: &Route{Hostnames: []string{"*.com", "*.a.com", "x.a.com"}}}
	for host, want := range map[string]string{"x.a.com": "x.a.com", "y.a.com": "*.a.com", "b.com": "*.com"} {
		if got := a.Origin(host); got != want {
			t.Errorf("Origin(%q) = %q, want %q", host, got, want)
		}
	}
	if got := (&Attachment{Route: &Route{}}).Origin("a.com"); got != "" {
		t.Errorf("Origin without hostnames = %q, want every host", got)
	}
}

func TestCheckRegex(t *testing.T) {
	for _, good := range []string{"a", "(?i)a+", `\pL\p{Lu}\p{Greek}\P{^Lu}`, `[[:alpha:]]{1,1000}`, `\\p{x`, `a|b`, `(?P<n>a)`} {
		if err := checkRegex(good); err != nil {
			t.Errorf("checkRegex(%q) = %v, want it accepted", good, err)
		}
	}
	for _, bad := range []string{"", "(", "a**b(", `(?=a)`, `\1`, `a{1001}`, `\p{Letter}`, `\p{Cn}`, strings.Repeat(`(\pL{1000})`, 3)} {
		if err := checkRegex(bad); err == nil {
			t.Errorf("checkRegex(%q) accepted it", bad)
		}
	}
}

func TestCheckKeyPair(t *testing.T) {
	ec := func(c elliptic.Curve) any { k, _ := ecdsa.GenerateKey(c, rand.Reader); return k }
	strong, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	for name, key := range map[string]any{"P-256": ec(elliptic.P256()), "P-384": ec(elliptic.P384()), "RSA 2048": strong} {
		if cert, key := selfSigned(t, key); checkKeyPair(cert, key) != nil {
			t.Errorf("%s: %v, want it accepted", name, checkKeyPair(cert, key))
		}
	}
	for name, key := range map[string]any{"P-224": ec(elliptic.P224()), "Ed25519": edwards} {
		if cert, key := selfSigned(t, key); checkKeyPair(cert, key) == nil {
			t.Errorf("%s was accepted, Envoy refuses it", name)
		}
	}
	cert, key := selfSigned(t, ec(elliptic.P256()))
	_, other := selfSigned(t, ec(elliptic.P256()))
	junk := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("junk")})
	tests := []struct {
		name, want string
		cert, key  []byte
	}{
		{"no certificate", "tls.crt is missing", nil, key},
		{"no key", "tls.key is missing", cert, nil},
		{"a key of another certificate", "does not match", cert, other},
		{"an intermediate that cannot be read", "of the chain", append(append([]byte{}, cert...), junk...), key},
		{"a key among the certificates", "only CERTIFICATE", append(append([]byte{}, cert...), key...), key},
	}
	for _, tt := range tests {
		if err := checkKeyPair(tt.cert, tt.key); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error that says %q", tt.name, err, tt.want)
		}
	}
}

func selfSigned(t *testing.T, key any) (certPEM, keyPEM []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.com"}, NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.(crypto.Signer).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
