// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// named is TLS to a backend whose certificate must have one of the names.
func named(serverName string, bundle graph.TrustBundle, names ...string) *graph.UpstreamTLS {
	out := &graph.UpstreamTLS{ServerName: serverName, Trust: bundle}
	for _, name := range names {
		out.Names = append(out.Names, graph.CertificateName{Value: name, URI: strings.Contains(name, "://")})
	}
	return out
}

func TestBackendsOverTLS(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	ours, foreign := newIssuer(t, "ours"), newIssuer(t, "foreign")
	bundle := trust("policy/shop/ours", ours)
	own := ours.issue("own", 77, time.Hour, "own")
	withClient := func(tls *graph.UpstreamTLS) *graph.UpstreamTLS { tls.Client = &own; return tls }
	tests := []struct {
		name   string
		cert   graph.Certificate
		tls    *graph.UpstreamTLS
		h2     bool
		status int
		client string
	}{
		{"the right authority and name", ours.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "a.example.com"), false, 200, "42"},
		{"over HTTP/2", ours.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "a.example.com"), true, 200, "42"},
		{"a client certificate of its own", ours.issue("c", 1, time.Hour, "a.example.com"), withClient(named("a.example.com", bundle, "a.example.com")), false, 200, "77"},
		{"another authority", foreign.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "a.example.com"), false, 503, ""},
		{"another authority, over HTTP/2", foreign.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "a.example.com"), true, 503, ""},
		{"another name", ours.issue("c", 1, time.Hour, "b.example.com"), named("a.example.com", bundle, "a.example.com"), false, 503, ""},
		{"a certificate that has ended", ours.issue("c", 1, -time.Minute, "a.example.com"), named("a.example.com", bundle, "a.example.com"), false, 503, ""},
		{"a wildcard in the certificate", ours.issue("c", 1, time.Hour, "*.example.com"), named("a.example.com", bundle, "a.example.com"), false, 200, "42"},
		{"a wildcard that is asked for", ours.issue("c", 1, time.Hour, "x.example.com"), named("a.example.com", bundle, "*.example.com"), false, 200, "42"},
		{"a wildcard that is asked for stands for one label", ours.issue("c", 1, time.Hour, "x.y.example.com"), named("a.example.com", bundle, "*.example.com"), false, 503, ""},
		{"other names count and the server name does not", ours.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "b.example.com"), false, 503, ""},
		{"one of several names", ours.issue("c", 1, time.Hour, "c.example.com"), named("a.example.com", bundle, "b.example.com", "c.example.com"), false, 200, "42"},
		{"a URI", ours.issue("c", 1, time.Hour, "spiffe://example.com/pay"), named("a.example.com", bundle, "spiffe://example.com/pay"), false, 200, "42"},
		{"another URI", ours.issue("c", 1, time.Hour, "spiffe://example.com/pay/more"), named("a.example.com", bundle, "spiffe://example.com/pay"), false, 503, ""},
		{"a URI is not a DNS name", ours.issue("c", 1, time.Hour, "a.example.com"), named("a.example.com", bundle, "spiffe://a.example.com"), false, 503, ""},
	}
	var rules []*graph.Rule
	backends := make([]*secureBackend, len(tests))
	for i, tt := range tests {
		service := fmt.Sprint("s", i)
		backends[i] = newSecureBackend(t, service, tt.cert)
		b := graphtest.Backend(service, 1)
		if b.TLS = tt.tls; tt.h2 {
			b.Cluster.Protocol = graph.UpstreamH2C
		}
		r.Server.PublishEndpoints(b.Cluster, Endpoints(b.Cluster, backends[i].Backend))
		rules = append(rules, graphtest.Rule("/"+service, b))
	}
	// A backend that does not speak TLS at all.
	bare := NewBackend(t, "bare")
	b := graphtest.Backend("bare", 1)
	b.TLS = named("a.example.com", bundle, "a.example.com")
	r.endpoints("bare", bare)
	rules = append(rules, graphtest.Rule("/bare", b))
	g := graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, rules...)))
	shown := ours.issue("shown", 42, time.Hour, "edge")
	g.Gateways[0].ClientCertificate = &shown
	r.publish(g)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := r.do(call{port: port, path: fmt.Sprintf("/s%d", i)})
			if a.status != tt.status {
				t.Fatalf("answered %d %s, want %d", a.status, a.body, tt.status)
			}
			if backends[i].plain.Load() > 0 {
				t.Error("the proxy spoke without TLS")
			}
			if tt.status != 200 {
				if n := backends[i].Requests.Load(); n > 0 {
					t.Errorf("the backend got %d requests", n)
				}
				return
			}
			alpn, proto := "http/1.1", "HTTP/1.1"
			if tt.h2 {
				alpn, proto = "h2", "HTTP/2.0"
			}
			if got := a.header; got.Get("X-Sni") != tt.tls.ServerName || got.Get("X-Alpn") != alpn || a.seen.Proto != proto || got.Get("X-Client") != tt.client {
				t.Errorf("the backend saw server name %q, ALPN %q, %s and client %q", got.Get("X-Sni"), got.Get("X-Alpn"), a.seen.Proto, got.Get("X-Client"))
			}
		})
	}
	if a := r.do(call{port: port, path: "/bare"}); a.status != 503 || bare.Requests.Load() != 0 {
		t.Errorf("a backend without TLS: answered %d, %d requests reached it", a.status, bare.Requests.Load())
	}
}

