// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// talk is a stream that gives back what it is told.
type talk func(text string) (string, error)

// echoFunc answers an upgrade to a WebSocket with its own bytes.
func echoFunc(w http.ResponseWriter, request *http.Request) {
	if request.Header.Get("Upgrade") != "websocket" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// webSocket opens a WebSocket to the host. Its bytes are not framed: no proxy looks at them.
func webSocket(t *testing.T, port uint32, host string) talk {
	t.Helper()
	conn, err := net.Dial("tcp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(3 * patience))
	_, _ = fmt.Fprintf(conn, "GET /chat HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", host)
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("the upgrade was answered with %q, %v", line, err)
	}
	for line := ""; line != "\r\n"; {
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return func(text string) (string, error) {
		if _, err := io.WriteString(conn, text+"\n"); err != nil {
			return "", err
		}
		line, err := reader.ReadString('\n')
		return strings.TrimSuffix(line, "\n"), err
	}
}

// newBidiBackend serves any method of gRPC: each message comes back.
func newBidiBackend(t *testing.T) *Backend {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			message := &wrapperspb.StringValue{}
			if err := stream.RecvMsg(message); err != nil {
				return nil //nolint:nilerr // the client has said all
			}
			if err := stream.SendMsg(message); err != nil {
				return err
			}
		}
	}))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return &Backend{Name: "bidi", address: listener.Addr().(*net.TCPAddr)}
}

// bidi opens a stream of messages in both directions.
func bidi(t *testing.T, port uint32, host string) talk {
	t.Helper()
	stream, err := grpcConn(t, port).NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Chat/Talk", grpc.CallAuthority(host))
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) (string, error) {
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			return "", err
		}
		message := &wrapperspb.StringValue{}
		err := stream.RecvMsg(message)
		return message.GetValue(), err
	}
}

// TestStreamsGoOnThroughChanges holds streams open while weights change by runtime keys, the
// table of their route is replaced and other routes of the host come and go. Each change
// ends with a message on every stream, of which none may be lost, doubled or cut.
func TestStreamsGoOnThroughChanges(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	const chat, calls = "chat.example.com", "calls.example.com"
	for _, service := range []string{"stable", "canary"} {
		r.endpoints(service, NewBackendFunc(t, service, echoFunc))
		key := graphtest.Key("calls-" + service)
		key.Protocol = graph.UpstreamH2C
		r.Server.PublishEndpoints(key, Endpoints(key, newBidiBackend(t)))
	}
	// A request timeout of a second does not concern the streams: those say nothing, or zero.
	second := graph.Duration(time.Second)
	none := graph.Duration(0)
	world := func(running bool, canary int32, others int, extra string) *graph.Graph {
		sockets := graphtest.Rule("/chat", graphtest.Backend("stable", 100-canary), graphtest.Backend("canary", canary))
		streams := graphtest.Rule("/", graphtest.Backend("calls-stable", 100-canary), graphtest.Backend("calls-canary", canary))
		for _, b := range streams.Backends {
			b.Cluster.Protocol = graph.UpstreamH2C
		}
		streams.RequestTimeout = &none
		if extra != "" {
			for _, rule := range []*graph.Rule{sockets, streams} {
				rule.Filters.RequestHeaders = &graph.HeaderModifier{Set: []graph.Header{{Name: "X-Extra", Value: extra}}}
			}
		}
		routes := []*graph.Route{graphtest.Route("chat", []string{chat}, sockets), graphtest.Route("calls", []string{calls}, streams)}
		routes[1].Kind = graph.KindGRPCRoute
		for _, route := range routes {
			route.Running = running
		}
		for i := range others {
			rule := graphtest.Rule(fmt.Sprintf("/other-%d", i), graphtest.Backend("stable", 1))
			rule.RequestTimeout = &second
			routes = append(routes, graphtest.Route(fmt.Sprintf("other-%d", i), []string{chat, calls}, rule))
		}
		return graphtest.Graph(graphtest.HTTP("http", port, "", routes...))
	}
	r.publish(world(true, 0, 0, ""))
	opened := time.Now()
	streams := map[string]talk{"the WebSocket": webSocket(t, port, chat), "the gRPC stream": bidi(t, port, calls)}
	said := 0
	check := func(after string) {
		t.Helper()
		for name, say := range streams {
			said++
			want := fmt.Sprintf("message %d", said)
			if got, err := say(want); err != nil || got != want {
				t.Fatalf("%s gave %q, %v after %s, want %q", name, got, err, after, want)
			}
		}
	}
	check("it was opened")
	for _, canary := range []int32{10, 50, 90, 100, 0} {
		r.publish(world(true, canary, 0, ""))
		check(fmt.Sprintf("the weight became %d", canary))
	}
	r.publish(world(false, 100, 0, "a"))
	check("the release ended, with the weights and a filter in the table")
	for i := range 5 {
		r.publish(world(false, 0, 0, fmt.Sprint(i)))
		check("the table was replaced")
		r.publish(world(i%2 == 0, 50, i+1, fmt.Sprint(i)))
		check("a route was added")
	}
	r.publish(world(true, 50, 0, ""))
	check("the other routes went")
	if left := 2*time.Second - time.Since(opened); left > 0 { // beyond what other routes allow
		time.Sleep(left)
	}
	check("the time that other routes have for a request")
}

// TestARequestTimeoutCountsFromTheEndOfTheRequest is what a rule's timeout means to streams:
// it begins when the client has said all, which the API allows. While the client still
// speaks nothing is cut, in WebSockets therefore never.
func TestARequestTimeoutCountsFromTheEndOfTheRequest(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	limit := graph.Duration(time.Second)
	var routes []*graph.Route
	for service, b := range map[string]*Backend{"calls": newBidiBackend(t), "codes": newCodesBackend(t), "chat": NewBackendFunc(t, "chat", echoFunc)} {
		route := graphtest.Route(service, []string{service + ".example.com"}, graphtest.Rule("/", graphtest.Backend(service, 1)))
		route.Rules[0].RequestTimeout = &limit
		key := &route.Rules[0].Backends[0].Cluster
		if service != "chat" {
			route.Kind, key.Protocol = graph.KindGRPCRoute, graph.UpstreamH2C
		}
		r.Server.PublishEndpoints(*key, Endpoints(*key, b))
		routes = append(routes, route)
	}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", routes...)))
	streams := map[string]talk{"the WebSocket": webSocket(t, port, "chat.example.com"), "the gRPC stream": bidi(t, port, "calls.example.com")}
	conn := grpcConn(t, port)
	began := time.Now()
	err := conn.Invoke(t.Context(), "/test.Service/stays", &emptypb.Empty{}, &emptypb.Empty{}, grpc.CallAuthority("codes.example.com"))
	if took := time.Since(began); err == nil || took < limit*9/10 || took > 8*limit {
		t.Errorf("an answer that does not end was cut after %s with %v, want an error after %s", took, err, limit)
	}
	time.Sleep(limit)
	for name, say := range streams {
		if got, err := say("still here"); err != nil || got != "still here" {
			t.Errorf("%s gave %q, %v beyond the timeout", name, got, err)
		}
	}
}
