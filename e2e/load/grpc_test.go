// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestDoSpeaksGRPC(t *testing.T) {
	var n atomic.Int64
	var asked atomic.Value
	intercept := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		asked.Store(strings.Join(md.Get(":authority"), "") + " " + strings.Join(md.Get("x-user"), ""))
		switch n.Add(1) % 5 {
		case 0:
			return nil, status.Error(codes.Unavailable, "no healthy upstream") // the gateway speaks
		case 1:
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-version", "v2"))
			return nil, status.Error(codes.Internal, "failing on purpose")
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-version", "v1"))
		return next(ctx, request)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(intercept))
	healthpb.RegisterHealthServer(s, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)

	report, err := Do(t.Context(), Options{
		URL: "http://" + l.Addr().String(), Host: "shop.example", Header: map[string][]string{"X-User": {"ann"}},
		Rate: 100, Duration: 500 * time.Millisecond, Protocol: GRPC,
	})
	if err != nil {
		t.Fatal(err)
	}
	v1, v2 := report.Versions["v1"], report.Versions["v2"]
	if report.Requests != 50 || v1.Requests != 30 || v1.Errors != 0 || v2.Requests != 10 || v2.Errors != 10 || report.Blameless[NoVersion] != 10 {
		t.Errorf("want 30 good answers of v1, 10 errors of v2 and 10 of the gateway\n%s", report)
	}
	if got := asked.Load(); got != "shop.example ann" {
		t.Errorf("authority and header = %q", got)
	}
}