func TestTLSToABackendChangesUnderLoadWithoutLoss(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	first, second := newIssuer(t, "first"), newIssuer(t, "second")
	backend := newSecureBackend(t, "web", first.issue("c", 1, time.Hour, "a.example.com"))
	r.endpoints("web", backend.Backend)
	with := func(tls *graph.UpstreamTLS, client *graph.Certificate) {
		t.Helper()
		b := graphtest.Backend("web", 1)
		b.TLS = tls
		g := graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", b))))
		g.Gateways[0].ClientCertificate = client
		r.publish(g)
		time.Sleep(50 * time.Millisecond)
	}
	plain := func() { with(nil, nil) }
	plain()
	l := startLoad(t, port)
	client := first.issue("client", 100, time.Hour, "edge")
	other := second.issue("client", 101, time.Hour, "edge")
	for range 4 {
		with(named("a.example.com", trust("policy/shop/web", first), "a.example.com"), nil)
		with(named("b.example.com", trust("policy/shop/web", first), "a.example.com"), nil)              // another server name
		with(named("b.example.com", trust("policy/shop/web", first, second), "a.example.com"), nil)      // another authority joins
		backend.shows(t, second.issue("c", 2, time.Hour, "b.example.com", "a.example.com"))              // the backend moves to it
		with(named("b.example.com", trust("policy/shop/web", first, second), "b.example.com"), nil)      // another name
		with(named("b.example.com", trust("policy/shop/web", second), "b.example.com"), &client)         // the first authority leaves
		with(named("b.example.com", trust("policy/shop/web", second), "b.example.com"), &other)          // the client's certificate is another
		with(named("b.example.com", trust("policy/shop/other", first, second), "a.example.com"), &other) // another policy
		backend.shows(t, first.issue("c", 1, time.Hour, "a.example.com"))
		plain()
	}
	sent, _ := l.stop()
	t.Logf("%d requests", sent)
}

