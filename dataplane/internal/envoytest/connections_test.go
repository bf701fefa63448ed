// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// newEcho starts a backend that says its name and then whatever it hears, over TCP or TLS.
func newEcho(t *testing.T, name string, certs ...graph.Certificate) *net.TCPAddr {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	if len(certs) > 0 {
		pair, err := tls.X509KeyPair(certs[0].Cert, certs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = fmt.Fprintln(conn, name)
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = fmt.Fprintln(conn, name+" "+lines.Text())
				}
			}()
		}
	}()
	return address
}

// newUDPEcho starts a backend that answers every datagram with its name.
func newUDPEcho(t *testing.T, name string) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDP([]byte(fmt.Sprintf("%s %d", name, n)), from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr)
}

func (r *rig) l4Endpoints(service string, protocol graph.UpstreamProtocol, address net.Addr) {
	key := graphtest.Key(service)
	key.Protocol = protocol
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
	if address != nil {
		socket := &corev3.SocketAddress{Address: "127.0.0.1"}
		switch a := address.(type) {
		case *net.TCPAddr:
			socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port)}
		case *net.UDPAddr:
			socket.Protocol = corev3.SocketAddress_UDP
			socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port)}
		}
		cla.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socket}},
			}},
		}}}}
	}
	r.Server.PublishEndpoints(key, cla)
}

// line is one connection to a backend through the proxy.
type line struct {
	net.Conn
	reader  *bufio.Reader
	backend string
}

