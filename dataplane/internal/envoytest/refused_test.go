// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// ask sends a request on a connection that stays, and gives the status line.
func ask(conn net.Conn) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// TestConnectionsBeyondTheLimitAreClosed opens as many as a proxy may have, and one more.
func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	const limit = 4
	w := NewWorld(t)
	r := &rig{World: w, proxy: w.StartProxyWith(graphtest.GatewayKey, func(p *xds.BootstrapParams) { p.MaxConnections = limit })}
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	open := func() net.Conn {
		conn, err := net.Dial("tcp", Address(proxyPort(port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var within []net.Conn
	for i := range limit {
		within = append(within, open())
		if line, err := ask(within[i]); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Fatalf("connection %d: answered %q, %v", i, line, err)
		}
	}
	if line, err := ask(open()); err == nil {
		t.Errorf("a connection beyond the limit: answered %q", line)
	}
	for i, conn := range within {
		if line, err := ask(conn); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Errorf("connection %d, with another refused: answered %q, %v", i, line, err)
		}
	}
	if _, err := r.proxy.Stats("/ready"); err != nil {
		t.Errorf("the probes of a proxy that is full: %v", err)
	}
	_ = within[0].Close()
	r.Eventually("there is room again", func() error {
		line, err := ask(open())
		if err == nil && !strings.HasPrefix(line, "HTTP/1.1 200") {
			err = errors.New(line)
		}
		return err
	})
}

// TestStreamsThatAreSilentEnd shortens the five minutes to one second, in the
// configuration as it is translated.
func TestStreamsThatAreSilentEnd(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	snap := xds.Translate(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1))))), graphtest.GatewayKey)
	shortened := 0
	for _, m := range snap.Listeners {
		for _, chain := range m.(*listenerv3.Listener).FilterChains {
			for _, filter := range chain.Filters {
				var manager hcmv3.HttpConnectionManager
				if err := filter.GetTypedConfig().UnmarshalTo(&manager); err != nil {
					t.Fatal(err)
				}
				if got := manager.StreamIdleTimeout.AsDuration(); got != 5*time.Minute {
					t.Fatalf("streams may be silent for %s, want 5 minutes", got)
				}
				manager.StreamIdleTimeout = durationpb.New(time.Second)
				changed, err := anypb.New(&manager)
				if err != nil {
					t.Fatal(err)
				}
				filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: changed}
				shortened++
			}
		}
	}
	if shortened != 1 {
		t.Fatalf("there are %d connection managers", shortened)
	}
	r.AwaitAck(graphtest.GatewayKey, r.Server.Publish(snap))
	conn, err := net.Dial("tcp", Address(proxyPort(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	begin := time.Now()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 408") || time.Since(begin) < 900*time.Millisecond {
		t.Errorf("answered %q, %v after %s", line, err, time.Since(begin))
	}
}
