// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"golang.org/x/net/dns/dnsmessage"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// TestAHostOutsideOfTheClusterIsFoundByItsName sends to a name that has an address, and to
// one that has none, which must not hold up anything else.
func TestAHostOutsideOfTheClusterIsFoundByItsName(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	web := NewBackend(t, "outside")
	r.endpoints("inside", NewBackend(t, "inside"))
	dns := nameServer(t, "api.example.com.")
	named := func(name, host string) *graph.Backend {
		return &graph.Backend{
			Cluster: graph.ClusterKey{Kind: graph.UpstreamXBackend, Namespace: "shop", Service: name, Port: int32(web.address.Port)},
			Host:    host, Weight: 1, Valid: true,
		}
	}
	publish := func(rules ...*graph.Rule) {
		snap := xds.Translate(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, rules...))), graphtest.GatewayKey)
		for _, m := range snap.Clusters {
			askAt(t, m.(*clusterv3.Cluster), dns)
		}
		r.AwaitAck(graphtest.GatewayKey, r.Server.Publish(snap))
	}
	inside := graphtest.Rule("/inside", graphtest.Backend("inside", 1))
	publish(inside)
	began := time.Now()
	publish(inside, graphtest.Rule("/outside", named("outside", "api.example.com.")), graphtest.Rule("/nowhere", named("nowhere", "nowhere.example.com.")))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a name without an address held up the others for %s", took)
	}
	if a := r.do(call{port: port, path: "/outside/a"}); a.status != 200 || a.seen.Backend != "outside" || a.seen.Host != "example.com" {
		t.Errorf("by name: %+v", a)
	}
	if a := r.do(call{port: port, path: "/nowhere"}); a.status != 503 {
		t.Errorf("a name without an address: %d, want 503", a.status)
	}
	if a := r.do(call{port: port, path: "/inside"}); a.status != 200 {
		t.Errorf("the others: %d", a.status)
	}
}

// nameServer knows the loopback address of one name.
func nameServer(t testing.TB, name string) *net.UDPAddr {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			switch {
			case q.Name.String() != name:
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr)
}

// askAt lets a cluster that is found by DNS ask one name server only.
func askAt(t testing.TB, c *clusterv3.Cluster, server *net.UDPAddr) {
	if c.GetClusterType() == nil {
		return
	}
	byName, resolver := &dnsv3.DnsCluster{}, &caresv3.CaresDnsResolverConfig{}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.GetClusterType().TypedConfig.UnmarshalTo(byName))
	must(byName.TypedDnsResolverConfig.TypedConfig.UnmarshalTo(resolver))
	resolver.Resolvers = []*corev3.Address{{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: server.IP.String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(server.Port)},
	}}}}
	must(byName.TypedDnsResolverConfig.TypedConfig.MarshalFrom(resolver))
	must(c.GetClusterType().TypedConfig.MarshalFrom(byName))
}

// TestAClientStaysOnItsEndpoint follows a client through changes of the weights: each
// version keeps the client on one of its endpoints.
func TestAClientStaysOnItsEndpoint(t *testing.T) { inBothScopes(t, testAClientStaysOnItsEndpoint) }

