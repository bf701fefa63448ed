// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// bouncer is an authorization service over HTTP and gRPC that lets in who has the password.
type bouncer struct {
	mu   sync.Mutex
	path string
	told map[string]string
	body string
}

func (b *bouncer) note(path string, told map[string]string, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.path, b.told, b.body = path, told, body
}

func (b *bouncer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	told := map[string]string{"method": r.Method, "host": r.Host}
	for name := range r.Header {
		told[strings.ToLower(name)] = r.Header.Get(name)
	}
	b.note(r.URL.Path, told, string(body))
	w.Header().Set("X-User", "ann")
	w.Header().Set("X-Team", "blue")
	w.Header().Set("Content-Type", "text/weird")
	switch r.Header.Get("Authorization") {
	case "password":
		w.WriteHeader(http.StatusOK)
	case "crash":
		w.WriteHeader(http.StatusBadGateway)
	case "nearly": // a success that is not 200
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "who are you?")
	}
}

func (b *bouncer) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	request := r.GetAttributes().GetRequest().GetHttp()
	b.note(request.Path, maps.Clone(request.Headers), request.Body)
	if request.Headers["authorization"] != "password" {
		return &authv3.CheckResponse{Status: &status.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, Body: "who are you?"},
		}}, nil
	}
	headers := []*corev3.HeaderValueOption{
		{Header: &corev3.HeaderValue{Key: "X-User", Value: "ann"}},
		{Header: &corev3.HeaderValue{Key: "Host", Value: "elsewhere.example"}},
		{Header: &corev3.HeaderValue{Key: "Content-Length", Value: "3"}},
	}
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{
		OkResponse: &authv3.OkHttpResponse{Headers: headers},
	}}, nil
}

func (b *bouncer) overGRPC(t testing.TB) *Backend {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, b)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return &Backend{Name: "bouncer", address: listener.Addr().(*net.TCPAddr)}
}

func TestARequestIsAskedAboutBeforeItGoesOn(t *testing.T) {
	inBothScopes(t, testARequestIsAskedAboutBeforeItGoesOn)
}

