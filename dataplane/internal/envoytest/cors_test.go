// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"net/http"
	"testing"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

func TestPagesOfOtherOriginsMayCall(t *testing.T) { inBothScopes(t, testPagesOfOtherOriginsMayCall) }

func testPagesOfOtherOriginsMayCall(t *testing.T, hosts []string) {
	r := newRig(t)
	port := FreePort(t)
	api := NewBackendFunc(t, "api", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://the-backends-own.example")
	})
	r.endpoints("api", api)
	origin := func(host string) graph.Origin { return graph.Origin{Scheme: "https", Host: host, Port: 443} }
	rule := func(path string, c graph.CORS) *graph.Rule {
		out := graphtest.Rule(path, graphtest.Backend("api", 1))
		out.Filters.CORS = &c
		return out
	}
	lists := graph.CORS{
		Origins: []graph.Origin{origin("www.foo.com"), origin("*.bar.com"), {Scheme: "http", Host: "localhost", Port: 3000}},
		Methods: []string{"GET", "PUT"}, Headers: []string{"x-one", "x-two"}, Expose: []string{"x-three", "x-four"},
		Credentials: true, MaxAge: 3600,
	}
	every := []graph.Origin{{}}
	all := []string{"*"}
	put := rule("/put", graph.CORS{Origins: []graph.Origin{origin("*")}, Methods: []string{"PUT"}, MaxAge: 5})
	put.Matches[0].Method = "PUT"
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("api", hosts,
		rule("/lists", lists), put,
		rule("/all", graph.CORS{Origins: every, Methods: all, Headers: all, MaxAge: 5}),
		rule("/all-with-credentials", graph.CORS{Origins: every, Methods: all, Headers: all, MaxAge: 5, Credentials: true}),
		rule("/none", graph.CORS{MaxAge: 5}),
		graphtest.Rule("/without", graphtest.Backend("api", 1)),
	))))
	const allow = "Access-Control-Allow-Origin"
	tests := []struct {
		name, method, path, origin, asked string
		status                            int
		want                              map[string]string
		reached                           bool
	}{
		{
			"a preflight from an origin in the list gets every list", "OPTIONS", "/lists", "https://www.foo.com", "GET", 200,
			map[string]string{
				allow: "https://www.foo.com", "Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "x-one, x-two",
				"Access-Control-Expose-Headers": "x-three, x-four", "Access-Control-Max-Age": "3600", "Access-Control-Allow-Credentials": "true",
			},
			false,
		},
		{"an origin may name the port its scheme implies", "OPTIONS", "/lists", "https://www.foo.com:443", "GET", 200, map[string]string{allow: "https://www.foo.com:443"}, false},
		{"another port is another origin", "OPTIONS", "/lists", "https://www.foo.com:8443", "GET", 200, map[string]string{allow: ""}, false},
		{"another scheme is another origin", "OPTIONS", "/lists", "http://www.foo.com", "GET", 200, map[string]string{allow: ""}, false},
		{"a port that was written counts", "GET", "/lists", "http://localhost:3000", "", 200, map[string]string{allow: "http://localhost:3000"}, true},
		{"an asterisk stands for several labels", "OPTIONS", "/lists", "https://a.b.bar.com", "PUT", 200, map[string]string{allow: "https://a.b.bar.com"}, false},
		{"an asterisk stands for one label at least", "OPTIONS", "/lists", "https://bar.com", "PUT", 200, map[string]string{allow: ""}, false},
		{"an asterisk does not reach into another host", "OPTIONS", "/lists", "https://evil.com/x.bar.com", "PUT", 200, map[string]string{allow: ""}, false},
		{"a name that ends alike is another host", "OPTIONS", "/lists", "https://evilbar.com", "PUT", 200, map[string]string{allow: ""}, false},
		{
			"a request gets the origin instead of what the backend says", "GET", "/lists", "https://www.foo.com", "", 200,
			map[string]string{allow: "https://www.foo.com", "Access-Control-Expose-Headers": "x-three, x-four", "Access-Control-Allow-Credentials": "true"},
			true,
		},
		{
			"with * everywhere the answer is what was asked for", "OPTIONS", "/all", "https://any.example:99", "DELETE", 200,
			map[string]string{
				allow: "https://any.example:99", "Access-Control-Allow-Methods": "DELETE", "Access-Control-Allow-Headers": "x-asked",
				"Access-Control-Max-Age": "5", "Access-Control-Allow-Credentials": "",
			},
			false,
		},
		{
			"with credentials too", "OPTIONS", "/all-with-credentials", "https://any.example", "DELETE", 200,
			map[string]string{
				allow: "https://any.example", "Access-Control-Allow-Methods": "DELETE", "Access-Control-Allow-Headers": "x-asked",
				"Access-Control-Allow-Credentials": "true",
			},
			false,
		},
		{"without origins none is allowed", "OPTIONS", "/none", "https://www.foo.com", "GET", 200, map[string]string{allow: ""}, false},
		{"an OPTIONS request that is no preflight reaches the backend", "OPTIONS", "/lists", "", "", 200, nil, true},
		{"a rule of one method answers the preflights for it", "OPTIONS", "/put", "https://www.foo.com", "PUT", 200, map[string]string{allow: "https://www.foo.com", "Access-Control-Allow-Methods": "PUT"}, false},
		{"and those for no other method", "OPTIONS", "/put", "https://www.foo.com", "GET", 404, map[string]string{allow: ""}, false},
		{"a question without an origin is none", "OPTIONS", "/put", "", "PUT", 404, nil, false},
		{"a rule without the filter leaves it to the backend", "OPTIONS", "/without", "https://www.foo.com", "GET", 200, map[string]string{allow: "https://the-backends-own.example"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := api.Requests.Load()
			header := map[string]string{}
			if tt.origin != "" {
				header["Origin"] = tt.origin
			}
			if tt.asked != "" {
				header["Access-Control-Request-Method"], header["Access-Control-Request-Headers"] = tt.asked, "x-asked"
			}
			a := r.do(call{port: port, method: tt.method, path: tt.path, header: header})
			if a.status != tt.status {
				t.Errorf("status %d, want %d", a.status, tt.status)
			}
			for name, want := range tt.want {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if reached := api.Requests.Load() > before; reached != tt.reached {
				t.Errorf("the backend was reached: %v, want %v", reached, tt.reached)
			}
		})
	}
}

// TestTheFirstRouteWithAFilterKeepsConnections shows that a Gateway's first route with
// CORS does not touch the connections of the others.
func TestTheFirstRouteWithAFilterKeepsConnections(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("api", NewBackend(t, "api"))
	plain := graphtest.Route("plain", nil, graphtest.Rule("/", graphtest.Backend("api", 1)))
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", plain)))
	conn := dialKept(t, port)
	conn.get("/")
	cors := graphtest.Rule("/cors", graphtest.Backend("api", 1))
	cors.Filters.CORS = &graph.CORS{Origins: []graph.Origin{{}}, MaxAge: 5}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", plain, graphtest.Route("cors", nil, cors))))
	for range 3 {
		if got := conn.get("/cors"); got != "" {
			t.Fatalf("the connection was asked to close: Connection: %s", got)
		}
	}
}