// TestNewAuthoritiesChangeNoCluster rotates what a backend and the proxies show each other: it
// comes by SDS, and the cluster stays as it is.
func TestNewAuthoritiesChangeNoCluster(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	issuers := []issuer{newIssuer(t, "0")}
	backend := newSecureBackend(t, "web", issuers[0].issue("c", 1, time.Hour, "a.example.com"))
	backend.hasty.Store(true) // so that each request is a handshake
	r.endpoints("web", backend.Backend)
	with := func(serial int64, issuers ...issuer) {
		b := graphtest.Backend("web", 1)
		b.TLS = named("a.example.com", trust("policy/shop/web", issuers...), "a.example.com")
		g := graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", b))))
		client := issuers[len(issuers)-1].issue("client", serial, time.Hour, "edge")
		g.Gateways[0].ClientCertificate = &client
		r.publish(g)
	}
	with(0, issuers[0])
	changes := func() string {
		page, err := r.proxy.Admin("/stats?filter=cluster_manager.cluster_(added|modified)|listener_manager.listener_(added|modified|removed)")
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	before := changes()
	for i := 1; i <= 5; i++ {
		issuers = append(issuers, newIssuer(t, fmt.Sprint(i)))
		with(int64(i), issuers[i-1], issuers[i])
		pool := x509.NewCertPool()
		pool.AddCert(issuers[i].cert)
		backend.clients.Store(pool)
		backend.shows(t, issuers[i].issue("c", int64(i), time.Hour, "a.example.com"))
		with(int64(i), issuers[i])
		r.Eventually("the backend sees the new certificate", func() error {
			a := r.do(call{port: port, path: "/"})
			if a.status != 200 || a.header.Get("X-Client") != fmt.Sprint(i) {
				return fmt.Errorf("%d %s, client %q", a.status, a.body, a.header.Get("X-Client"))
			}
			return nil
		})
	}
	if after := changes(); after != before {
		t.Errorf("clusters or listeners changed:\nbefore\n%s\nafter\n%s", before, after)
	}
}

// TestEndedConnectionsAreEncryptedAgain has one Service behind a listener that ends TLS, one that
// passes it through and one without TLS.
func TestEndedConnectionsAreEncryptedAgain(t *testing.T) {
	r := newRig(t)
	ended, through, bare := FreePort(t), FreePort(t), FreePort(t)
	ours, foreign := newIssuer(t, "ours"), newIssuer(t, "foreign")
	address := newEcho(t, "mail", ours.issue("inside", 8, time.Hour, "mail.internal"))
	r.l4Endpoints("mail", graph.UpstreamTCP, address)
	r.l4Endpoints("mail", graph.UpstreamSecureTCP, address)
	cert := certificate(t, "edge", 7, "mail.example.com")
	publish := func(valid bool, by issuer) {
		backend := func(through bool) *graph.Backend {
			b := graphtest.Backend("mail", 1)
			key := b.Cluster
			if key.Protocol = graph.UpstreamTCP; through {
				b.Through = &key
			}
			b.TLS, b.Valid = named("mail.internal", trust("policy/shop/mail", by), "mail.internal"), valid
			return b
		}
		route := graphtest.L4(graph.KindTLSRoute, "mail", []string{"mail.example.com"}, backend(true))
		db := graphtest.L4(graph.KindTCPRoute, "mail", nil, backend(false))
		for _, r := range []*graph.Route{route, db} {
			r.Rules[0].Backends[0].Cluster.Protocol = graph.UpstreamSecureTCP
		}
		r.publish(graphtest.Graph(
			graphtest.Connections("ended", ended, gwv1.TLSProtocolType, "", []graph.Certificate{cert}, route),
			graphtest.Connections("through", through, gwv1.TLSProtocolType, "", nil, route),
			graphtest.Connections("bare", bare, gwv1.TCPProtocolType, "", nil, db)))
	}
	reaches := func(port uint32, serverName string) error {
		l, err := dial(port, serverName)
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		return l.say("hello")
	}
	publish(true, ours)
	for name, port := range map[string]uint32{"ended": ended, "through": through} {
		r.Eventually("a connection to the listener "+name, func() error { return reaches(port, "mail.example.com") })
	}
	r.Eventually("a connection without TLS", func() error { return reaches(bare, "") })
	for port, want := range map[uint32]int64{ended: 7, through: 8} {
		if got, err := servedSerial(port, "mail.example.com"); err != nil || got != want {
			t.Errorf("the client sees certificate %d, want %d (error %v)", got, want, err)
		}
	}
	closed := func(what string) {
		t.Helper()
		r.Eventually(what, func() error {
			if err := reaches(ended, "mail.example.com"); err == nil {
				return errors.New("a connection whose TLS was ended gets through")
			}
			if err := reaches(bare, ""); err == nil {
				return errors.New("a connection without TLS gets through")
			}
			return nil
		})
		if err := reaches(through, "mail.example.com"); err != nil {
			t.Errorf("%s: what is passed through ends with %v", what, err)
		}
	}
	publish(true, foreign)
	closed("the backend's authority is not the policy's")
	publish(false, ours)
	closed("the policy cannot be followed")
}
