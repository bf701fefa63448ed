// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

func TestClientsShowCertificates(t *testing.T) {
	r := newRig(t)
	strict, fallback, open, plain := FreePort(t), FreePort(t), FreePort(t), FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	ours, foreign := newIssuer(t, "ours"), newIssuer(t, "foreign")
	cert := certificate(t, "edge", 7, "a.example.com")
	route := graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))
	listener := func(name string, port uint32, validation *graph.ClientValidation) *graph.Listener {
		l := graphtest.HTTPS(name, port, "", cert, route)
		l.ClientValidation = validation
		return l
	}
	r.publish(graphtest.Graph(
		listener("strict", strict, &graph.ClientValidation{Trust: trust("clients/infra/edge/1", ours)}),
		listener("fallback", fallback, &graph.ClientValidation{Trust: trust("clients/infra/edge/2", ours), Insecure: true}),
		listener("open", open, nil),
		graphtest.HTTP("plain", plain, "", route)))
	right, wrong := ours.issue("client", 1, time.Hour, "client"), foreign.issue("client", 2, time.Hour, "client")
	ended := ours.issue("client", 3, -time.Minute, "client")
	for _, tt := range []struct {
		name string
		port uint32
		cert *graph.Certificate
		ok   bool
	}{
		{"strict, the right one", strict, &right, true},
		{"strict, none", strict, nil, false},
		{"strict, one of another authority", strict, &wrong, false},
		{"strict, one that has ended", strict, &ended, false},
		{"fallback, the right one", fallback, &right, true},
		{"fallback, none", fallback, nil, true},
		{"fallback, one of another authority", fallback, &wrong, true},
		{"without validation, one that nobody asks for", open, &wrong, true},
		{"without validation, none", open, nil, true},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, h2), func(t *testing.T) {
				a, err := send(call{port: tt.port, sni: "a.example.com", path: "/", http2: h2, certificate: tt.cert, header: forged()})
				switch {
				case tt.ok && (err != nil || a.status != 200):
					t.Fatalf("answered %d, %v, want 200", a.status, err)
				case !tt.ok && err == nil:
					t.Fatalf("answered %d, want no answer", a.status)
				}
				checkUnforged(t, a)
			})
		}
	}
	checkUnforged(t, r.do(call{port: plain, path: "/", header: forged()}))
}

// forged are headers by which a client says who it is without a certificate.
func forged() map[string]string {
	return map[string]string{"X-Forwarded-Client-Cert": "Subject=\"CN=admin\";URI=spiffe://example.com/admin"}
}

func checkUnforged(t *testing.T, a answer) {
	t.Helper()
	if got := a.seen.Header.Values("X-Forwarded-Client-Cert"); len(got) > 0 {
		t.Errorf("the backend sees x-forwarded-client-cert %q", got)
	}
}

// TestRotationOfAListenersSecretsIsSDSOnly rotates certificate and authority of a listener under
// load. Connections stay, new ones follow, and no listener is touched.
func TestRotationOfAListenersSecretsIsSDSOnly(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	issuers := []issuer{newIssuer(t, "0")}
	route := graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))
	with := func(serial int64, issuers ...issuer) {
		t.Helper()
		l := graphtest.HTTPS("web", port, "", certificate(t, "edge", serial, "example.com"), route)
		l.ClientValidation = &graph.ClientValidation{Trust: trust("clients/infra/edge", issuers...)}
		r.publish(graphtest.Graph(l))
	}
	with(1, issuers[0])
	client := issuers[0].issue("client", 1, time.Hour, "client")
	r.Eventually("the listener answers", func() error {
		_, err := send(call{port: port, sni: "example.com", path: "/", certificate: &client})
		return err
	})
	changes := func() string {
		page, err := r.proxy.Admin("/stats?filter=listener_manager.listener_(added|modified|removed|in_place_updated)|cluster_manager.cluster_(added|modified|removed)")
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	before := changes()
	pair := pairOf(t, client)
	l := startLoadOver(t, port, &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	})
	r.Eventually("all of the load's connections are made", func() error {
		if n := l.connected.Load(); n < 8 {
			return fmt.Errorf("%d of 8", n)
		}
		return nil
	})
	for i := 1; i <= 20; i++ {
		former := issuers[i-1].issue("client", 1, time.Hour, "client")
		issuers = append(issuers, newIssuer(t, fmt.Sprint(i)))
		now := issuers[i].issue("client", int64(i), time.Hour, "client")
		with(int64(i), issuers[i-1], issuers[i])
		for _, c := range []graph.Certificate{former, now} {
			r.Eventually("clients of both authorities are let in", func() error {
				_, err := send(call{port: port, sni: "example.com", path: "/", certificate: &c})
				return err
			})
		}
		with(int64(i+1), issuers[i])
		r.Eventually("clients of the former authority are not", func() error {
			if _, err := send(call{port: port, sni: "example.com", path: "/", certificate: &former}); err == nil {
				return fmt.Errorf("round %d: let in", i)
			}
			return nil
		})
		if _, err := send(call{port: port, sni: "example.com", path: "/", certificate: &now}); err != nil {
			t.Errorf("a client of the authority: %v", err)
		}
	}
	sent, _ := l.stop()
	t.Logf("%d requests", sent)
	if after := changes(); after != before {
		t.Errorf("clusters or listeners changed:\nbefore\n%s\nafter\n%s", before, after)
	}
}