func testARequestIsAskedAboutBeforeItGoesOn(t *testing.T, hosts []string) {
	r := newRig(t)
	port := FreePort(t)
	web, second := NewBackend(t, "web"), NewBackend(t, "second")
	guard := &bouncer{}
	grpcKey := graphtest.Key("bouncer")
	grpcKey.Protocol = graph.UpstreamH2C
	r.endpoints("web", web)
	r.endpoints("second", second)
	r.endpoints("bouncer", NewBackendFunc(t, "bouncer", guard.ServeHTTP))
	r.endpoints("nobody")
	r.Server.PublishEndpoints(grpcKey, Endpoints(grpcKey, guard.overGRPC(t)))

	guarded := func(path string, a graph.ExternalAuth) *graph.Rule {
		rule := graphtest.Rule(path, graphtest.Backend("web", 1))
		rule.Filters.Auth = &a
		return rule
	}
	http11 := graphtest.Key("bouncer")
	redirect := guarded("/redirect", graph.ExternalAuth{Cluster: http11})
	redirect.Backends, redirect.Filters.Redirect = nil, &graph.Redirect{Scheme: new("https"), StatusCode: 302}
	cors := guarded("/cors", graph.ExternalAuth{Cluster: http11})
	cors.Filters.CORS = &graph.CORS{Origins: []graph.Origin{{}}, MaxAge: 5}
	half := graphtest.Rule("/half", graphtest.Backend("web", 1), graphtest.Backend("second", 1))
	half.Backends[1].Filters.Auth = &graph.ExternalAuth{Cluster: http11}
	single := graphtest.Rule("/single", graphtest.Backend("second", 1))
	single.Backends[0].Filters.Auth = &graph.ExternalAuth{Cluster: http11}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", hosts,
		guarded("/http", graph.ExternalAuth{Cluster: http11}),
		guarded("/http-some", graph.ExternalAuth{Cluster: http11, PathPrefix: "/check/", RequestHeaders: []string{"x-one"}, ResponseHeaders: []string{"x-user", "x-role", "x-one", "authorization"}}),
		guarded("/http-body", graph.ExternalAuth{Cluster: http11, MaxBody: 100_000}),
		guarded("/grpc", graph.ExternalAuth{Cluster: grpcKey, GRPC: true}),
		guarded("/grpc-some", graph.ExternalAuth{Cluster: grpcKey, GRPC: true, RequestHeaders: []string{"authorization"}, MaxBody: 10}),
		guarded("/nobody", graph.ExternalAuth{Cluster: graphtest.Key("nobody")}),
		redirect, cors, half, single, graphtest.Rule("/open", graphtest.Backend("web", 1)),
	))))
	tests := []struct {
		name, path, password, body string
		status                     int
	}{
		{"who has the password gets in", "/http/a", "password", "", 200},
		{"who has not does not", "/http/a", "", "", 401},
		{"only 200 lets in", "/http/a", "nearly", "", 204},
		{"a service that fails lets nobody in", "/http/a", "crash", "", 503},
		{"a service that is not there lets nobody in", "/nobody", "password", "", 503},
		{"over gRPC who has the password gets in", "/grpc/a", "password", "", 200},
		{"over gRPC who has not does not", "/grpc/a", "", "", 401},
		{"a body goes along", "/http-body", "password", strings.Repeat("x", 90_000), 200},
		{"a body that is too long is refused", "/http-body", "password", strings.Repeat("x", 100_001), 413},
		{"over gRPC too", "/grpc-some", "password", "12345678901", 413},
		{"a body goes along over gRPC", "/grpc-some", "password", "123456789", 200},
		{"a redirect needs the password", "/redirect", "", "", 401},
		{"a redirect comes with the password", "/redirect", "password", "", 302},
		{"a single backend can be guarded", "/single", "", "", 401},
		{"and let in", "/single", "password", "", 200},
		{"a rule without stays open", "/open", "", "", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := web.Requests.Load() + second.Requests.Load()
			a := r.do(call{port: port, method: "POST", path: tt.path, body: tt.body, header: map[string]string{"Authorization": tt.password}})
			if a.status != tt.status {
				t.Errorf("status %d, want %d: %s", a.status, tt.status, a.body)
			}
			if got := web.Requests.Load()+second.Requests.Load() > before; got != (tt.status == 200) {
				t.Errorf("a backend was reached: %v", got)
			}
		})
	}
	t.Run("what the service and the backend are told", func(t *testing.T) { r.checkTold(t, port, guard) })
	t.Run("nothing gets by", func(t *testing.T) {
		before := web.Requests.Load()
		const host, upgrade = " HTTP/1.1\r\nHost: example.com\r\n", "Connection: upgrade\r\nUpgrade: "
		for _, request := range []string{
			"GET /http" + host + upgrade + "websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
			"GET /http" + host + upgrade + "h2c\r\n\r\n",
			"GET /x/../http" + host + "\r\n", "GET /%68ttp" + host + "\r\n", "GET http://EXAMPLE.com/http HTTP/1.1\r\nHost: b\r\n\r\n", "GET /http?/../open" + host + "\r\n",
			"OPTIONS /cors" + host + "\r\n", "OPTIONS /cors" + host + "Origin: https://a.example\r\n\r\n",
			"OPTIONS /cors" + host + "Access-Control-Request-Method: GET\r\n\r\n", "HEAD /http" + host + "\r\n", "TRACE /http" + host + "\r\n",
			"GET /http" + host + "X-Envoy-Auth-Partial-Body: false\r\nX-Envoy-Original-Path: /open\r\nX-Envoy-Internal: true\r\n\r\n",
		} {
			line, err := raw(port, request)
			if err == nil && !strings.Contains(line, " 401 ") {
				t.Errorf("%q is answered with %s", request, line)
			}
		}
		if n := web.Requests.Load() - before; n > 0 {
			t.Errorf("the backend saw %d of them", n)
		}
	})
	t.Run("a preflight is answered without a password", func(t *testing.T) {
		a := r.do(call{port: port, method: "OPTIONS", path: "/cors", header: map[string]string{"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}})
		if a.status != 200 || a.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("got %+v", a)
		}
		if a := r.do(call{port: port, path: "/cors"}); a.status != 401 {
			t.Errorf("the request itself: %d, want 401", a.status)
		}
	})
	t.Run("of two backends the guarded one is guarded", func(t *testing.T) {
		reached := second.Requests.Load()
		statuses := map[int]int{}
		for range 60 {
			statuses[r.do(call{port: port, path: "/half"}).status]++
		}
		if second.Requests.Load() != reached || statuses[200] == 0 || statuses[401] == 0 {
			t.Errorf("statuses %v; the guarded backend was reached: %v", statuses, second.Requests.Load() != reached)
		}
	})
}

// checkTold looks at the headers on their way to the service and from there to the backend.
func (r *rig) checkTold(t *testing.T, port uint32, guard *bouncer) {
	ask := func(path string) Seen {
		t.Helper()
		a := r.do(call{port: port, method: "POST", path: path, body: "{}", header: map[string]string{
			"Authorization": "password", "X-One": "1", "X-Two": "2", "Content-Type": "application/json", "X-Team": "client's", "X-Role": "admin",
		}})
		if a.status != 200 {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		return a.seen
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	seen := ask("/http/a")
	want("the path of the question", guard.path, "/http/a")
	want("the method of the question", guard.told["method"], "POST")
	want("the host of the question", guard.told["host"], "example.com")
	want("a header that nobody allowed", guard.told["x-one"], "")
	want("the length of the question", fmt.Sprint(len(guard.body)), "0")
	want("the answer's header at the backend", seen.Header.Get("X-User"), "ann")
	want("all of the answer's headers count", seen.Header.Get("X-Team"), "blue")
	want("but not those of its own body", seen.Header.Get("Content-Type"), "application/json")
	want("the request's host", seen.Host, "example.com")

	seen = ask("/http-some/a")
	want("the path with a prefix", guard.path, "/check/http-some/a")
	want("a header that is allowed", guard.told["x-one"], "1")
	want("one that is not", guard.told["x-two"], "")
	want("the answer's allowed header", seen.Header.Get("X-User"), "ann")
	want("the answer's other header", seen.Header.Get("X-Team"), "client's")
	want("a header that only the service may set", strings.Join(seen.Header.Values("X-Role"), ","), "")
	want("one that the service was told", seen.Header.Get("X-One"), "1")
	want("and one that it is told always", seen.Header.Get("Authorization"), "password")

	ask("/http-body/a")
	want("the body", guard.body, "{}")

	seen = ask("/grpc/a")
	want("over gRPC all headers", guard.told["x-two"], "2")
	want("the answer's header over gRPC", seen.Header.Get("X-User"), "ann")
	want("the host that the answer may not change", seen.Host, "example.com")
	want("the length that the answer may not change", seen.Header.Get("Content-Length"), "2")

	ask("/grpc-some/a")
	// The proxy says itself whether the body is whole.
	want("over gRPC only what is allowed", strings.Join(slices.Sorted(maps.Keys(guard.told)), " "), "authorization x-envoy-auth-partial-body")
	want("the body over gRPC", guard.body, "{}")
}
