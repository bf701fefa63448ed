// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// routeTo is a route for hosts, all of whose requests go to one Service.
func routeTo(service string, hosts ...string) *graph.Route {
	return graphtest.Route(service, hosts, graphtest.Rule("/", graphtest.Backend(service, 1)))
}

// TestHostsFindTheirScope sends every way to write a host to hosts that have a scope of
// their own, to wildcards, and to hosts that are nobody's.
func TestHostsFindTheirScope(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, service := range []string{"exact", "wild", "deep", "narrow"} {
		r.endpoints(service, NewBackend(t, service))
	}
	narrow := routeTo("narrow", "exact.example.com", "alone.example.com")
	narrow.Rules[0].Matches[0].Path.Value = "/narrow"
	r.publish(graphtest.Graph(
		graphtest.HTTP("open", port, "", narrow, routeTo("exact", "exact.example.com"), routeTo("wild", "*.example.com"), routeTo("deep", "*.a.example.com")),
		graphtest.HTTP("closed", port, "closed.example.com"),
	))
	for _, tt := range []struct {
		name, host, path string
		status           int
		backend          string
	}{
		{"an exact host", "exact.example.com", "/", 200, "exact"},
		{"with a port", "exact.example.com:8080", "/", 200, "exact"},
		{"in capitals", "EXACT.Example.com", "/", 200, "exact"},
		{"in capitals with a port", "EXACT.Example.com:80", "/", 200, "exact"},
		{"its narrower rule", "exact.example.com", "/narrow/x", 200, "narrow"},
		{"its narrower rule, in capitals", "Exact.example.com", "/narrow", 200, "narrow"},
		{"a wildcard", "other.example.com", "/", 200, "wild"},
		{"a wildcard with a port", "other.example.com:8080", "/", 200, "wild"},
		{"a wildcard in capitals", "OTHER.EXAMPLE.COM:1", "/", 200, "wild"},
		{"the longer wildcard", "b.a.example.com", "/", 200, "deep"},
		{"an exact host falls through to the wildcard", "alone.example.com", "/elsewhere", 200, "wild"},
		{"the bare domain is not in its wildcard", "example.com", "/", 404, ""},
		{"an exact host of another listener without routes", "closed.example.com", "/", 404, ""},
		{"the same in capitals", "CLOSED.example.com", "/", 404, ""},
		{"an unknown host", "example.org", "/", 404, ""},
		{"an address", "127.0.0.1", "/", 404, ""},
		{"an IPv6 address", "[::1]:80", "/", 404, ""},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, http2), func(t *testing.T) {
				// A client that knows the internal header gains nothing by it.
				a := r.do(call{
					port: port, host: tt.host, path: tt.path, http2: http2,
					header: map[string]string{"X-Headgate-Scope": fmt.Sprintf("http-%d/exact.example.com", port)},
				})
				if a.status != tt.status || a.seen.Backend != tt.backend {
					t.Fatalf("got %d from %q, want %d from %q", a.status, a.seen.Backend, tt.status, tt.backend)
				}
				if a.status == 200 && (a.seen.Host != tt.host || a.seen.Header.Get("X-Headgate-Scope") != "") {
					t.Errorf("the backend saw the host %q, want %q, and the header %q", a.seen.Host, tt.host, a.seen.Header.Get("X-Headgate-Scope"))
				}
			})
		}
	}
}

// TestConnectAndAsteriskHaveNoRoute sends the two kinds of request that have no path.
func TestConnectAndAsteriskHaveNoRoute(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, service := range []string{"exact", "wild"} {
		r.endpoints(service, NewBackend(t, service))
	}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", routeTo("exact", "exact.example.com"), routeTo("wild", "*.example.com"))))
	for _, request := range []string{"CONNECT exact.example.com:80", "CONNECT a.example.com:80", "CONNECT a.example.org:80"} {
		conn, err := net.Dial("tcp", Address(uint32(graph.ProxyPort(int32(port)))))
		if err != nil {
			t.Fatal(err)
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(request, "CONNECT "), ":")
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n\r\n", request, host)
		answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		if err != nil || answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %v %v, want 404", request, answer, err)
		}
		_ = conn.Close()
	}
}

func TestMirrorsDoNotSeeTheScope(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	seen := make(chan string, 1)
	r.endpoints("web", NewBackend(t, "web"))
	r.endpoints("mirror", NewBackendFunc(t, "mirror", func(_ http.ResponseWriter, request *http.Request) {
		seen <- request.Host + " " + request.Header.Get("X-Headgate-Scope")
	}))
	route := routeTo("web", "exact.example.com")
	route.Rules[0].Mirrors = []*graph.Mirror{{Backend: graphtest.Backend("mirror", 1), PerMillion: 1_000_000}}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)))
	r.do(call{port: port, host: "exact.example.com", path: "/"})
	if got, want := <-seen, "exact.example.com "; got != want {
		t.Errorf("the mirror saw %q, want %q", got, want)
	}
}

