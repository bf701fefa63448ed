// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// askHTTP2 sends one HTTP/2 request with exactly these fields, name and value in turn, and gives
// the status and the backend of the answer; 0 when the proxy refuses the stream.
func askHTTP2(t *testing.T, conn net.Conn, fields ...string) (status, backend string) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "0", ""
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.RegularFields() {
				if field.Name == "x-backend" {
					backend = field.Value
				}
			}
			return f.PseudoValue("status"), backend
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "0", ""
		}
	}
}

// TestHostsOfHTTP2 are those that no library sends.
func TestHostsOfHTTP2(t *testing.T) {
	r := newRig(t)
	port, secure := FreePort(t), FreePort(t)
	for _, service := range []string{"exact", "wild", "any"} {
		r.endpoints(service, NewBackend(t, service))
	}
	cert := certificate(t, "all", 1, "example.com")
	r.publish(graphtest.Graph(
		graphtest.HTTP("any", port, "", routeTo("any")),
		graphtest.HTTP("exact", port, "exact.example.com", routeTo("exact")),
		graphtest.HTTPS("secure-any", secure, "", cert, routeTo("any")),
		graphtest.HTTPS("secure-wild", secure, "*.example.com", cert, routeTo("wild")),
		graphtest.HTTPS("secure-exact", secure, "exact.example.com", cert, routeTo("exact")),
	))
	get := []string{":method", "GET", ":scheme", "http", ":path", "/"}
	scope := fmt.Sprintf("https-%d/exact.example.com:secure-exact", secure)
	for _, tt := range []struct {
		name, serverName string
		fields           []string
		status, backend  string
	}{
		{"an authority", "", []string{":authority", "exact.example.com"}, "200", "exact"},
		{"only a Host", "", []string{"host", "exact.example.com"}, "200", "exact"},
		{"an authority wins over a Host", "", []string{":authority", "other.example.com", "host", "exact.example.com"}, "200", "any"},
		{"neither", "", nil, "0", ""},
		{"an empty authority", "", []string{":authority", ""}, "0", ""},
		{"two authorities", "", []string{":authority", "other.example.com", ":authority", "exact.example.com"}, "0", ""},
		{"two Hosts", "", []string{"host", "other.example.com", "host", "exact.example.com"}, "0", ""},
		{"userinfo", "", []string{":authority", "exact.example.com:x@other.example.com"}, "0", ""},
		{"a dot at the end", "", []string{":authority", "exact.example.com."}, "200", "exact"},
		{"over TLS a dot at the end", "exact.example.com", []string{":authority", "exact.example.com.:443"}, "200", "exact"},
		{"the wrong connection, with a dot at the end", "a.example.com", []string{":authority", "exact.example.com."}, "421", ""},
		{"the wrong connection, with the name of the right one", "a.example.com", []string{":authority", "exact.example.com:secure-exact"}, "421", ""},
		{"the wrong connection, with the internal headers", "a.example.com", []string{
			":authority", "exact.example.com", "x-headgate-scope", scope, "x-headgate-scope", scope, "x-headgate-connection", "secure-wild//exact.example.com",
		}, "421", ""},
		{"a server name that looks like another listener's", "secure-any//exact.example.com", []string{":authority", "exact.example.com"}, "421", ""},
		{"a server name with a line end", "secure-any\nx-headgate-connection: secure-any//exact.example.com", []string{":authority", "exact.example.com"}, "421", ""},
		{"no server name", "-", []string{":authority", "exact.example.com"}, "421", ""},
		{"no server name, any host", "-", []string{":authority", "example.org"}, "200", "any"},
		{"CONNECT over HTTP/2", "a.example.com", []string{":method", "CONNECT", ":authority", "exact.example.com:443"}, "404", ""},
		{"a WebSocket to the wrong host", "a.example.com", []string{
			":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "exact.example.com",
		}, "421", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := port
			if tt.serverName != "" {
				to = secure
			}
			conn, err := net.Dial("tcp", Address(uint32(graph.ProxyPort(int32(to)))))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if tt.serverName != "" {
				name := tt.serverName
				if name == "-" {
					name = ""
				}
				conn = tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			}
			fields := tt.fields
			if len(fields) == 0 || fields[0] != ":method" {
				fields = append(append([]string{}, get...), tt.fields...)
			}
			if status, backend := askHTTP2(t, conn, fields...); status != tt.status || backend != tt.backend {
				t.Errorf("answered %s by %q, want %s by %q", status, backend, tt.status, tt.backend)
			}
		})
	}
}
