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
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

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
	address  *net.TCPAddr
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
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.Requests.Add(1)
		handler(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	tb.Cleanup(server.Close)
	b.address = server.Listener.Addr().(*net.TCPAddr)
	return b
}

// NewGRPCBackend starts a backend that serves the gRPC health service.
func NewGRPCBackend(tb testing.TB, name string) *Backend {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	tb.Cleanup(server.Stop)
	return &Backend{Name: name, address: listener.Addr().(*net.TCPAddr)}
}

// Endpoints are the endpoints of an upstream that the backends stand for.
func Endpoints(key graph.ClusterKey, backends ...*Backend) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
	if len(backends) == 0 {
		return cla
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, b := range backends {
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       b.address.IP.String(),
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(b.address.Port)},
				}}},
			}},
		})
	}
	cla.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return cla
}
