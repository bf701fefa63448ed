// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server is the control plane's end of the proxies' configuration
// streams: delta ADS over gRPC with mutual TLS. It takes Snapshots and
// endpoints, brings them to each proxy in an order in which every reference holds
// (make before break), and keeps account of what each proxy acknowledged.
package server

import (
	"context"
	"net"
	"sync"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/xds"
)

// Options configure a Server.
type Options struct {
	Log logr.Logger
	// Identity gives the server's key pair and the authority that signs the
	// proxies' certificates. It is asked on every handshake, so rotation needs no restart.
	Identity func() pki.Identity
	// Notify is called, never concurrently for one gateway, after State of that gateway
	// changed. It must not block. Nil means nobody asks.
	Notify func(gateway types.NamespacedName)
}

// Nack is the last refusal of a proxy that is still in force.
type Nack struct {
	// TypeURL is the kind of resource, Resource its name where the response carried
	// one (several are joined by commas), Message is Envoy's sentence.
	TypeURL, Resource, Message string
}

// State is how far the proxies of a gateway are.
type State struct {
	// Connected counts the proxies with a stream.
	Connected int
	// Published is the version of the last Publish, 0 before the first.
	Published uint64
	// Acked is the newest version that every connected proxy has acknowledged
	// completely; 0 when none is connected.
	Acked uint64
	// Nack is nil when nothing is refused.
	Nack *Nack
}

// Server serves the configuration of any number of gateways.
type Server struct {
	options Options
	mu      sync.Mutex
}

// New makes a Server with nothing published.
func New(options Options) *Server { return &Server{options: options} }

// Publish makes snap the configuration of its gateway and returns its version,
// which counts up from 1. Publishing what is already there keeps the version.
func (s *Server) Publish(snap xds.Snapshot) (version uint64) { return 0 }

// Withdraw forgets a gateway; its proxies keep what they have.
func (s *Server) Withdraw(gateway types.NamespacedName) {}

// PublishEndpoints sets the endpoints of an upstream for all gateways, at once.
func (s *Server) PublishEndpoints(key graph.ClusterKey, cla *endpointv3.ClusterLoadAssignment) {}

// RemoveEndpoints forgets an upstream; a cluster that still asks for it gets no endpoints.
func (s *Server) RemoveEndpoints(key graph.ClusterKey) {}

// State tells how far the proxies of a gateway are.
func (s *Server) State(gateway types.NamespacedName) State { return State{} }

// Serve accepts proxies on the listener until ctx ends, then closes the streams
// and returns nil; the proxies keep serving what they have.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	<-ctx.Done()
	return lis.Close()
}
