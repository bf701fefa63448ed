// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command app is the sample application of the tests and the demo: a server that
// says which version answered, and that fails, waits or crashes when told to. It
// speaks HTTP/1.1, HTTP/2 without TLS, and the gRPC health service, on one port.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func main() {
	if url := os.Getenv("SMOKE"); url != "" {
		if err := smoke(url); err != nil {
			log.Fatal(err)
		}
		return
	}
	o, err := parseOptions(os.Getenv)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends, then drains.
func run(ctx context.Context, o options) error {
	if o.CrashAfter > 0 {
		time.AfterFunc(o.CrashAfter, func() { log.Fatalf("crashing on purpose after %s", o.CrashAfter) })
	}
	if !wait(ctx, o.StartDelay) {
		return nil
	}
	a := newApp(o, rand.Float64, func(r *http.Request, d time.Duration) { wait(r.Context(), d) })
	time.AfterFunc(o.ReadyDelay, func() { a.ready.Store(true) })

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: withGRPC(a), Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", o.Port))
	if err != nil {
		return err
	}
	log.Printf("version %s serves on port %d", o.Version, o.Port)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	// Proxies go on sending for a moment after SIGTERM: the signal and the news
	// about the endpoint travel at the same time.
	a.draining.Store(true)
	log.Printf("going on for %s, then draining", o.DrainDelay)
	time.Sleep(o.DrainDelay)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("draining: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// wait reports whether the whole time passed.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// withGRPC serves the gRPC health service beside HTTP.
func withGRPC(a *app) http.Handler {
	g := grpc.NewServer(grpc.UnaryInterceptor(a.intercept))
	healthpb.RegisterHealthServer(g, health.NewServer())
	web := a.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(w, r)
			return
		}
		web.ServeHTTP(w, r)
	})
}

// intercept gives gRPC calls the same knobs and the same trace of the version.
func (a *app) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-version", a.options.Version, "x-pod", a.options.Pod)); err != nil {
		return nil, err
	}
	if !wait(ctx, a.options.Latency) {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	code := codes.OK
	defer func() { a.requests.WithLabelValues(a.options.Version, code.String()).Inc() }()
	if a.Chance() < a.options.ErrorRate {
		code = codes.Internal
		return nil, status.Error(code, "failing on purpose")
	}
	return next(ctx, request)
}
