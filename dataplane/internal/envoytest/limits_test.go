// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"strings"
	"testing"

	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestHeadersAreLimited sends as much as is let through, and more.
func TestHeadersAreLimited(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	web := NewBackend(t, "web")
	r.endpoints("web", web)
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	many := func(n int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, "x-%d: y\r\n", i)
		}
		return out.String()
	}
	for _, row := range []struct{ name, headers, want string }{
		{"fifty", many(50), "HTTP/1.1 200"},
		{"two hundred", many(200), "HTTP/1.1 431"},
		{"one of 30 KiB", "x: " + strings.Repeat("y", 30<<10) + "\r\n", "HTTP/1.1 200"},
		{"one of 70 KiB", "x: " + strings.Repeat("y", 70<<10) + "\r\n", "HTTP/1.1 431"},
	} {
		line, err := raw(port, "GET / HTTP/1.1\r\nHost: a\r\n"+row.headers+"\r\n")
		if err != nil || !strings.HasPrefix(line, row.want) {
			t.Errorf("%s: answered %q, %v, want %s", row.name, line, err, row.want)
		}
	}
	if n := web.Requests.Load(); n != 2 {
		t.Errorf("the backend saw %d requests, want the two that are allowed", n)
	}
}

// TestTheOverloadManagerWatchesTheHeap asks the proxy whether the monitors and actions of
// its bootstrap are at work.
func TestTheOverloadManagerWatchesTheHeap(t *testing.T) {
	r := newRig(t)
	r.Eventually("the heap's pressure is measured", func() error {
		page, err := r.proxy.Admin("/stats?filter=^overload\\.")
		if err != nil {
			return err
		}
		for _, want := range []string{
			"overload.envoy.resource_monitors.fixed_heap.pressure: ", "overload.envoy.overload_actions.stop_accepting_requests.active: 0",
			"overload.envoy.overload_actions.disable_http_keepalive.active: 0", "overload.envoy.overload_actions.shrink_heap.active: 0",
		} {
			if !strings.Contains(page, want) {
				return fmt.Errorf("no %q in\n%s", want, page)
			}
		}
		return nil
	})
}