// dial connects and gives the backend that was reached; with a server name it speaks TLS.
func dial(port uint32, serverName string) (*line, error) {
	conn, err := net.DialTimeout("tcp", Address(port), 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if serverName != "" {
		conn = tls.Client(conn, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	}
	l := &line{Conn: conn, reader: bufio.NewReader(conn)}
	first, err := l.reader.ReadString('\n')
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	l.backend = strings.TrimSpace(first)
	return l, nil
}

func (l *line) say(text string) error {
	_ = l.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(l.Conn, text); err != nil {
		return err
	}
	got, err := l.reader.ReadString('\n')
	if err == nil && got != l.backend+" "+text+"\n" {
		err = fmt.Errorf("%s answered %q", l.backend, got)
	}
	return err
}

// count makes n connections and counts where they end; "" stands for closed.
func count(n int, port uint32, serverName string) map[string]int {
	seen := map[string]int{}
	for range n {
		l, err := dial(port, serverName)
		if err != nil {
			seen[""]++
			continue
		}
		seen[l.backend]++
		_ = l.Close()
	}
	return seen
}

// near tells whether got of n is what a share gives, within four standard deviations.
func near(got, n int, share float64) bool {
	return math.Abs(float64(got)-float64(n)*share) <= 4*math.Sqrt(float64(n)*share*(1-share))+1
}

func TestServerNamesLeadToRoutes(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	cert := certificate(t, "edge", 7, "mail.example.com")
	inside := certificate(t, "inside", 8, "chat.example.com")
	r.l4Endpoints("chat", graph.UpstreamTCP, newEcho(t, "chat", inside))
	r.l4Endpoints("wild", graph.UpstreamTCP, newEcho(t, "wild", inside))
	r.l4Endpoints("mail", graph.UpstreamTCP, newEcho(t, "mail"))
	r.endpoints("web", NewBackend(t, "web"))
	passes := func(name, host string, routes ...*graph.Route) *graph.Listener {
		return graphtest.Connections(name, port, gwv1.TLSProtocolType, host, nil, routes...)
	}
	wild := graphtest.L4(graph.KindTLSRoute, "wild", []string{"*.com"}, graphtest.Backend("wild", 1))
	chat := graphtest.L4(graph.KindTLSRoute, "chat", []string{"chat.example.com"}, graphtest.Backend("chat", 1))
	mail := graphtest.L4(graph.KindTLSRoute, "mail", []string{"mail.example.com"}, graphtest.Backend("mail", 1))
	r.publish(graphtest.Graph(
		passes("inside", "*.example.com", wild, chat),
		passes("empty", "empty.example.com"),
		graphtest.Connections("ended", port, gwv1.TLSProtocolType, "mail.example.com", []graph.Certificate{cert}, mail),
		graphtest.HTTPS("web", port, "web.example.com", cert, graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))),
	))
	for _, tt := range []struct{ serverName, want string }{
		{"chat.example.com", "chat"},
		{"other.example.com", "wild"},
		{"a.b.example.com", "wild"},
		{"mail.example.com", "mail"},
		{"empty.example.com", ""},
		{"example.org", ""},
	} {
		r.Eventually("the listener is up", func() error {
			conn, err := net.Dial("tcp", Address(port))
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		got, err := dial(port, tt.serverName)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s: reached %s, want a closed connection", tt.serverName, got.backend)
		case tt.want != "" && (err != nil || got.backend != tt.want):
			t.Errorf("%s: reached %+v, %v, want %s", tt.serverName, got, err, tt.want)
		case tt.want == "mail" && got.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64() != 7:
			t.Errorf("%s: the certificate is not the listener's", tt.serverName)
		case tt.want == "chat" && got.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64() != 8:
			t.Errorf("%s: the certificate is not the backend's", tt.serverName)
		}
	}
	if a := r.do(call{port: port, sni: "web.example.com", host: "web.example.com", path: "/"}); a.status != 200 || a.seen.Backend != "web" {
		t.Errorf("HTTPS on the same port: %+v", a)
	}
	if l, err := dial(port, ""); err == nil {
		t.Errorf("a client without TLS reached %s", l.backend)
	}
}

func TestConnectionsOutliveEveryChangeOfTheirRoute(t *testing.T) {
	r := newRig(t)
	port, tlsPort := FreePort(t), FreePort(t)
	cert := certificate(t, "edge", 7, "mail.example.com")
	for _, name := range []string{"stable", "canary", "other"} {
		r.l4Endpoints(name, graph.UpstreamTCP, newEcho(t, name))
	}
	backends := func(stable, canary int32) []*graph.Backend {
		return []*graph.Backend{graphtest.Backend("stable", stable), graphtest.Backend("canary", canary)}
	}
	split := func(stable, canary int32) *graph.Graph {
		return graphtest.Graph(
			graphtest.Connections("tcp", port, gwv1.TCPProtocolType, "", nil, graphtest.L4(graph.KindTCPRoute, "db", nil, backends(stable, canary)...)),
			graphtest.Connections("tls", tlsPort, gwv1.TLSProtocolType, "*.example.com", []graph.Certificate{cert},
				graphtest.L4(graph.KindTLSRoute, "mail", []string{"mail.example.com"}, backends(stable, canary)...)))
	}
	r.publish(split(1, 0))
	var open []*line
	connect := func() {
		t.Helper()
		r.Eventually("a connection", func() error {
			for at, name := range map[uint32]string{port: "", tlsPort: "mail.example.com"} {
				l, err := dial(at, name)
				if err != nil {
					return err
				}
				open = append(open, l)
			}
			return nil
		})
	}
	connect()
	for _, w := range [][2]int32{{50, 50}, {90, 10}, {0, 1}, {30, 70}, {1, 0}} {
		r.publish(split(w[0], w[1]))
		const n = 300
		share := float64(w[0]) / float64(w[0]+w[1])
		for at, name := range map[uint32]string{port: "", tlsPort: "mail.example.com"} {
			if seen := count(n, at, name); !near(seen["stable"], n, share) || seen["stable"]+seen["canary"] != n {
				t.Errorf("weights %v: %v of %d", w, seen, n)
			}
		}
		connect()
	}
	// Another route on the same listeners, with another backend.
	r.publish(graphtest.Graph(
		graphtest.Connections("tcp", port, gwv1.TCPProtocolType, "", nil, graphtest.L4(graph.KindTCPRoute, "new", nil, graphtest.Backend("other", 1))),
		graphtest.Connections("tls", tlsPort, gwv1.TLSProtocolType, "*.example.com", []graph.Certificate{cert},
			graphtest.L4(graph.KindTLSRoute, "new", []string{"mail.example.com"}, graphtest.Backend("other", 1)))))
	if seen := count(20, port, ""); seen["other"] != 20 {
		t.Errorf("the new route got %v", seen)
	}
	for i, l := range open {
		if err := l.say(fmt.Sprint("still here ", i)); err != nil {
			t.Errorf("connection %d to %s: %v", i, l.backend, err)
		}
	}
}

func TestSharesOfMissingBackendsAreClosed(t *testing.T) {
	r := newRig(t)
	split, none, empty := FreePort(t), FreePort(t), FreePort(t)
	r.l4Endpoints("app", graph.UpstreamTCP, newEcho(t, "app"))
	r.l4Endpoints("idle", graph.UpstreamTCP, nil)
	listener := func(port uint32, routes ...*graph.Route) *graph.Listener {
		return graphtest.Connections(fmt.Sprint("tcp-", port), port, gwv1.TCPProtocolType, "", nil, routes...)
	}
	r.publish(graphtest.Graph(
		listener(split, graphtest.L4(graph.KindTCPRoute, "split", nil, graphtest.Backend("app", 60), graphtest.Missing(20), graphtest.Backend("idle", 20)),
			graphtest.L4(graph.KindTCPRoute, "younger", nil, graphtest.Backend("idle", 1))),
		listener(none, graphtest.L4(graph.KindTCPRoute, "none", nil, graphtest.Missing(1))),
		listener(empty)))
	r.Eventually("the port is open", func() error { _, err := dial(split, ""); return err })
	const n = 400
	if seen := count(n, split, ""); !near(seen["app"], n, 0.6) {
		t.Errorf("60 %% to a backend that works: %v of %d", seen, n)
	}
	for name, port := range map[string]uint32{"no backend": none, "no route": empty} {
		if seen := count(10, port, ""); seen[""] != 10 {
			t.Errorf("%s: %v", name, seen)
		}
	}
}

// session is one client of datagrams: the proxy keeps its backend as long as its port.
type session struct{ net.Conn }

func newSession(t *testing.T, port uint32) session {
	t.Helper()
	conn, err := net.Dial("udp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return session{conn}
}

// ask sends a datagram of n bytes and gives the backend that answered with its length; "" for none.
func (s session) ask(n int) string {
	_ = s.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := s.Write(make([]byte, n)); err != nil {
		return ""
	}
	buffer := make([]byte, 100)
	got, err := s.Read(buffer)
	if err != nil {
		return ""
	}
	var name string
	var length int
	if _, err := fmt.Sscan(string(buffer[:got]), &name, &length); err != nil || length != n {
		return "torn"
	}
	return name
}

func TestDatagrams(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, name := range []string{"stable", "canary"} {
		r.l4Endpoints(name, graph.UpstreamUDP, newUDPEcho(t, name))
	}
	graphOf := func(backends ...*graph.Backend) *graph.Graph {
		var routes []*graph.Route
		if len(backends) > 0 {
			routes = append(routes, graphtest.L4(graph.KindUDPRoute, "dns", nil, backends...),
				graphtest.L4(graph.KindUDPRoute, "younger", nil, graphtest.Backend("canary", 1)))
		}
		return graphtest.Graph(graphtest.Datagrams("dns", port, routes...))
	}
	counted := func(n int) map[string]int {
		seen := map[string]int{}
		for range n {
			s := newSession(t, port)
			seen[s.ask(10)]++
			_ = s.Close()
		}
		return seen
	}
	r.publish(graphOf())
	if seen := counted(2); seen[""] != 2 {
		t.Errorf("without a route: %v", seen)
	}
	r.publish(graphOf(graphtest.Backend("stable", 1), graphtest.Backend("canary", 0)))
	old := newSession(t, port)
	r.Eventually("an answer", func() error {
		if got := old.ask(10); got != "stable" {
			return errors.New(got)
		}
		return nil
	})
	if got := old.ask(4000); got != "stable" {
		t.Errorf("a long datagram: %q", got)
	}
	for _, w := range [][2]int32{{70, 30}, {10, 90}, {1, 0}} {
		r.publish(graphOf(graphtest.Backend("stable", w[0]), graphtest.Backend("canary", w[1])))
		const n = 200
		share := float64(w[0]) / float64(w[0]+w[1])
		if seen := counted(n); !near(seen["stable"], n, share) || seen["stable"]+seen["canary"] != n {
			t.Errorf("weights %v: %v of %d", w, seen, n)
		}
		if got := old.ask(10); got != "stable" {
			t.Errorf("weights %v: the open session moved to %q", w, got)
		}
	}
	// With weight 0 a backend gets nothing, not even of open sessions.
	r.publish(graphOf(graphtest.Backend("stable", 0), graphtest.Backend("canary", 1)))
	r.Eventually("the session moves", func() error {
		if got := old.ask(10); got != "canary" {
			return errors.New(got)
		}
		return nil
	})
	// What is missing, or has no endpoints, loses its share and nobody else does.
	r.l4Endpoints("idle", graph.UpstreamUDP, nil)
	r.publish(graphOf(graphtest.Backend("stable", 2), graphtest.Missing(1), graphtest.Backend("idle", 1)))
	if seen := counted(40); !near(seen["stable"], 40, 0.5) {
		t.Errorf("a half to a backend that works: %v of 40", seen)
	}
	// Endpoints reach the mix without a new configuration.
	r.l4Endpoints("idle", graph.UpstreamUDP, newUDPEcho(t, "idle"))
	r.Eventually("the new endpoint gets datagrams", func() error {
		if seen := counted(20); seen["idle"] == 0 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
}