// TestMisdirectedRequests are the cases of the conformance suite, several requests over
// one HTTP/2 connection per server name, and some more.
func TestMisdirectedRequests(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, service := range []string{"v1", "v2", "v3", "v4"} {
		r.endpoints(service, NewBackend(t, service))
	}
	cert := certificate(t, "all", 1, "example.org")
	r.publish(graphtest.Graph(
		graphtest.HTTPS("https", port, "", cert, routeTo("v1", "example.org")),
		graphtest.HTTPS("https-with-hostname", port, "second-example.org", cert, routeTo("v2")),
		graphtest.HTTPS("https-with-wildcard-hostname", port, "*.wildcard.org", cert, routeTo("v3")),
		graphtest.HTTPS("https-with-hostname-matching-wildcard", port, "fourth-example.wildcard.org", cert, routeTo("v4")),
	))
	clients := map[string]*http.Client{}
	for range 3 {
		for _, tt := range []struct {
			serverName, host string
			status           int
			backend          string
		}{
			{"example.org", "example.org", 200, "v1"},
			{"example.org", "second-example.org", 421, ""},
			{"example.org", "unknown-example.org", 404, ""},
			{"second-example.org", "second-example.org", 200, "v2"},
			{"second-example.org", "example.org", 421, ""},
			{"second-example.org", "unknown-example.org", 421, ""},
			{"third-example.wildcard.org", "third-example.wildcard.org", 200, "v3"},
			{"third-example.wildcard.org", "fith-example.wildcard.org", 200, "v3"},
			{"third-example.wildcard.org", "fourth-example.wildcard.org", 421, ""},
			{"third-example.wildcard.org", "second-example.org", 421, ""},
			{"third-example.wildcard.org", "unknown-example.org", 421, ""},
			{"fourth-example.wildcard.org", "fourth-example.wildcard.org", 200, "v4"},
			{"fourth-example.wildcard.org", "fith-example.wildcard.org", 421, ""},
			{"unknown-example.org", "example.org", 200, "v1"},
			{"unknown-example.org", "unknown-example.org", 404, ""},
			// Beyond the suite: capitals, ports, and names that try to look like a listener's.
			{"example.org", "EXAMPLE.org", 200, "v1"},
			{"second-example.org", "Second-Example.org:443", 200, "v2"},
			{"example.org", "Second-Example.org:443", 421, ""},
			{"third-example.wildcard.org", "FITH.wildcard.org", 200, "v3"},
			{"example.org", "fith.WILDCARD.org:443", 421, ""},
		} {
			client := clients[tt.serverName]
			if client == nil {
				client = reusing(t, port, tt.serverName)
				clients[tt.serverName] = client
			}
			answer, err := client.Get("https://" + tt.host + "/detect")
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != tt.status || answer.Header.Get("X-Backend") != tt.backend || answer.ProtoMajor != 2 {
				t.Errorf("%s on a connection for %s: %d from %q by %s, want %d from %q", tt.host, tt.serverName,
					answer.StatusCode, answer.Header.Get("X-Backend"), answer.Proto, tt.status, tt.backend)
			}
		}
	}
}

// TestAMoreSpecificListenerIsAddedForAHostInUse: what was opened for the host before is
// not turned away, what was opened for another host is.
func TestAMoreSpecificListenerIsAddedForAHostInUse(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("wide", NewBackend(t, "wide"))
	r.endpoints("narrow", NewBackend(t, "narrow"))
	cert := certificate(t, "all", 1, "example.org")
	any := graphtest.HTTPS("any", port, "", cert, routeTo("wide"))
	wide := graphtest.HTTPS("wide", port, "*.wide.org", cert, routeTo("wide"))
	r.publish(graphtest.Graph(any, wide))
	old := map[string]*http.Client{}
	for _, name := range []string{"web.wide.org", "other.wide.org", "a.b.wide.org"} {
		old[name] = reusing(t, port, name)
	}
	get := func(client *http.Client, host string) string {
		t.Helper()
		answer, err := client.Get("https://" + host + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("X-Backend"))
	}
	for name, client := range old {
		if got := get(client, name); got != "200 wide" {
			t.Errorf("%s before: %s", name, got)
		}
	}
	r.publish(graphtest.Graph(any, wide,
		graphtest.HTTPS("narrow", port, "web.wide.org", cert, routeTo("narrow")),
		graphtest.HTTPS("narrower", port, "*.b.wide.org", cert, routeTo("narrow"))))
	for _, tt := range []struct{ what, serverName, host, want string }{
		{"the host is served as it is now", "web.wide.org", "web.wide.org", "200 narrow"},
		{"so is one of a wildcard", "a.b.wide.org", "a.b.wide.org", "200 narrow"},
		{"what stays with the wider listener", "other.wide.org", "other.wide.org", "200 wide"},
		{"a connection for another host is misdirected", "other.wide.org", "web.wide.org", "421 "},
		{"also to a wildcard", "web.wide.org", "c.b.wide.org", "421 "},
	} {
		if got := get(old[tt.serverName], tt.host); got != tt.want {
			t.Errorf("%s: %s on an old connection for %s is answered with %q, want %q", tt.what, tt.host, tt.serverName, got, tt.want)
		}
	}
	if got := get(reusing(t, port, "web.wide.org"), "other.wide.org"); got != "421 " {
		t.Errorf("other.wide.org on a new connection of the narrow listener is answered with %q", got)
	}
}

