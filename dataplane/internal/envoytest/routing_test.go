// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestRouting sends real requests to one proxy that has every kind of route. Each rule
// has a backend whose name says what was matched.
func TestRouting(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	g, services := routingGraph(port)
	for _, service := range services {
		r.endpoints(service, NewBackend(t, service))
	}
	r.endpoints("empty")
	r.endpoints("slow", NewBackendFunc(t, "slow", func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }))
	h2c := graphtest.Key("h2c")
	h2c.Protocol = graph.UpstreamH2C
	r.Server.PublishEndpoints(h2c, Endpoints(h2c, NewBackend(t, "h2c")))
	r.publish(g)

	tests := []struct {
		name    string
		call    call
		status  int    // 200 if 0
		backend string // that must have answered
		check   func(answer) error
	}{
		{name: "an exact path", call: call{path: "/exact"}, backend: "exact"},
		{name: "an exact path does not match what is below it", call: call{path: "/exact/x"}, backend: "any"},
		{name: "a prefix matches the path itself", call: call{path: "/pre"}, backend: "prefix"},
		{name: "a prefix matches below it", call: call{path: "/pre/x"}, backend: "prefix"},
		{name: "a prefix matches whole path elements only", call: call{path: "/prefix"}, backend: "any"},
		{name: "the longer prefix wins", call: call{path: "/pre/long/x"}, backend: "longer"},
		{name: "a regular expression matches the whole path", call: call{path: "/id/42"}, backend: "regex"},
		{name: "a regular expression does not match a part", call: call{path: "/id/42/x"}, backend: "any"},
		{name: "a method", call: call{path: "/m", method: "PUT"}, backend: "method"},
		{name: "another method", call: call{path: "/m", method: "POST"}, backend: "any"},
		{name: "two headers are more specific than one", call: call{path: "/h", header: map[string]string{"color": "red", "size": "big"}}, backend: "two-headers"},
		{name: "one header", call: call{path: "/h", header: map[string]string{"Color": "red"}}, backend: "one-header"},
		{name: "a header by regular expression", call: call{path: "/h", header: map[string]string{"color": "blue-12"}}, backend: "regex-header"},
		{name: "no header", call: call{path: "/h"}, backend: "any"},
		{name: "a query parameter", call: call{path: "/q?animal=whale"}, backend: "query"},
		{name: "another value of the query parameter", call: call{path: "/q?animal=dog"}, backend: "any"},
		{
			name: "the port of the Host header does not matter for matching, and reaches the backend", call: call{host: "exact.example.org:8080", path: "/"}, backend: "host",
			check: func(a answer) error { return same("host", a.seen.Host, "exact.example.org:8080") },
		},
		{name: "a wildcard hostname", call: call{host: "a.b.example.org", path: "/"}, backend: "wildcard"},
		{name: "a host falls through to the wider hostname", call: call{host: "exact.example.org", path: "/only-wildcard"}, backend: "wildcard-rule"},
		{name: "an unknown path of a known host", call: call{host: "closed.example.net", path: "/nothing"}, status: 404},
		{name: "a rule that is not valid", call: call{path: "/broken"}, status: 500},
		{name: "a rule without backends", call: call{path: "/nobody"}, status: 500},
		{name: "a rule whose weights are all zero", call: call{path: "/zero"}, status: 500},
		{name: "a backend without endpoints", call: call{path: "/empty"}, status: 503},
		{name: "a backend that is not valid", call: call{path: "/invalid-backend"}, status: 500},
		{name: "a timeout", call: call{path: "/slow"}, status: 504},
		{name: "dots in the path are resolved before it is matched", call: call{path: "/pre/../exact"}, backend: "exact"},

		{name: "rewriting the prefix", call: call{path: "/rw/prefix/x?q=1"}, backend: "rw-prefix", check: path("/new/x?q=1")},
		{name: "rewriting the prefix with nothing behind it", call: call{path: "/rw/prefix"}, backend: "rw-prefix", check: path("/new")},
		{name: "rewriting the prefix with a slash behind it", call: call{path: "/rw/prefix/"}, backend: "rw-prefix", check: path("/new/")},
		{name: "rewriting the prefix away", call: call{path: "/rw/away/x/y"}, backend: "rw-away", check: path("/x/y")},
		{name: "rewriting the prefix away with nothing behind it", call: call{path: "/rw/away"}, backend: "rw-away", check: path("/")},
		{name: "rewriting the prefix away with a slash behind it", call: call{path: "/rw/away/"}, backend: "rw-away", check: path("/")},
		{name: "rewriting the root prefix", call: call{host: "root.example.net", path: "/x"}, backend: "rw-root", check: path("/base/x")},
		{name: "rewriting the full path keeps the query", call: call{path: "/rw/full/x/y?q=1"}, backend: "rw-full", check: path("/the/only%5C1?q=1")},
		{
			name: "rewriting the host", call: call{path: "/rw/host"}, backend: "rw-host",
			check: func(a answer) error { return same("host", a.seen.Host, "inside.example") },
		},
		{
			name: "a backend rewrites its own path", call: call{path: "/rw/split/x"},
			check: func(a answer) error {
				if a.seen.Backend == "split-a" && a.seen.Path == "/a/x" || a.seen.Backend == "split-b" && a.seen.Path == "/b/x" {
					return nil
				}
				return fmt.Errorf("%s saw %s", a.seen.Backend, a.seen.Path)
			},
		},

		{
			name: "request headers are set, added and removed", call: call{path: "/headers", header: map[string]string{"X-Set": "old", "X-Add": "one", "X-Gone": "x"}},
			backend: "headers", check: func(a answer) error {
				return first(
					same("X-Set", a.seen.Header.Get("X-Set"), "100%"),
					same("X-Add", fmt.Sprint(a.seen.Header.Values("X-Add")), "[one two]"),
					same("X-Gone", a.seen.Header.Get("X-Gone"), ""),
					same("X-Backend", a.seen.Header.Get("X-Backend"), "own"),
					same("X-Both", a.seen.Header.Get("X-Both"), "backend"),
				)
			},
		},
		{name: "response headers are set and removed", call: call{path: "/headers"}, backend: "headers", check: func(a answer) error {
			return first(
				same("X-Answer", a.header.Get("X-Answer"), "yes"),
				same("X-Backend", a.header.Get("X-Backend"), ""),
			)
		}},
		{name: "no header betrays the proxy", call: call{path: "/exact"}, backend: "exact", check: func(a answer) error {
			return first(same("Server", a.header.Get("Server"), ""), same("x-envoy-upstream-service-time", a.header.Get("x-envoy-upstream-service-time"), ""))
		}},

		{name: "a redirect to https", call: call{path: "/rd/https/x?q=1"}, status: 301, check: location("https://example.com/rd/https/x?q=1")},
		{name: "a redirect to https replaces the port of the request, where the host is not known beforehand", call: call{host: "example.com:8080", path: "/rd/https/x"}, status: 301, check: location("https://example.com:443/rd/https/x")},
		{name: "a redirect to https in a named host drops the port", call: call{host: "exact.example.org:8080", path: "/rd-named"}, status: 302, check: location("https://exact.example.org/rd-named")},
		{name: "a redirect to a host keeps the listener's port", call: call{path: "/rd/host"}, status: 302, check: location(fmt.Sprintf("http://other.example:%d/rd/host", port))},
		{name: "a redirect to a port", call: call{path: "/rd/port"}, status: 302, check: location("http://example.com:8443/rd/port")},
		{name: "a redirect to the port that the scheme implies", call: call{path: "/rd/port80"}, status: 302, check: location("http://example.com/rd/port80")},
		{name: "a redirect of the prefix", call: call{path: "/rd/prefix/x"}, status: 308, check: location(fmt.Sprintf("http://example.com:%d/new/x", port))},
		{name: "a redirect of the prefix away", call: call{path: "/rd/away/x"}, status: 307, check: location(fmt.Sprintf("http://example.com:%d/x", port))},
		{name: "a redirect of the full path", call: call{path: "/rd/full/x?q=1"}, status: 303, check: location(fmt.Sprintf("http://example.com:%d/there?q=1", port))},

		{name: "HTTP/2 without TLS from the client", call: call{path: "/exact", http2: true}, backend: "exact"},
		{name: "HTTP/2 without TLS to the backend", call: call{path: "/h2c"}, backend: "h2c", check: func(a answer) error { return same("protocol", a.seen.Proto, "HTTP/2.0") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.call.port = port
			a, err := send(tt.call)
			if err != nil {
				t.Fatal(err)
			}
			if want := max(tt.status, 200); tt.status == 0 && a.status != 200 || tt.status != 0 && a.status != want {
				t.Errorf("status %d, want %d: %s", a.status, want, a.body)
			}
			if tt.backend != "" && a.seen.Backend != tt.backend {
				t.Errorf("backend %q answered, want %q", a.seen.Backend, tt.backend)
			}
			if tt.check != nil {
				if err := tt.check(a); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func same(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q, want %q", what, got, want)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func path(want string) func(answer) error {
	return func(a answer) error {
		got := a.seen.Path
		if a.seen.Query != "" {
			got += "?" + a.seen.Query
		}
		return same("path", got, want)
	}
}

func location(want string) func(answer) error {
	return func(a answer) error { return same("Location", a.header.Get("Location"), want) }
}

// routingGraph is one listener with every kind of rule, and the Services behind it.
func routingGraph(port uint32) (*graph.Graph, []string) {
	var services []string
	to := func(service string) *graph.Backend {
		services = append(services, service)
		return graphtest.Backend(service, 1)
	}
	match := func(rule *graph.Rule, change func(*graph.Match)) *graph.Rule {
		change(&rule.Matches[0])
		return rule
	}
	filter := func(rule *graph.Rule, f graph.Filters) *graph.Rule {
		rule.Filters = f
		return rule
	}
	exact := func(name, value string) graph.NamedMatch {
		return graph.NamedMatch{Name: name, StringMatch: graph.StringMatch{Type: graph.MatchExact, Value: value}}
	}
	typed := func(rule *graph.Rule, t graph.MatchType) *graph.Rule {
		return match(rule, func(m *graph.Match) { m.Path.Type = t })
	}
	rewrite := func(prefix, service string, path graph.PathModifier) *graph.Rule {
		return filter(graphtest.Rule(prefix, to(service)), graph.Filters{Rewrite: &graph.Rewrite{Path: &path}})
	}
	redirect := func(prefix string, r graph.Redirect) *graph.Rule {
		return filter(graphtest.Rule(prefix), graph.Filters{Redirect: &r})
	}
	broken := graphtest.Rule("/broken")
	broken.Valid = false
	slow := graphtest.Rule("/slow", graphtest.Backend("slow", 1))
	slow.RequestTimeout = new(100 * time.Millisecond)
	invalid := graphtest.Rule("/invalid-backend", &graph.Backend{Weight: 1})
	h2c := graphtest.Rule("/h2c", graphtest.Backend("h2c", 1))
	h2c.Backends[0].Cluster.Protocol = graph.UpstreamH2C

	split := graphtest.Rule("/rw/split", to("split-a"), to("split-b"))
	split.Backends[0].Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Value: "/a"}}
	split.Backends[1].Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Value: "/b"}}

	headers := filter(graphtest.Rule("/headers", to("headers"), graphtest.Backend("headers", 1)), graph.Filters{
		RequestHeaders: &graph.HeaderModifier{
			Set:    []graph.Header{{Name: "X-Set", Value: "100%"}, {Name: "X-Both", Value: "rule"}},
			Add:    []graph.Header{{Name: "X-Add", Value: "two"}},
			Remove: []string{"X-Gone"},
		},
		ResponseHeaders: &graph.HeaderModifier{
			Set: []graph.Header{{Name: "X-Answer", Value: "yes"}}, Remove: []string{"X-Backend"},
		},
	})
	for i := range headers.Backends {
		headers.Backends[i].Filters.RequestHeaders = &graph.HeaderModifier{
			Set: []graph.Header{{Name: "X-Backend", Value: "own"}, {Name: "X-Both", Value: "backend"}},
		}
	}
	// Two entries of one Service that differ: they stay two weighted clusters.
	headers.Backends[1].Filters.ResponseHeaders = &graph.HeaderModifier{Remove: []string{"X-Other"}}

	all := graphtest.Route("all", nil,
		typed(graphtest.Rule("/exact", to("exact")), graph.MatchExact),
		graphtest.Rule("/pre", to("prefix")),
		graphtest.Rule("/pre/long", to("longer")),
		typed(graphtest.Rule(`/id/[0-9]+`, to("regex")), graph.MatchRegex),
		match(graphtest.Rule("/m", to("method")), func(m *graph.Match) { m.Method = "PUT" }),
		match(graphtest.Rule("/h", to("one-header")), func(m *graph.Match) { m.Headers = []graph.NamedMatch{exact("color", "red")} }),
		match(graphtest.Rule("/h", to("two-headers")), func(m *graph.Match) {
			m.Headers = []graph.NamedMatch{exact("color", "red"), exact("size", "big")}
		}),
		match(graphtest.Rule("/h", to("regex-header")), func(m *graph.Match) {
			m.Headers = []graph.NamedMatch{{Name: "color", StringMatch: graph.StringMatch{Type: graph.MatchRegex, Value: "blue-[0-9]+"}}}
		}),
		match(graphtest.Rule("/q", to("query")), func(m *graph.Match) { m.Query = []graph.NamedMatch{exact("animal", "whale")} }),
		graphtest.Rule("/", to("any")),
		broken, graphtest.Rule("/nobody"), graphtest.Rule("/zero", graphtest.Backend("any", 0)),
		graphtest.Rule("/empty", graphtest.Backend("empty", 1)), invalid, slow, h2c,
		rewrite("/rw/prefix", "rw-prefix", graph.PathModifier{Value: "/new"}),
		rewrite("/rw/away", "rw-away", graph.PathModifier{Value: "/"}),
		rewrite("/rw/full", "rw-full", graph.PathModifier{Full: true, Value: `/the/only\1`}),
		filter(graphtest.Rule("/rw/host", to("rw-host")), graph.Filters{Rewrite: &graph.Rewrite{Hostname: new("inside.example")}}),
		split, headers,
		redirect("/rd/https", graph.Redirect{Scheme: new("https"), StatusCode: 301}),
		redirect("/rd/host", graph.Redirect{Hostname: new("other.example"), StatusCode: 302}),
		redirect("/rd/port", graph.Redirect{Port: new(int32(8443)), StatusCode: 302}),
		redirect("/rd/port80", graph.Redirect{Port: new(int32(80)), StatusCode: 302}),
		redirect("/rd/prefix", graph.Redirect{Path: &graph.PathModifier{Value: "/new"}, StatusCode: 308}),
		redirect("/rd/away", graph.Redirect{Path: &graph.PathModifier{Value: "/"}, StatusCode: 307}),
		redirect("/rd/full", graph.Redirect{Path: &graph.PathModifier{Full: true, Value: "/there"}, StatusCode: 303}),
	)
	named := graphtest.Route("named", []string{"exact.example.org"},
		graphtest.Rule("/", to("host")), redirect("/rd-named", graph.Redirect{Scheme: new("https"), StatusCode: 302}))
	named.Rules[0].Matches[0].Path.Type = graph.MatchExact
	wildcard := graphtest.Route("wildcard", []string{"*.example.org"},
		graphtest.Rule("/", to("wildcard")), graphtest.Rule("/only-wildcard", to("wildcard-rule")))
	root := graphtest.Route("root", []string{"root.example.net"}, rewrite("/", "rw-root", graph.PathModifier{Value: "/base"}))
	closed := graphtest.HTTP("closed", port, "closed.example.net")
	return graphtest.Graph(graphtest.HTTP("http", port, "", all, named, wildcard, root), closed), services
}
