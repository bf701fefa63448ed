// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"net"
	"testing"
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestTheAccessLogSaysWhatBecameOfAConnection ends a connection over TCP, one over TLS, one
// for which there is no route, and a session of datagrams.
func TestTheAccessLogSaysWhatBecameOfAConnection(t *testing.T) {
	r := newRig(t)
	tcp, tls, closed, udp := FreePort(t), FreePort(t), FreePort(t), FreePort(t)
	cert := certificate(t, "db", 1, "db.example.com")
	r.l4Endpoints("db", graph.UpstreamTCP, newEcho(t, "db"))
	r.l4Endpoints("dns", graph.UpstreamUDP, newUDPEcho(t, "dns"))
	r.publish(graphtest.Graph(
		graphtest.Connections("tcp", tcp, gwv1.TCPProtocolType, "", nil, graphtest.L4(graph.KindTCPRoute, "plain", nil, graphtest.Backend("db", 1))),
		graphtest.Connections("tls", tls, gwv1.TLSProtocolType, "", []graph.Certificate{cert},
			graphtest.L4(graph.KindTLSRoute, "secret", []string{"db.example.com"}, graphtest.Backend("db", 1))),
		graphtest.Connections("closed", closed, gwv1.TCPProtocolType, "", nil),
		graphtest.Datagrams("udp", udp, graphtest.L4(graph.KindUDPRoute, "names", nil, graphtest.Backend("dns", 1))),
	))
	for port, name := range map[uint32]string{tcp: "", tls: "db.example.com"} {
		l, err := dial(proxyPort(port), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.say("hello"); err != nil {
			t.Error(err)
		}
		_ = l.Close()
	}
	if _, err := dial(proxyPort(closed), ""); err == nil {
		t.Error("a port without a route served a connection")
	}
	datagram(t, proxyPort(udp))
	time.Sleep(100 * time.Millisecond) // the connections end
	lines := map[string]map[string]any{}
	for _, line := range loggedLines(t, r.quit()) {
		lines[fmt.Sprint(line["listener"])] = line
	}
	for listener, want := range map[string]map[string]any{
		"tcp":    {"protocol": "TCP", "route": "TCPRoute/shop/plain", "backend": "shop/db/80/tcp", "bytes_received": 6.0, "client": "127.0.0.1"},
		"tls":    {"protocol": "TLS", "route": "TLSRoute/shop/secret", "server_name": "db.example.com", "bytes_received": 6.0},
		"closed": {"protocol": "TCP", "route": nil, "upstream": nil},
		"udp":    {"protocol": "UDP", "datagrams_received": 1.0, "bytes_received": 5.0, "datagrams_sent": 1.0},
	} {
		line := lines[listener]
		if line == nil {
			t.Errorf("nothing is logged of %s", listener)
			continue
		}
		if line["gateway"] != "infra/edge" || line["time"] == nil || line["duration_ms"] == nil {
			t.Errorf("%s: %v", listener, line)
		}
		for field, value := range want {
			if got := line[field]; got != value && (value != nil || got != "-") {
				t.Errorf("%s: %s is %v (%T), want %v in %v", listener, field, got, got, value, line)
			}
		}
	}
}

func proxyPort(port uint32) uint32 { return uint32(graph.ProxyPort(int32(port))) }

// datagram sends one and waits for the answer.
func datagram(t *testing.T, port uint32) {
	t.Helper()
	conn, err := net.Dial("udp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}