// TestAHostInUseIsGivenToAListenerOfConnections: it is not spoken HTTP to here any more, so what
// was opened before is misdirected and the client connects anew.
func TestAHostInUseIsGivenToAListenerOfConnections(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("wide", NewBackend(t, "wide"))
	any := graphtest.HTTPS("any", port, "", certificate(t, "all", 1, "example.org"), routeTo("wide"))
	r.publish(graphtest.Graph(any))
	for _, name := range []string{"web.wide.org", "a.b.wide.org"} {
		old := reusing(t, port, name)
		for i, tt := range []struct {
			listeners []*graph.Listener
			status    int
		}{
			{nil, 200},
			{[]*graph.Listener{
				graphtest.Connections("exact", port, gwv1.TLSProtocolType, "web.wide.org", nil),
				graphtest.Connections("wild", port, gwv1.TLSProtocolType, "*.b.wide.org", nil),
			}, 421},
			{nil, 200},
		} {
			r.publish(graphtest.Graph(append(tt.listeners, any)...))
			answer, err := old.Get("https://" + name + "/")
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != tt.status {
				t.Errorf("%s, step %d: answered %d, want %d", name, i, answer.StatusCode, tt.status)
			}
		}
	}
}

// reusing is a client that sends requests for any host over one HTTP/2 connection.
func reusing(t *testing.T, port uint32, serverName string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: serverName, InsecureSkipVerify: true},
		Protocols:       new(http.Protocols),
	}
	transport.Protocols.SetHTTP2(true)
	only, err := transport.NewClientConn(t.Context(), "https", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = only.Close() })
	return &http.Client{Transport: only}
}

// TestMovingAHostBetweenScopesLosesNothing gives a host that a wildcard serves a scope of
// its own and takes it away again, under load.
func TestMovingAHostBetweenScopesLosesNothing(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for i := range 10 {
		r.endpoints(fmt.Sprintf("exact-%d", i), NewBackend(t, "exact"))
	}
	r.endpoints("wild", NewBackend(t, "wild"))
	moved := func(i int) *graph.Graph {
		routes := []*graph.Route{routeTo("wild", "*.com")}
		if i%2 == 1 {
			routes = append(routes, routeTo(fmt.Sprintf("exact-%d", i/2%10), "example.com"))
		}
		return graphtest.Graph(graphtest.HTTP("http", port, "", routes...))
	}
	r.publish(moved(0))
	load := startLoad(t, port)
	for i := range 200 {
		r.publish(moved(i))
		time.Sleep(5 * time.Millisecond)
	}
	_, byBackend := load.stop()
	if byBackend["exact"] == 0 || byBackend["wild"] == 0 {
		t.Errorf("answered by %v", byBackend)
	}
}

// TestScopesComeBackWithTheirListeners removes every listener, which makes the proxy ask
// for no scope any more, and brings one back.
func TestScopesComeBackWithTheirListeners(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	serving := func() *graph.Graph {
		return graphtest.Graph(graphtest.HTTP("http", port, "", routeTo("web", "exact.example.com", "*.example.com")))
	}
	for range 3 {
		r.publish(serving())
		for _, host := range []string{"exact.example.com", "other.example.com"} {
			if a := r.do(call{port: port, host: host, path: "/"}); a.status != 200 {
				t.Errorf("%s: %d", host, a.status)
			}
		}
		r.publish(graphtest.Graph())
	}
}

// TestARefusedScopeOfTheFirstConfiguration has a bad scope among good ones in the answer that
// carries all of them.
func TestARefusedScopeOfTheFirstConfiguration(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	snap := xds.Translate(graphtest.Graph(graphtest.HTTP("http", port, "",
		routeTo("web", "a.example.com", "b.example.com", "c.example.com", "*.example.com"))), graphtest.GatewayKey)
	bad := snap.Routes[fmt.Sprintf("http-%d/b.example.com", port)].(*routev3.ScopedRouteConfiguration).RouteConfiguration.VirtualHosts[0]
	bad.Domains = append(bad.Domains, bad.Domains[0])
	r.Server.Publish(snap)
	for _, host := range []string{"a.example.com", "c.example.com", "d.example.com"} {
		r.Eventually(host+" is served", func() error {
			a, err := send(call{port: port, host: host, path: "/"})
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("%d", a.status)
			}
			return err
		})
	}
	if refused := r.Server.State(graphtest.GatewayKey).Refused; len(refused) != 1 || !strings.HasSuffix(refused[0].Resource, "/b.example.com") {
		t.Errorf("refused are %+v", refused)
	}
}
