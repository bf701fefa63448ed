// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
)

// Loads takes what one proxy of a gateway reports of single endpoints, from the moment it
// connects until receive gives an error, which it returns. A proxy reports what ask asked for last, by Envoy's
// load reporting service, and nothing before it was asked. The proxy's certificate names the
// gateway; node is the name that it gives itself.
type Loads func(gateway types.NamespacedName, node string,
	receive func() (*loadstatsv3.LoadStatsRequest, error), ask func(*loadstatsv3.LoadStatsResponse) error) error

func (s *Server) registerLoads(to grpc.ServiceRegistrar, stopping <-chan struct{}) {
	if s.options.Loads != nil {
		loadstatsv3.RegisterLoadReportingServiceServer(to, &loadService{server: s, stopping: stopping})
	}
}

// loadService is Envoy's load reporting service.
type loadService struct {
	loadstatsv3.UnimplementedLoadReportingServiceServer
	server *Server
	// stopping ends all streams.
	stopping <-chan struct{}
}

// StreamLoadStats serves one proxy until it or the server goes.
func (svc *loadService) StreamLoadStats(grpcStream loadstatsv3.LoadReportingService_StreamLoadStatsServer) error {
	first, err := grpcStream.Recv()
	if err != nil {
		return err
	}
	gateway, err := gatewayOf(grpcStream.Context(), first.GetNode())
	if err != nil {
		svc.server.options.Log.Error(err, "Refused a proxy's loads", "node", first.GetNode().GetId())
		return err
	}
	return unlessStopping(svc.stopping, func() error {
		return svc.server.options.Loads(gateway, first.GetNode().GetId(), grpcStream.Recv, grpcStream.Send)
	})
}

// unlessStopping gives what serve comes to, or ends the stream, and serve with it, when the server stops.
func unlessStopping(stopping <-chan struct{}, serve func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	select {
	case err := <-ended:
		return err
	case <-stopping:
		return status.Error(codes.Unavailable, "the control plane is stopping")
	}
}
