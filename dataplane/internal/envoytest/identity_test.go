// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/xds"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// intruder is a client of the control plane with a certificate that it got somewhere.
func intruder(t *testing.T, w *World, authority pki.Pair, gateway types.NamespacedName, issued time.Time) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	pair, err := pki.NewProxy(authority, gateway, issued, rand.Reader)
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
		ServerName: "localhost", RootCAs: roots,
		// Whatever the server asks for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		return nil
	}
	return stream
}

// secretGraph is a Gateway with one HTTPS listener and its certificate.
func secretGraph(t *testing.T, gateway types.NamespacedName, secret string) *graph.Graph {
	g := graphtest.Graph(graphtest.HTTPS("web", FreePort(t), "", certificate(t, secret, 1, "a.example.com")))
	g.Gateways[0].Key = gateway
	return g
}

func TestASecretGoesOnlyToGatewaysThatReferToIt(t *testing.T) {
	w := NewWorld(t)
	edge, other := graphtest.GatewayKey, types.NamespacedName{Namespace: "infra", Name: "other"}
	w.Server.Publish(xds.Translate(secretGraph(t, edge, "mine"), edge))
	w.Server.Publish(xds.Translate(secretGraph(t, other, "theirs"), other))
	for _, subscribe := range [][]string{{"shop/mine", "shop/theirs"}, {"*"}} {
		stream := intruder(t, w, w.Authority, edge, time.Now())
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Cluster: edge.String()}, TypeUrl: secretType, ResourceNamesSubscribe: subscribe,
		}); err != nil {
			t.Fatal(err)
		}
		var got []string
		deadline := time.AfterFunc(time.Second, func() { _ = stream.CloseSend() })
		for {
			in, err := stream.Recv()
			if err != nil {
				break
			}
			for _, res := range in.Resources {
				got = append(got, res.Name)
				if strings.Contains(string(res.Resource.Value), "theirs") {
					t.Errorf("asked for %q: a resource speaks of the other Gateway's Secret", subscribe)
				}
			}
		}
		deadline.Stop()
		if slices.Contains(got, "shop/theirs") {
			t.Errorf("asked for %q: got %q", subscribe, got)
		}
		if subscribe[0] != "*" && !slices.Contains(got, "shop/mine") {
			t.Errorf("asked for %q: got %q, want its own", subscribe, got)
		}
	}
}

func TestCertificatesThatAreRefused(t *testing.T) {
	w := NewWorld(t)
	w.Server.Publish(xds.Translate(secretGraph(t, graphtest.GatewayKey, "mine"), graphtest.GatewayKey))
	foreign, err := pki.NewAuthority(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		authority pki.Pair
		issued    time.Time
	}{
		{"one that has ended", w.Authority, time.Now().Add(-pki.LeafLifetime - time.Minute)},
		{"one that has not begun", w.Authority, time.Now().Add(time.Hour)},
		{"one of another authority", foreign, time.Now()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := intruder(t, w, tt.authority, graphtest.GatewayKey, tt.issued)
			if stream == nil {
				return
			}
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				Node: &corev3.Node{Cluster: graphtest.GatewayKey.String()}, TypeUrl: secretType, ResourceNamesSubscribe: []string{"shop/mine"},
			})
			if in, err := stream.Recv(); err == nil {
				t.Errorf("the proxy got %v", in)
			}
			if n := w.Server.State(graphtest.GatewayKey).Connected; n != 0 {
				t.Errorf("%d proxies are connected", n)
			}
		})
	}
}

func TestAStreamEndsWithItsCertificate(t *testing.T) {
	w := NewWorld(t)
	w.Server.Publish(xds.Translate(secretGraph(t, graphtest.GatewayKey, "mine"), graphtest.GatewayKey))
	stream := intruder(t, w, w.Authority, graphtest.GatewayKey, time.Now().Add(3*time.Second-pki.LeafLifetime))
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Cluster: graphtest.GatewayKey.String()}, TypeUrl: secretType, ResourceNamesSubscribe: []string{"shop/mine"},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("with a certificate that is still good: %v", err)
	}
	began := time.Now()
	_, err := stream.Recv()
	if took := time.Since(began); status.Code(err) != codes.Unavailable || took > patience {
		t.Errorf("the stream ended after %s with %v, want a closed connection", took, err)
	}
}

// TestRotationOfAProxysCertificate renews a proxy's certificate many times: its stream goes on and no
// new connection is made, until the first certificate ends; then it is back with the last.
func TestRotationOfAProxysCertificate(t *testing.T) {
	w := NewWorld(t)
	w.ProxyIssued = func() time.Time { return time.Now().Add(8*time.Second - pki.LeafLifetime) }
	r := &rig{World: w, proxy: w.StartProxy(graphtest.GatewayKey)}
	w.ProxyIssued = nil
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	listener := graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))
	r.publish(graphtest.Graph(listener))
	ends := time.Now().Add(8 * time.Second)
	l := startLoad(t, port)
	connections := func() string {
		page, err := r.proxy.Admin("/stats?filter=^cluster\\." + bootstrap.ControlPlane + "\\.upstream_cx_total$")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(page)
	}
	loaded := func() string {
		page, err := r.proxy.Admin("/certs")
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	first, certs := connections(), loaded()
	for i := range 5 {
		w.WriteCertificates(r.proxy, graphtest.GatewayKey)
		r.Eventually("the proxy reads its new certificate", func() error {
			if loaded() == certs {
				return errors.New("it has the former one")
			}
			return nil
		})
		certs = loaded()
		if now := connections(); now != first && time.Now().Before(ends) {
			t.Errorf("after rotation %d: %s, before %s", i, now, first)
		}
	}
	if !strings.HasSuffix(first, " 1") {
		t.Errorf("before the rotations: %q, want one connection", first)
	}
	time.Sleep(time.Until(ends))
	r.Eventually("the proxy is back with its new certificate", func() error {
		state := w.Server.State(graphtest.GatewayKey)
		if now := connections(); state.Connected != 1 || now == first {
			return fmt.Errorf("%d connected, %s", state.Connected, now)
		}
		return nil
	})
	r.publish(graphtest.Graph(listener, graphtest.HTTP("more", FreePort(t), "")))
	if now := connections(); !strings.HasSuffix(now, " 2") {
		t.Errorf("%s, want one more than before", now)
	}
	sent, _ := l.stop()
	t.Logf("%d requests", sent)
}
