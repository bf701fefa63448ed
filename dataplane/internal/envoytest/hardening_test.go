// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestClientsDoNotSteerTheProxy sends the headers by which Envoy lets trusted callers
// change timeouts, retries and accounting: nobody in front of the gateway is trusted.
func TestClientsDoNotSteerTheProxy(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	slow := NewBackendFunc(t, "slow", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	r.endpoints("slow", slow)
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("slow", nil, graphtest.Rule("/", graphtest.Backend("slow", 1))))))
	a := r.do(call{port: port, path: "/", header: map[string]string{
		"X-Envoy-Upstream-Rq-Timeout-Ms": "1", "X-Envoy-Retry-On": "5xx", "X-Envoy-Max-Retries": "5", "X-Envoy-Internal": "true",
		"X-Forwarded-For": "10.0.0.1", "X-Envoy-Upstream-Alt-Stat-Name": "mine", "X-Envoy-Hedge-On-Per-Try-Timeout": "true",
	}})
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d: a client set the timeout", a.status)
	}
	if n := slow.Requests.Load(); n != 1 {
		t.Errorf("the backend saw %d requests: a client asked for retries", n)
	}
	stats, err := r.proxy.Admin("/stats?usedonly&filter=cluster.shop.*internal.upstream_rq")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stats, "upstream_rq") {
		t.Errorf("a client had its request counted as the gateway's own:\n%s", stats)
	}
}

// raw sends bytes and gives the status line of the answer, or an error when the proxy closes.
func raw(port uint32, request string) (string, error) {
	conn, err := net.DialTimeout("tcp", Address(uint32(graph.ProxyPort(int32(port)))), time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// TestAmbiguousRequestsAreRefused sends what two servers in a row may read differently.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	web := NewBackend(t, "web")
	r.endpoints("web", web)
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	for _, tt := range []struct{ name, head string }{
		{"two ways to say where the body ends", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"},
		{"a space before the colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
		{"an encoding that is not known", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
		{"a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n"},
		{"a fragment in the path", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		line, err := raw(port, tt.head)
		if err == nil && !strings.HasPrefix(line, "HTTP/1.1 4") && !strings.HasPrefix(line, "HTTP/1.1 5") {
			t.Errorf("%s: answered %q", tt.name, line)
		}
	}
	if n := web.Requests.Load(); n > 0 {
		t.Errorf("the backend saw %d of them", n)
	}
}

// TestAPathHasOneForm asks for a protected path in disguise.
func TestAPathHasOneForm(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	closed := graphtest.Rule("/admin")
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)), closed))))
	for _, path := range []string{"/admin", "/admin/", "/x/../admin", "/x/%2e%2e/admin", "/./admin", "/%61dmin", "/x/..%2fadmin", "/x%2f..%2fadmin", `/x\..\admin`, "/admin%2fx"} {
		line, err := raw(port, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if err != nil || strings.HasPrefix(line, "HTTP/1.1 2") {
			t.Errorf("%s: answered %q, %v", path, line, err)
		}
	}
}

// TestTheStatisticsPortLeadsNowhereElse asks it for the admin interface.
func TestTheStatisticsPortLeadsNowhereElse(t *testing.T) {
	r := newRig(t)
	r.publish(graphtest.Graph(graphtest.HTTP("http", FreePort(t), "")))
	r.Eventually("the port is open", func() error { _, err := r.proxy.Stats("/ready"); return err })
	for _, request := range []string{
		"POST /quitquitquit", "GET /config_dump", "GET /ready/../config_dump", "GET /ready%2f..%2fconfig_dump", "GET /stats/prometheus/../../config_dump",
		"POST /ready", "GET //config_dump", "GET /stats",
	} {
		conn, err := net.Dial("tcp", Address(r.proxy.StatsPort))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", request)
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 4") {
			t.Errorf("%s: answered %q, %v", request, line, err)
		}
	}
}

// TestModifiersDoNotFrameMessages has a route state a length that is not the body's: the
// backend would take the rest for the next request on a connection that others share.
func TestModifiersDoNotFrameMessages(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	web := NewBackend(t, "web")
	r.endpoints("web", web)
	rule := graphtest.Rule("/", graphtest.Backend("web", 1))
	rule.Filters.RequestHeaders = &graph.HeaderModifier{
		Set:    []graph.Header{{Name: "Content-Length", Value: "0"}, {Name: "transfer-encoding", Value: "identity"}},
		Remove: []string{"content-length"},
	}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, rule))))
	body := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	line, err := raw(port, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("answered %q, %v", line, err)
	}
	time.Sleep(50 * time.Millisecond) // the second request would follow at once
	if n := web.Requests.Load(); n != 1 {
		t.Errorf("the backend saw %d requests in one", n)
	}
}

// TestADrainCanTellWhoseConnectionsAreOpen: package drain counts connections by the names
// of the statistics of Envoy's listeners.
func TestADrainCanTellWhoseConnectionsAreOpen(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	if _, err := r.proxy.Stats("/ready"); err != nil {
		t.Error(err)
	}
	r.do(call{port: port, path: "/"})
	page, err := r.proxy.Admin(`/stats?filter=^listener\..*\.downstream_cx_total$`)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "listener."), ".")
		if strings.Contains(line, ".worker_") || strings.Contains(line, ".main_thread.") {
			continue
		}
		if name != "admin" && name != "stats" && name != fmt.Sprintf("http-%d", port) {
			t.Errorf("the connections of %q are nobody's: %s", name, line)
		}
	}
	if !strings.Contains(page, fmt.Sprintf("listener.http-%d.downstream_cx_total: 1", port)) {
		t.Errorf("the connection is not counted:\n%s", page)
	}
}
