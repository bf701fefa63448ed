// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// exchange sends bytes on a connection of their own and gives the status of the answer, 0
// when the proxy closes, and what the backend saw.
func exchange(t *testing.T, port uint32, request string) (int, Seen) {
	t.Helper()
	conn, err := net.Dial("tcp", Address(uint32(graph.ProxyPort(int32(port)))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, Seen{}
	}
	var seen Seen
	_ = json.NewDecoder(response.Body).Decode(&seen)
	return response.StatusCode, seen
}

// TestOddHosts writes hosts as an attacker or an old client would. None of them may find a
// listener that another way to write the same host does not find.
func TestOddHosts(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, service := range []string{"exact", "wild", "any"} {
		r.endpoints(service, NewBackend(t, service))
	}
	r.publish(graphtest.Graph(
		graphtest.HTTP("any", port, "", routeTo("any")),
		graphtest.HTTP("exact", port, "exact.example.com", routeTo("exact")),
		graphtest.HTTP("wild", port, "*.example.com", routeTo("wild")),
		graphtest.HTTP("closed", port, "closed.example.com"),
	))
	scope := fmt.Sprintf("http-%d/exact.example.com", port)
	for _, tt := range []struct {
		name, request string
		status        int
		backend       string
	}{
		{"an absolute form wins over Host", "GET http://exact.example.com/ HTTP/1.1\r\nHost: closed.example.com\r\n\r\n", 200, "exact"},
		{"also the other way round", "GET http://closed.example.com/ HTTP/1.1\r\nHost: exact.example.com\r\n\r\n", 404, ""},
		{"the absolute form with a port", "GET http://exact.example.com:81/ HTTP/1.1\r\nHost: x\r\n\r\n", 200, "exact"},
		{"without a Host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
		{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 200, "any"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 426, ""},
		{"HTTP/1.0 with a Host", "GET / HTTP/1.0\r\nHost: exact.example.com\r\n\r\n", 426, ""},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: exact.example.com\r\nHost: closed.example.com\r\n\r\n", 400, ""},
		{"two Hosts of which one has capitals", "GET / HTTP/1.1\r\nHost: CLOSED.example.com\r\nHost: a.example.com\r\n\r\n", 400, ""},
		{"the same Host twice", "GET / HTTP/1.1\r\nHost: exact.example.com\r\nHost: exact.example.com\r\n\r\n", 400, ""},
		{"userinfo", "GET / HTTP/1.1\r\nHost: exact.example.com@closed.example.com\r\n\r\n", 400, ""},
		{"userinfo with a colon", "GET / HTTP/1.1\r\nHost: exact.example.com:x@closed.example.com\r\n\r\n", 400, ""},
		{"a port that is none", "GET / HTTP/1.1\r\nHost: exact.example.com:x\r\n\r\n", 200, "exact"},
		{"an empty port", "GET / HTTP/1.1\r\nHost: exact.example.com:\r\n\r\n", 200, "exact"},
		{"a dot at the end", "GET / HTTP/1.1\r\nHost: exact.example.com.\r\n\r\n", 200, "exact"},
		{"a dot at the end, with a port", "GET / HTTP/1.1\r\nHost: exact.example.com.:80\r\n\r\n", 200, "exact"},
		{"a dot at the end, in capitals", "GET / HTTP/1.1\r\nHost: Exact.example.com.\r\n\r\n", 200, "exact"},
		{"a wildcard's with a dot at the end", "GET / HTTP/1.1\r\nHost: a.example.com.\r\n\r\n", 200, "wild"},
		{"a closed one with a dot at the end", "GET / HTTP/1.1\r\nHost: closed.example.com.\r\n\r\n", 404, ""},
		{"two dots at the end", "GET / HTTP/1.1\r\nHost: exact.example.com..\r\n\r\n", 200, "any"},
		{"a percent sign", "GET / HTTP/1.1\r\nHost: %REQ(X)%\r\nX: exact.example.com\r\n\r\n", 200, "any"},
		{"percent encoding", "GET / HTTP/1.1\r\nHost: closed%2eexample.com\r\n\r\n", 200, "any"},
		{"a slash", "GET / HTTP/1.1\r\nHost: exact.example.com/x\r\n\r\n", 400, ""},
		{"an asterisk", "GET / HTTP/1.1\r\nHost: *\r\n\r\n", 200, "any"},
		{"a wildcard as it is written", "GET / HTTP/1.1\r\nHost: *.example.com\r\n\r\n", 200, "wild"},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, "any"},
		{"IPv6 in capitals", "GET / HTTP/1.1\r\nHost: [FE80::1]\r\n\r\n", 200, "any"},
		{"bytes of another script", "GET / HTTP/1.1\r\nHost: \xc3\xa9xact.example.com\r\n\r\n", 400, ""},
		{"very long", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("A", 20_000) + ".example.com\r\n\r\n", 200, "wild"},
		{"the internal header, twice", "GET / HTTP/1.1\r\nHost: closed.example.com\r\nX-Headgate-Scope: " + scope + "\r\nX-Headgate-Scope: " + scope + "\r\n\r\n", 404, ""},
		{"the internal header, nominated", "GET / HTTP/1.1\r\nHost: exact.example.com\r\nConnection: x-headgate-scope, close\r\nX-Headgate-Scope: x\r\n\r\n", 200, "exact"},
		{"the internal header of connections", "GET / HTTP/1.1\r\nHost: a.example.com\r\nX-Headgate-Connection: x\r\nX-HEADGATE-SCOPE: y\r\n\r\n", 200, "wild"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, seen := exchange(t, port, tt.request)
			if status != tt.status || seen.Backend != tt.backend {
				t.Errorf("answered %d by %q with the host %q, want %d by %q", status, seen.Backend, seen.Host, tt.status, tt.backend)
			}
			for name := range seen.Header {
				if strings.HasPrefix(name, "X-Headgate") {
					t.Errorf("the backend saw %s: %q", name, seen.Header[name])
				}
			}
		})
	}
}
