// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// Seen is what a backend saw of a request; it answers with it as JSON.
type Seen struct {
	Backend, Method, Host, Path, Query, Proto string
	Header                                    http.Header
}

// Backend is an HTTP server on loopback that stands for the pods of a Service.
type Backend struct {
	Name     string
	Requests atomic.Int64
	server   *httptest.Server
}

// NewBackend starts a backend that answers with what it Saw. It speaks HTTP/1.1 and
// HTTP/2 without TLS.
func NewBackend(tb testing.TB, name string) *Backend {
	return NewBackendFunc(tb, name, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Backend", name)
		_ = json.NewEncoder(w).Encode(Seen{
			Backend: name, Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
			Proto: r.Proto, Header: r.Header,
		})
	})
}

// NewBackendFunc starts a backend with a handler of its own.
func NewBackendFunc(tb testing.TB, name string, handler http.HandlerFunc) *Backend {
	b := &Backend{Name: name}
	b.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.Requests.Add(1)
		handler(w, r)
	}))
	b.server.Config.Protocols = new(http.Protocols)
	b.server.Config.Protocols.SetHTTP1(true)
	b.server.Config.Protocols.SetUnencryptedHTTP2(true)
	b.server.Start()
	tb.Cleanup(b.server.Close)
	return b
}

// Endpoints are the endpoints of an upstream that the backends stand for.
func Endpoints(key graph.ClusterKey, backends ...*Backend) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
	if len(backends) == 0 {
		return cla
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, b := range backends {
		at := b.server.Listener.Addr().(*net.TCPAddr)
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       at.IP.String(),
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port)},
				}}},
			}},
		})
	}
	cla.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return cla
}
