// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

type grpcSender struct {
	conn   *grpc.ClientConn
	header metadata.MD
}

func newGRPCSender(o Options) (sender, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	address := u.Host
	if u.Port() == "" {
		address += ":80"
	}
	settings := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), // each request is one attempt
		grpc.WithStatsHandler(attempts{}),
	}
	if o.Host != "" {
		settings = append(settings, grpc.WithAuthority(o.Host))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, settings...)
	if err != nil {
		return nil, err
	}
	header := metadata.MD{}
	for name, values := range o.Header {
		header.Append(name, values...)
	}
	return &grpcSender{conn: conn, header: header}, nil
}

func (s *grpcSender) close() { _ = s.conn.Close() }

func (s *grpcSender) send(ctx context.Context) Result {
	var header metadata.MD
	sent := &atomic.Int32{}
	ctx = context.WithValue(metadata.NewOutgoingContext(ctx, s.header), attemptsKey{}, sent)
	_, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	var version string
	if values := header.Get("x-version"); len(values) > 0 {
		version = values[0]
	}
	result := judgeGRPC(err, version)
	if n := sent.Load(); n > 1 && result.Failure == None {
		result.Failure, result.Detail = SentTwice, fmt.Sprintf("sent %d times", n)
	}
	return result
}

// attempts counts, for each call, how often its headers were sent: the library sends
// a call again that the server has not looked at, whatever it is told about retries.
type attempts struct{}

type attemptsKey struct{}

// TagRPC adds nothing.
func (attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn adds nothing.
func (attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn counts nothing.
func (attempts) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC counts the headers that are sent.
func (attempts) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, is := event.(*stats.OutHeader); !is {
		return
	}
	if sent, ok := ctx.Value(attemptsKey{}).(*atomic.Int32); ok {
		sent.Add(1)
	}
}

// judgeGRPC blames the version for codes that a server returns for its own fault,
// when a version answered at all.
func judgeGRPC(err error, version string) Result {
	code := status.Code(err)
	r := Result{Status: int(code), Version: version}
	if err == nil && version != "" {
		return r
	}
	if err != nil {
		r.Detail = err.Error()
	}
	switch {
	case version != "" && (code == codes.Unknown || code == codes.Internal || code == codes.Unavailable || code == codes.DataLoss || code == codes.Unimplemented || code == codes.DeadlineExceeded):
		r.Failure = OwnError
	case version != "":
		// The caller's fault, such as InvalidArgument: an answer like any other.
	case code == codes.DeadlineExceeded:
		r.Failure = Timeout
	default:
		r.Failure = NoVersion
	}
	return r
}
