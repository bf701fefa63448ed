// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package connection_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

// TestWhoeverHasTheNameNowIsAsked puts another server at an address, while the one before still
// serves the connections that it has: as pods do whose Service has become that of a new version.
func TestWhoeverHasTheNameNowIsAsked(t *testing.T) {
	issue, ca := authority(t)
	pair, err := tls.X509KeyPair(issue("server", net.IPv4(127, 0, 0, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, secured := range []bool{false, true} {
		name := map[bool]string{false: "without TLS", true: "with TLS and HTTP/2"}[secured]
		t.Run(name, func(t *testing.T) {
			address := "127.0.0.1:0"
			begin := func(version string) (leave func()) {
				listener, err := net.Listen("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				address = listener.Addr().String()
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, version) }))
				_ = server.Listener.Close()
				server.Listener, server.EnableHTTP2 = listener, true
				if secured {
					server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
					server.StartTLS()
				} else {
					server.Start()
				}
				t.Cleanup(func() {
					server.CloseClientConnections()
					server.Close()
				})
				return func() { _ = listener.Close() }
			}
			pool := connection.New(connection.Options{Local: true, Secrets: secrets{"ca": {"ca.crt": ca}}.read})
			url, settings := "http://", v1beta1.Connection{}
			if secured {
				url, settings.TLS = "https://", &v1beta1.ClientTLS{CA: &v1beta1.SecretKeyReference{Name: "ca", Key: "ca.crt"}}
			}
			for _, version := range []string{"v1", "v2"} {
				leave := begin(version)
				for range 3 {
					said, problem := pool.Exchange(t.Context(), "shop", settings, connection.Request{Method: http.MethodGet, URL: url + address})
					if problem != nil {
						t.Fatal(problem.Message)
					}
					if string(said) != version {
						t.Errorf("%s answered for %s", said, version)
					}
					time.Sleep(10 * time.Millisecond) // a connection that is kept is idle by now
				}
				leave()
			}
		})
	}
}
