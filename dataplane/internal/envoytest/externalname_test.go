// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// publishObjects makes the graph of objects current, whose names one name server knows. The
// Gateway is infra/edge.
func (r *rig) publishObjects(dns *net.UDPAddr, allowNames bool, objects string) *graph.Graph {
	r.TB.Helper()
	resources, _, err := goldens.Parse([]byte(objects))
	if err != nil {
		r.TB.Fatal(err)
	}
	resources.ExternalNames = allowNames
	g := graph.Build(resources)
	snap := xds.Translate(g, graphtest.GatewayKey)
	for _, m := range snap.Clusters {
		askAt(r.TB, m.(*clusterv3.Cluster), dns)
	}
	r.AwaitAck(graphtest.GatewayKey, r.Server.Publish(snap))
	return g
}

// edge is a Gateway with a listener that routes of all namespaces may use.
func edge(port uint32) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: headgate}
spec: {controllerName: headgate.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: infra, name: edge}
spec:
  gatewayClassName: headgate
  listeners: [{name: http, port: %d, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
`, port)
}

// TestServicesThatStandForAHostOutside sends to Services of type ExternalName: one that is
// found by its name, one whose name is refused, and one that becomes such a Service.
func TestServicesThatStandForAHostOutside(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	outside, inside := NewBackend(t, "outside"), NewBackend(t, "inside")
	dns := nameServer(t, "api.example.com.")
	key := graph.ClusterKey{Namespace: "shop", Service: "moves", Port: int32(outside.address.Port)}
	r.Server.PublishEndpoints(key, Endpoints(key, inside))
	objects := func(moves string) string {
		return edge(port) + fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: named}
spec: {type: ExternalName, externalName: API.example.com}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: around}
spec: {type: ExternalName, externalName: web.finance.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: moves}
spec: {%[2]s, ports: [{port: %[1]d}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: all}
spec:
  parentRefs: [{namespace: infra, name: edge}]
  rules:
  - matches: [{path: {value: /named}}]
    backendRefs: [{name: named, port: %[1]d}]
  - matches: [{path: {value: /rewritten}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: api.example.com}}]
    backendRefs: [{name: named, port: %[1]d}]
  - matches: [{path: {value: /around}}]
    backendRefs: [{name: around, port: %[1]d}]
  - backendRefs: [{name: moves, port: %[1]d}]
`, outside.address.Port, moves)
	}
	check := func(path string, status int, backend, host string) {
		t.Helper()
		a := r.do(call{port: port, path: path})
		if a.status != status || a.seen.Backend != backend || a.seen.Host != host {
			t.Errorf("%s: %d from %q for host %q, want %d from %q for host %q", path, a.status, a.seen.Backend, a.seen.Host, status, backend, host)
		}
	}
	r.publishObjects(dns, false, objects("type: ClusterIP"))
	check("/named", 500, "", "")
	check("/moves", 200, "inside", "example.com")
	g := r.publishObjects(dns, true, objects("type: ClusterIP"))
	check("/named", 200, "outside", "example.com")
	check("/rewritten", 200, "outside", "api.example.com")
	check("/around", 500, "", "")
	check("/moves", 200, "inside", "example.com")
	if p := g.Routes[0].Rules[2].Backends[0].Problems; len(p) != 1 || !strings.Contains(p[0].Message, "it is a name of the cluster") {
		t.Errorf("the route is told %v", p)
	}
	// There and back under load. The old endpoints serve until the name has an address.
	load := startLoad(t, port)
	for range 3 {
		for spec, backend := range map[string]string{"type: ExternalName, externalName: api.example.com": "outside", "type: ClusterIP": "inside"} {
			r.publishObjects(dns, true, objects(spec))
			r.Eventually(backend+" serves", func() error {
				return same("backend", r.do(call{port: port, path: "/moves"}).seen.Backend, backend)
			})
		}
	}
	for n := 0; n < 100 && load.sent.Load() < 200; n++ {
		time.Sleep(50 * time.Millisecond)
	}
	load.stop()
}

