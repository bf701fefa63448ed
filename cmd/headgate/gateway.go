// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/controllers/authority"
	"headgate.dev/headgate/controllers/gateway"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/server"
)

// addGateway adds the gateway half: the reconcilers and the control plane that
// proxies connect to. Both run on the leader only. What the proxies measure goes to counted.
func addGateway(ctx context.Context, mgr manager.Manager, o options, counted *envoystats.Store, log logr.Logger) (*server.Server, error) {
	direct, err := directClient(mgr)
	if err != nil {
		return nil, err
	}
	host := o.xdsService + "." + o.namespace + ".svc"
	keeper, err := authority.Open(ctx, authority.Options{
		Client: direct, Namespace: o.namespace, ServerNames: []string{host}, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		return nil, err
	}
	_, portName, err := net.SplitHostPort(o.xdsAddress)
	if err != nil {
		return nil, fmt.Errorf("reading --xds-bind-address: %w", err)
	}
	port, err := strconv.ParseUint(portName, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--xds-bind-address=%q has no port number", o.xdsAddress)
	}
	changes := gateway.NewChanges()
	xds := server.New(server.Options{
		Log: log.WithName("xds"), Identity: keeper.Identity, Notify: changes.Notify, Measurements: counted.Serve, Loads: counted.ServeLoads,
	})
	measured := measure.New(time.Now)
	for _, c := range []prometheus.Collector{server.NewCollector(xds), measured} {
		if err := metrics.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering the gateway's metrics: %w", err)
		}
	}
	if err := mgr.Add(&configurationServer{server: xds, address: o.xdsAddress}); err != nil {
		return nil, fmt.Errorf("adding the configuration server: %w", err)
	}
	return xds, gateway.Add(mgr, gateway.Options{
		Server: xds, Changes: changes, Authority: keeper.Authority,
		ControlPlaneHost: host, ControlPlanePort: uint32(port), ControlPlaneName: host,
		IPv6:       o.ipv6(),
		ProxyImage: o.proxyImage, HeadgateImage: o.headgateImage,
		SystemAuthorities: systemAuthorities(), Metrics: measured,
		ExternalNames: o.externalNames,
		Now:           time.Now, Rand: rand.Reader,
	})
}

// systemAuthorities is the bundle of well-known authorities that Headgate hands to
// proxies, so that it does not depend on the proxies' image. It stands where Debian's
// and the distroless images have it, or where SSL_CERT_FILE says. An image
// without one is no error: only a policy that asks for it is refused.
func systemAuthorities() []byte {
	path := os.Getenv("SSL_CERT_FILE")
	if path == "" {
		path = "/etc/ssl/certs/ca-certificates.crt"
	}
	bundle, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return graph.SystemAuthorities(bundle)
}

// configurationServer serves proxies while this process leads.
type configurationServer struct {
	server  *server.Server
	address string
}

var _ manager.LeaderElectionRunnable = (*configurationServer)(nil)

// NeedLeaderElection is true: the leader knows every acknowledgement.
func (*configurationServer) NeedLeaderElection() bool { return true }

// Start serves until ctx ends.
func (s *configurationServer) Start(ctx context.Context) error {
	var config net.ListenConfig
	lis, err := config.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening for proxies on %s: %w", s.address, err)
	}
	return s.server.Serve(ctx, lis)
}
