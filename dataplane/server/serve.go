// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"headgate.dev/headgate/dataplane/pki"
)

const (
	// maxRequest bounds a request in bytes. The largest is the first after a
	// reconnect, which lists every resource with its version.
	maxRequest = 16 << 20
	// maxStreams bounds the streams of one connection; a proxy needs one for its
	// configuration and one for each kind of measurement.
	maxStreams = 16
	// stopWait bounds how long streams may take to end.
	stopWait = 3 * time.Second
)

// Serve accepts proxies on the listener until ctx ends, then closes the streams
// and returns nil; the proxies keep serving what they have.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if s.options.Identity == nil {
		return errors.New("serving proxies: Options.Identity is needed, proxies are not served without TLS")
	}
	grpcServer := grpc.NewServer(
		grpc.Creds(expiring{TransportCredentials: credentials.NewTLS(tlsConfig(s.options.Identity)), log: s.options.Log}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 15 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, &service{server: s, stopping: ctx.Done()})
	s.registerMeasurements(grpcServer, ctx.Done())
	s.registerLoads(grpcServer, ctx.Done())
	done := make(chan error, 1)
	go func() { done <- grpcServer.Serve(lis) }()
	select {
	case err := <-done:
		return fmt.Errorf("serving proxies: %w", err)
	case <-ctx.Done():
	}
	force := time.AfterFunc(stopWait, grpcServer.Stop)
	defer force.Stop()
	grpcServer.GracefulStop()
	<-done
	return nil
}

// tlsConfig asks for the identity anew on each handshake.
func tlsConfig(identity func() pki.Identity) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return identity().ServerConfig()
		},
	}
}
