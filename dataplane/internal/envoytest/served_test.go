// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/served"
	"headgate.dev/headgate/dataplane/xds"
)

// read reads what the proxy says it serves.
func (r *rig) read() (served.Config, error) {
	dump, err := r.proxy.Admin(served.DumpPath)
	if err != nil {
		return served.Config{}, err
	}
	runtime, err := r.proxy.Admin(served.RuntimePath)
	if err != nil {
		return served.Config{}, err
	}
	return served.ReadDump([]byte(dump), []byte(runtime))
}

// lines gives the table as text, without the port of the test.
func lines(rows []served.Row, port uint32) []string {
	var out []string
	for _, row := range rows {
		out = append(out, strings.ReplaceAll(fmt.Sprintf("%s %s: %s: %s", row.Listener, row.Host, row.Match, row.Outcome()), fmt.Sprint(port), "PORT"))
	}
	return out
}

// everything has each form that rows are made from.
func everything(port uint32) *graph.Graph {
	rewriting := func(weight int32) *graph.Backend {
		b := graphtest.Backend("b", weight)
		b.Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Full: true, Value: "/b"}}
		return b
	}
	redirect := graphtest.Rule("/old")
	redirect.Filters.Redirect = &graph.Redirect{Hostname: new("new.example.com"), StatusCode: 301}
	headers := graphtest.Rule("/headers", graphtest.Backend("a", 1))
	headers.Filters.RequestHeaders = &graph.HeaderModifier{Set: []graph.Header{{Name: "x", Value: "100%"}}, Remove: []string{"y"}}
	headers.Matches[0].Method = "POST"
	headers.Matches[0].Headers = []graph.NamedMatch{{Name: "v", StringMatch: graph.StringMatch{Type: graph.MatchExact, Value: "2"}}}
	invalid := graphtest.Rule("/half", graphtest.Backend("a", 3), &graph.Backend{Weight: 1})
	running := graphtest.Route("running", []string{"run.example.com"},
		graphtest.Rule("/", graphtest.Backend("a", 95), graphtest.Backend("b", 5)),
		graphtest.Rule("/split", graphtest.Backend("a", 90), rewriting(10)))
	running.Running = true
	plain := graphtest.Route("plain", []string{"*.example.com"},
		graphtest.Rule("/", graphtest.Backend("a", 1)), redirect, headers, invalid,
		graphtest.Rule("/split", graphtest.Backend("a", 3), rewriting(1)))
	return graphtest.Graph(graphtest.HTTP("http", port, "", running, plain))
}

func TestTheTableOfARunningProxyIsTheExpectedOne(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	g := everything(port)
	r.endpoints("a", NewBackend(t, "a"))
	r.endpoints("b", NewBackend(t, "b"))
	r.publish(g)
	snap := xds.Translate(g, graphtest.GatewayKey)
	expected := served.FromSnapshot(snap, map[string]*endpointv3.ClusterLoadAssignment{})
	var got served.Config
	r.Eventually("the proxy serves it", func() error {
		var err error
		if got, err = r.read(); err != nil {
			return err
		}
		if differences := served.Compare(got.Rows(), expected.Rows()); len(differences) > 0 {
			return fmt.Errorf("differences %+v", differences)
		}
		return nil
	})
	want := []string{
		"http-PORT run.example.com: /split/*: shop/a/80 90%, shop/b/80 10%; path: what matches ^[^?]* becomes /b",
		"http-PORT run.example.com: /*: shop/a/80 95%, shop/b/80 5%",
		"http-PORT run.example.com: POST /headers/*, header v=2: shop/a/80 100%; set request header x=100%; remove request header y",
		"http-PORT run.example.com: /split/*: shop/a/80 75%, shop/b/80 25%; path: what matches ^[^?]* becomes /b",
		"http-PORT run.example.com: /half/*: shop/a/80 75%, 500 (backendRefs[1] is not valid) 25%",
		"http-PORT run.example.com: /old/*: answers 301 to (scheme)://new.example.com:PORT(path)",
		"http-PORT run.example.com: /*: shop/a/80 100%",
		"http-PORT *.example.com: POST /headers/*, header v=2: shop/a/80 100%; set request header x=100%; remove request header y",
		"http-PORT *.example.com: /split/*: shop/a/80 75%, shop/b/80 25%; path: what matches ^[^?]* becomes /b",
		"http-PORT *.example.com: /half/*: shop/a/80 75%, 500 (backendRefs[1] is not valid) 25%",
		"http-PORT *.example.com: /old/*: answers 301 to (scheme)://new.example.com:PORT(path)",
		"http-PORT *.example.com: /*: shop/a/80 100%",
		"http-PORT *: every request: answers 404",
	}
	if diff := cmp.Diff(want, lines(got.Rows(), port)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}

	part := got.Of("HTTPRoute/shop/running")
	if len(part.Clusters) != 2 || len(part.Tables) != 1 || len(part.Runtime) == 0 || len(part.Endpoints["shop/a/80"].GetEndpoints()) != 1 {
		t.Errorf("one route's part: %d clusters, %d tables, runtime %v, endpoints %v", len(part.Clusters), len(part.Tables), part.Runtime, part.Endpoints)
	}
	if document, err := part.Document(); err != nil || len(document["routes"].([]any)) != 1 {
		t.Errorf("as a document: %v, %v", document, err)
	}
}

func TestAStaleProxyIsTold(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	route := func(weight int32, more ...*graph.Rule) *graph.Graph {
		rules := append([]*graph.Rule{graphtest.Rule("/", graphtest.Backend("a", 95), graphtest.Backend("b", weight))}, more...)
		r := graphtest.Route("web", []string{"web.example.com"}, rules...)
		r.Running = true
		return graphtest.Graph(graphtest.HTTP("http", port, "", r))
	}
	r.endpoints("a")
	r.endpoints("b")
	r.publish(route(5))
	stale := served.FromSnapshot(xds.Translate(route(5), graphtest.GatewayKey), nil)
	r.Eventually("the proxy serves it", func() error {
		got, err := r.read()
		if differences := served.Compare(got.Rows(), stale.Rows()); err == nil && len(differences) > 0 {
			err = fmt.Errorf("differences %+v", differences)
		}
		return err
	})
	got, err := r.read()
	if err != nil {
		t.Fatal(err)
	}
	newer := served.FromSnapshot(xds.Translate(route(25, graphtest.Rule("/new", graphtest.Backend("b", 1))), graphtest.GatewayKey), nil)
	differences := served.Compare(got.Rows(), newer.Rows())
	at := fmt.Sprintf("http-%d web.example.com ", port)
	for i := range differences {
		differences[i].Where = strings.TrimPrefix(differences[i].Where, at)
	}
	want := []served.Difference{
		{Where: "/new/* (HTTPRoute/shop/web rule 1/0)", Expected: "shop/b/80 100%"},
		{Where: "/* (HTTPRoute/shop/web rule 0/0)", Served: "shop/a/80 95%, shop/b/80 5%", Expected: "shop/a/80 79.1667%, shop/b/80 20.8333%"},
	}
	if diff := cmp.Diff(want, differences); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}
