// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/xds"
)

// certificate is a self-signed pair for the names, with a serial number to tell it by.
func certificate(t *testing.T, secret string, serial int64, names ...string) graph.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return graph.Certificate{
		Secret: types.NamespacedName{Namespace: "shop", Name: secret},
		Cert:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// servedSerial is the serial number of the certificate that a server name gets.
func servedSerial(port uint32, serverName string) (int64, error) {
	conn, err := tls.Dial("tcp", Address(port), &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestHTTPSListenersByServerName(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, service := range []string{"exact", "wild"} {
		r.endpoints(service, NewBackend(t, service))
	}
	r.publish(graphtest.Graph(
		graphtest.HTTPS("exact", port, "a.example.com", certificate(t, "a", 1, "a.example.com"),
			graphtest.Route("exact", nil, graphtest.Rule("/", graphtest.Backend("exact", 1)))),
		graphtest.HTTPS("wild", port, "*.example.com", certificate(t, "w", 2, "*.example.com"),
			graphtest.Route("wild", []string{"*.example.com", "only.example.com"}, graphtest.Rule("/", graphtest.Backend("wild", 1)))),
		graphtest.HTTPS("other", port, "other.example.org", certificate(t, "o", 3, "other.example.org")),
	))
	for name, want := range map[string]int64{"a.example.com": 1, "b.example.com": 2, "other.example.org": 3} {
		if got, err := servedSerial(port, name); err != nil || got != want {
			t.Errorf("server name %s gets certificate %d, want %d (error %v)", name, got, want, err)
		}
	}
	if serial, err := servedSerial(port, "unknown.example.net"); err == nil {
		t.Errorf("a server name of no listener gets certificate %d, want a closed connection", serial)
	}
	for _, tt := range []struct {
		name, sni, host string
		status          int
		backend         string
	}{
		{"the listener of the server name", "a.example.com", "a.example.com", 200, "exact"},
		{"the wildcard listener", "b.example.com", "b.example.com", 200, "wild"},
		{"another host of the same listener", "b.example.com", "only.example.com", 200, "wild"},
		{"a host of a more specific listener is misdirected", "b.example.com", "a.example.com", 421, ""},
		{"a host of a wider listener is misdirected", "a.example.com", "b.example.com", 421, ""},
		{"a host of another listener is misdirected", "a.example.com", "other.example.org", 421, ""},
		{"a host of no listener", "a.example.com", "unknown.example.net", 404, ""},
		{"a listener without routes", "other.example.org", "other.example.org", 404, ""},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, h2), func(t *testing.T) {
				a, err := send(call{port: port, sni: tt.sni, host: tt.host, path: "/", http2: h2})
				if err != nil {
					t.Fatal(err)
				}
				if a.status != tt.status || a.seen.Backend != tt.backend {
					t.Errorf("got %d from %q, want %d from %q", a.status, a.seen.Backend, tt.status, tt.backend)
				}
				if tt.backend != "" && a.seen.Header.Get("X-Forwarded-Proto") != "https" {
					t.Errorf("the backend saw the protocol %q", a.seen.Header.Get("X-Forwarded-Proto"))
				}
			})
		}
	}
	if conn, err := tls.Dial("tcp", Address(port), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

func TestARotatedCertificateDropsNoConnection(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	route := graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))
	with := func(serial int64) *graph.Graph {
		return graphtest.Graph(graphtest.HTTPS("web", port, "a.example.com", certificate(t, "a", serial, "a.example.com"), route))
	}
	r.publish(with(1))
	raw, err := tls.Dial("tcp", Address(port), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&http2.Transport{}).NewClientConn(raw) //nolint:staticcheck // on a connection that is there already
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://a.example.com/", nil)
		if err != nil {
			return err
		}
		answer, err := conn.RoundTrip(request)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != 200 {
			return errors.New(answer.Status)
		}
		return nil
	}
	for serial := int64(2); serial <= 5; serial++ {
		if err := get(); err != nil {
			t.Fatalf("the connection of the first certificate: %v", err)
		}
		r.publish(with(serial))
		r.Eventually("the new certificate is served", func() error {
			got, err := servedSerial(port, "a.example.com")
			if err == nil && got != serial {
				err = fmt.Errorf("certificate %d is served", got)
			}
			return err
		})
	}
	if err := get(); err != nil {
		t.Errorf("the connection of the first certificate: %v", err)
	}
}

func TestAProxyOfAnotherGatewayIsRefused(t *testing.T) {
	w := NewWorld(t)
	other := types.NamespacedName{Namespace: "infra", Name: "other"}
	// The proxy asks for one Gateway with the certificate of another.
	p := w.StartProxy(graphtest.GatewayKey)
	w.Server.Publish(xds.Translate(graphtest.Graph(graphtest.HTTP("http", FreePort(t), "")), graphtest.GatewayKey))
	w.AwaitAck(graphtest.GatewayKey, 1)
	w.StopServer()
	w.WriteCertificates(p, other)
	w.StartServer()
	w.Eventually("the proxy logs why it was refused", func() error {
		page, err := p.Admin("/stats?filter=control_plane.connected_state")
		if err != nil {
			return err
		}
		if !strings.Contains(page, "connected_state: 0") || w.Server.State(graphtest.GatewayKey).Connected != 0 {
			return errors.New(page)
		}
		if got := w.Server.State(other).Connected; got != 0 {
			t.Fatalf("%d proxies of the other Gateway are connected", got)
		}
		return nil
	})
	// With its own certificate again it is let in, without a restart.
	w.WriteCertificates(p, graphtest.GatewayKey)
	w.Eventually("the proxy is back with its rotated certificate", func() error {
		if w.Server.State(graphtest.GatewayKey).Connected == 0 {
			return errors.New("not connected")
		}
		return nil
	})
	if got, want := refusal(t, w, graphtest.GatewayKey, other), `the proxy asks for Gateway "infra/edge" but its certificate names "infra/other"`; !strings.Contains(got, want) {
		t.Errorf("the proxy is told %q, want %q", got, want)
	}
}

// refusal is what a proxy is told that asks for one Gateway with the certificate of another.
func refusal(t *testing.T, w *World, asks, has types.NamespacedName) string {
	t.Helper()
	pair, err := pki.NewProxy(w.Authority, has, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.Authority.Cert)
	conn, err := grpc.NewClient(Address(w.Port), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		ServerName: "localhost", RootCAs: roots, Certificates: []tls.Certificate{cert},
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Cluster: asks.String()}})
	_, err = stream.Recv()
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream ended with %v, want PermissionDenied", err)
	}
	return status.Convert(err).Message()
}
