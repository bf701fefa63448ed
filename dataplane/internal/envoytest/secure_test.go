// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// issuer is an authority of the tests.
type issuer struct {
	t    testing.TB
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newIssuer(t testing.TB, name string) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{t: t, name: name, cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// trust is what somebody trusts who trusts these issuers.
func trust(name string, issuers ...issuer) graph.TrustBundle {
	bundle := graph.TrustBundle{Name: name}
	for _, i := range issuers {
		bundle.PEM = append(bundle.PEM, i.pem...)
	}
	return bundle
}

// issue signs a certificate that ends after life. Names with "://" are URIs.
func (i issuer) issue(secret string, serial int64, life time.Duration, names ...string) graph.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if strings.Contains(name, "://") {
			uri, err := url.Parse(name)
			if err != nil {
				i.t.Fatal(err)
			}
			template.URIs = append(template.URIs, uri)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	return graph.Certificate{
		Secret: types.NamespacedName{Namespace: "shop", Name: secret},
		Cert:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

func pairOf(t testing.TB, c graph.Certificate) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// secureBackend is a server that speaks TLS to who begins so, and no TLS to all others, on one
// port. It tells what it saw of the handshake in headers: X-Sni, X-Alpn and X-Client, the serial number of the
// certificate that it was shown.
type secureBackend struct {
	*Backend
	// plain counts connections that began without TLS.
	plain atomic.Int64
	// certificate is what it shows, clients whom it lets in; nil: everybody.
	certificate atomic.Pointer[tls.Certificate]
	clients     atomic.Pointer[x509.CertPool]
	// hasty: it closes each connection after one answer.
	hasty atomic.Bool

	listener net.Listener
	accepted chan net.Conn
}

func newSecureBackend(t testing.TB, name string, cert graph.Certificate) *secureBackend {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &secureBackend{
		Backend:  &Backend{Name: name, address: listener.Addr().(*net.TCPAddr)},
		listener: listener, accepted: make(chan net.Conn),
	}
	b.shows(t, cert)
	server := &http.Server{Handler: http.HandlerFunc(b.answer), Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go b.sort()
	go func() { _ = server.Serve(b) }()
	t.Cleanup(func() { _ = server.Close() })
	return b
}

func (b *secureBackend) shows(t testing.TB, cert graph.Certificate) {
	pair := pairOf(t, cert)
	b.certificate.Store(&pair)
}

func (b *secureBackend) answer(w http.ResponseWriter, r *http.Request) {
	b.Requests.Add(1)
	w.Header().Set("X-Backend", b.Name)
	w.Header().Set("Content-Type", "application/json")
	if r.TLS != nil {
		w.Header().Set("X-Sni", r.TLS.ServerName)
		w.Header().Set("X-Alpn", r.TLS.NegotiatedProtocol)
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Client", r.TLS.PeerCertificates[0].SerialNumber.String())
		}
	}
	if b.hasty.Load() {
		w.Header().Set("Connection", "close")
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = json.NewEncoder(w).Encode(Seen{Backend: b.Name, Host: r.Host, Path: r.URL.EscapedPath(), Proto: r.Proto, Header: r.Header})
}

// sort looks at the first byte of each connection: 22 begins a handshake.
func (b *secureBackend) sort() {
	defer close(b.accepted)
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			reader := bufio.NewReader(conn)
			first, err := reader.Peek(1)
			if err != nil {
				_ = conn.Close()
				return
			}
			begun := net.Conn(&begunConn{Conn: conn, reader: reader})
			if first[0] == 22 {
				begun = tls.Server(begun, &tls.Config{GetConfigForClient: b.config})
			} else {
				b.plain.Add(1)
			}
			defer func() { _ = recover() }() // the server has ended
			b.accepted <- begun
		}()
	}
}

func (b *secureBackend) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	config := &tls.Config{Certificates: []tls.Certificate{*b.certificate.Load()}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}}
	if clients := b.clients.Load(); clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	return config, nil
}

func (b *secureBackend) Accept() (net.Conn, error) {
	conn, ok := <-b.accepted
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (b *secureBackend) Close() error   { return b.listener.Close() }
func (b *secureBackend) Addr() net.Addr { return b.address }

// begunConn is a connection of which something was read already.
type begunConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *begunConn) Read(p []byte) (int, error) { return c.reader.Read(p) }
