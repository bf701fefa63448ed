// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"io"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/apimachinery/pkg/types"
)

// Measurements takes what one proxy of a gateway measures, from the moment it connects until
// receive gives an error, which it returns. The proxy's certificate names the
// gateway; node is the name that it gives itself. Receive waits for the next
// StreamMetricsMessage of Envoy's metrics service and gives it undecoded, because most of it
// is of no interest; it is at most 16 MiB long, and not used again by the server.
type Measurements func(gateway types.NamespacedName, node string, receive func() ([]byte, error)) error

func (s *Server) registerMeasurements(to grpc.ServiceRegistrar, stopping <-chan struct{}) {
	if s.options.Measurements != nil {
		metricsv3.RegisterMetricsServiceServer(to, &measurementService{server: s, stopping: stopping})
	}
}

// measurementService is Envoy's metrics service.
type measurementService struct {
	metricsv3.UnimplementedMetricsServiceServer
	server *Server
	// stopping ends all streams.
	stopping <-chan struct{}
}

// StreamMetrics serves one proxy until it or the server goes. It never answers.
func (svc *measurementService) StreamMetrics(grpcStream metricsv3.MetricsService_StreamMetricsServer) error {
	first, err := receiveRaw(grpcStream)
	if err != nil {
		return err
	}
	node, err := identifierOf(first)
	if err != nil {
		return err
	}
	gateway, err := gatewayOf(grpcStream.Context(), node.GetNode())
	if err != nil {
		svc.server.options.Log.Error(err, "Refused a proxy's measurements", "node", node.GetNode().GetId())
		return err
	}
	err = unlessStopping(svc.stopping, func() error {
		return svc.server.options.Measurements(gateway, node.GetNode().GetId(), func() ([]byte, error) {
			if message := first; message != nil {
				first = nil
				return message, nil
			}
			return receiveRaw(grpcStream)
		})
	})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// receiveRaw gives the next message as it came. To a message type that has no fields all of
// it is unknown, and kept.
func receiveRaw(grpcStream grpc.ServerStream) ([]byte, error) {
	var raw emptypb.Empty
	if err := grpcStream.RecvMsg(&raw); err != nil {
		return nil, err
	}
	return raw.ProtoReflect().GetUnknown(), nil
}

// identifierOf is who sends; it stands in the first message of a stream.
func identifierOf(message []byte) (*metricsv3.StreamMetricsMessage_Identifier, error) {
	const identifier = 1
	out := &metricsv3.StreamMetricsMessage_Identifier{}
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, status.Error(codes.InvalidArgument, protowire.ParseError(n).Error())
		}
		size := protowire.ConsumeFieldValue(field, kind, message[n:])
		if size < 0 {
			return nil, status.Error(codes.InvalidArgument, protowire.ParseError(size).Error())
		}
		if field == identifier && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(value, out); err != nil {
				return nil, status.Error(codes.InvalidArgument, err.Error())
			}
		}
		message = message[n+size:]
	}
	return out, nil
}