// secureServer answers on loopback over TLS with the names of the client's certificate, the
// server name that it asked for and the protocol.
func secureServer(t *testing.T, server graph.Certificate, protocols ...string) uint32 {
	t.Helper()
	pair, err := tls.X509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		seen := Seen{Backend: "none", Host: r.TLS.ServerName, Proto: r.Proto, Header: r.Header}
		if len(r.TLS.PeerCertificates) > 0 {
			seen.Backend = r.TLS.PeerCertificates[0].DNSNames[0]
		}
		_ = json.NewEncoder(w).Encode(seen)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protocols, ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = len(protocols) > 0 && protocols[0] == "h2"
	s.StartTLS()
	t.Cleanup(s.Close)
	return uint32(s.Listener.Addr().(*net.TCPAddr).Port)
}

// TestTLSToAHostOutside speaks to a real TLS server as an XBackend says, whatever the
// Gateway itself would show to backends.
func TestTLSToAHostOutside(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	dns := nameServer(t, "api.example.com.")
	trusted, other := certificate(t, "server", 1, "api.example.com"), certificate(t, "other", 2, "api.example.com")
	client := certificate(t, "client", 3, "client.shop")
	one, two := secureServer(t, trusted, "http/1.1"), secureServer(t, trusted, "h2", "http/1.1")
	block := func(pem []byte) string { return strings.ReplaceAll("\n"+string(pem), "\n", "\n    ") }
	xbackend := func(name, protocol, hostname, ca, mode string, at uint32) string {
		return fmt.Sprintf(`
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackend
metadata: {namespace: shop, name: %[1]s}
spec:
  type: ExternalHostname
  protocol: %[2]s
  port: {number: %[6]d}
  externalHostname: {hostname: api.example.com}
  tls: {%[5]s, validation: {hostname: %[3]s, caCertificateRefs: [{group: '', kind: ConfigMap, name: %[4]s}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: %[1]s}
spec:
  parentRefs: [{namespace: infra, name: edge}]
  rules: [{matches: [{path: {value: /%[1]s}}], backendRefs: [{group: gateway.networking.x-k8s.io, kind: XBackend, name: %[1]s}]}]
`, name, protocol, hostname, ca, mode, at)
	}
	const alone, both = "mode: ServerOnly", "mode: ClientAndServer, clientCertificateRef: {name: client}"
	objects := strings.Replace(edge(port), "  listeners:", "  tls: {backend: {clientCertificateRef: {name: gateway}}}\n  listeners:", 1)
	for name, c := range map[string]graph.Certificate{"shop, name: client": client, "infra, name: gateway": certificate(t, "gateway", 4, "gateway.infra")} {
		objects += "---\napiVersion: v1\nkind: Secret\nmetadata: {namespace: " + name + "}\ndata: {tls.crt: " + base64.StdEncoding.EncodeToString(c.Cert) + ", tls.key: " + base64.StdEncoding.EncodeToString(c.Key) + "}\n"
	}
	for name, c := range map[string]graph.Certificate{"good": trusted, "bad": other} {
		objects += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: shop, name: " + name + "}\ndata:\n  ca.crt: |" + block(c.Cert) + "\n"
	}
	objects += xbackend("one", "HTTP11", "api.example.com", "good", alone, one) + xbackend("two", "HTTP2", "api.example.com", "good", alone, two) +
		xbackend("both", "HTTP2", "api.example.com", "good", both, two) + xbackend("sockets", "WSS", "api.example.com", "good", both, one) +
		xbackend("wrong-name", "HTTP2", "web.example.com", "good", alone, two) + xbackend("wrong-authority", "HTTP2", "api.example.com", "bad", alone, two)
	r.publishObjects(dns, false, objects)
	for _, tt := range []struct {
		path, proto, shown string
		status             int
	}{
		{"/one", "HTTP/1.1", "none", 200},
		{"/two", "HTTP/2.0", "none", 200},
		{"/both", "HTTP/2.0", "client.shop", 200},
		{"/sockets", "HTTP/1.1", "client.shop", 200},
		{"/wrong-name", "", "", 503},
		{"/wrong-authority", "", "", 503},
	} {
		a := r.do(call{port: port, path: tt.path})
		if a.status != tt.status || a.seen.Proto != tt.proto || a.seen.Backend != tt.shown {
			t.Errorf("%s: %d over %q, shown %q; want %d over %q, shown %q: %s", tt.path, a.status, a.seen.Proto, a.seen.Backend, tt.status, tt.proto, tt.shown, a.body)
		}
		if tt.status == 200 && a.seen.Host != "api.example.com" {
			t.Errorf("%s: the server name is %q", tt.path, a.seen.Host)
		}
	}
}