func testAClientStaysOnItsEndpoint(t *testing.T, hosts []string) {
	r := newRig(t)
	port := FreePort(t)
	var pods []*Backend
	for i := range 4 {
		pods = append(pods, NewBackend(t, fmt.Sprintf("stable-%d", i)), NewBackend(t, fmt.Sprintf("canary-%d", i)))
	}
	for i, service := range []string{"stable", "canary"} {
		r.endpoints(service, pods[i], pods[i+2], pods[i+4], pods[i+6])
	}
	versions := func(running bool, stable, canary int32, session func(string) *graph.Session) *graph.Graph {
		rule := graphtest.Rule("/", graphtest.Backend("stable", stable), graphtest.Backend("canary", canary))
		for _, b := range rule.Backends {
			b.Filters.Session = session(b.Cluster.Service)
		}
		route := graphtest.Route("web", hosts, rule)
		route.Running = running
		return graphtest.Graph(graphtest.HTTP("http", port, "", route))
	}
	byCookie := func(service string) *graph.Session { return &graph.Session{Cookie: "at-" + service, Path: "/"} }
	cookies := map[string]string{}
	first := map[string]string{}
	for step, weights := range [][2]int32{{90, 10}, {50, 50}, {10, 90}, {0, 100}, {100, 0}} {
		r.publish(versions(step < 3, weights[0], weights[1], byCookie))
		for range 40 {
			header := map[string]string{}
			for name, value := range cookies {
				header["Cookie"] += name + "=" + value + "; "
			}
			a := r.do(call{port: port, path: "/", header: header})
			service, _, _ := strings.Cut(a.seen.Backend, "-")
			if first[service] == "" {
				first[service] = a.seen.Backend
			}
			if a.seen.Backend != first[service] {
				t.Fatalf("at weights %v the client came to %s, was at %s", weights, a.seen.Backend, first[service])
			}
			for _, c := range (&http.Response{Header: a.header}).Cookies() {
				cookies[c.Name] = c.Value
			}
		}
	}
	if len(first) != 2 || cookies["at-stable"] == "" || cookies["at-canary"] == "" {
		t.Errorf("endpoints %v, cookies %v", first, cookies)
	}
	// Without the cookie, others are reached.
	others := map[string]bool{}
	for range 40 {
		others[r.do(call{port: port, path: "/"}).seen.Backend] = true
	}
	if len(others) < 2 {
		t.Errorf("without a session only %v were reached", others)
	}
	r.publish(versions(false, 1, 0, func(string) *graph.Session { return &graph.Session{Header: "X-Session"} }))
	a := r.do(call{port: port, path: "/"})
	for range 20 {
		again := r.do(call{port: port, path: "/", header: map[string]string{"X-Session": a.header.Get("X-Session")}})
		if again.seen.Backend != a.seen.Backend {
			t.Fatalf("with the header the client came to %s, was at %s", again.seen.Backend, a.seen.Backend)
		}
	}
	// An endpoint that goes takes its sessions along; another serves them.
	r.endpoints("stable", NewBackend(t, "stable-new"))
	r.Eventually("another endpoint takes over", func() error {
		if b := r.do(call{port: port, path: "/", header: map[string]string{"X-Session": a.header.Get("X-Session")}}); b.status != 200 || b.seen.Backend != "stable-new" {
			return fmt.Errorf("%d from %s", b.status, b.seen.Backend)
		}
		return nil
	})
}

// TestARetryBudgetBoundsRetries counts attempts at a backend that always fails.
func TestARetryBudgetBoundsRetries(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	slow := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	attempts := func(path string, b *Backend) int64 {
		const clients, each = 20, 5
		done := make(chan struct{}, clients)
		for range clients {
			go func() {
				for range each {
					_, _ = send(call{port: port, path: path})
				}
				done <- struct{}{}
			}()
		}
		for range clients {
			<-done
		}
		return b.Requests.Load() - clients*each
	}
	free, bound := NewBackendFunc(t, "free", slow), NewBackendFunc(t, "bound", slow)
	r.endpoints("free", free)
	r.endpoints("bound", bound)
	rule := func(path, service string) *graph.Rule {
		rule := graphtest.Rule(path, graphtest.Backend(service, 1))
		rule.Retry = &graph.Retry{Attempts: 2, Codes: []uint32{503}}
		return rule
	}
	limited := rule("/bound", "bound")
	limited.Backends[0].Budget = &graph.RetryBudget{Percent: 10, Interval: time.Second, MinPerSecond: 1}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, rule("/free", "free"), limited))))
	if n := attempts("/free", free); n != 200 {
		t.Errorf("without a budget %d retries, want 200", n)
	}
	if n := attempts("/bound", bound); n == 0 || n > 100 {
		t.Errorf("with a budget of 10 %% %d retries, want some and far fewer than 200", n)
	}
}
