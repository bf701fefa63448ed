// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// sight is what a probe saw: the status and headers of an answer, or the serial
// number of a certificate, or an error.
type sight struct {
	status int
	header http.Header
	serial string
	err    error
}

func (s sight) String() string {
	return fmt.Sprintf("status %d, headers %v, certificate %q, error %v", s.status, s.header, s.serial, s.err)
}

// seen says where to look for a change and what to find there.
type seen struct {
	look func(context.Context) sight
	fits func(sight) bool
}

// probe looks at the Gateway as a client that counts for nothing.
type probe struct {
	address   string
	roots     *x509.CertPool
	transport *http.Transport
	calls     *grpc.ClientConn
}

func newProbe(address string, roots *x509.CertPool) *probe {
	// The address is a valid target, so that this cannot fail.
	calls, err := grpc.NewClient("passthrough:///"+address+":80", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(callHost))
	if err != nil {
		panic("making a gRPC client: " + err.Error())
	}
	return &probe{address: address, roots: roots, transport: &http.Transport{MaxIdleConnsPerHost: 1}, calls: calls}
}

// web asks for a path of a host on a port, without TLS, on a kept connection.
func (p *probe) web(port int, host, path string) func(context.Context) sight {
	return func(ctx context.Context) sight {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(p.address, strconv.Itoa(port))+path, nil)
		if err != nil {
			return sight{err: err}
		}
		request.Host = host
		answer, err := p.transport.RoundTrip(request)
		if err != nil {
			return sight{err: err}
		}
		_ = answer.Body.Close()
		return sight{status: answer.StatusCode, header: answer.Header}
	}
}

// once asks for a host on a port on a connection of its own: kept ones outlive a
// listener that is removed for the time of its drain.
func (p *probe) once(port int, host string) func(context.Context) sight {
	return func(ctx context.Context) sight {
		fresh := &probe{address: p.address, transport: &http.Transport{DisableKeepAlives: true}}
		return fresh.web(port, host, "/")(ctx)
	}
}

// call makes a gRPC call; its headers come as those of HTTP.
func (p *probe) call(ctx context.Context) sight {
	var header metadata.MD
	_, err := healthpb.NewHealthClient(p.calls).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	if err != nil {
		return sight{err: err}
	}
	h := http.Header{}
	for name, values := range header {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	return sight{status: http.StatusOK, header: h}
}

// tls shakes hands on a new connection and looks at the certificate.
func (p *probe) tls(serverName string) func(context.Context) sight {
	return func(ctx context.Context) sight {
		dialer := tls.Dialer{Config: &tls.Config{ServerName: serverName, RootCAs: p.roots}}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(p.address, "443"))
		if err != nil {
			return sight{err: err}
		}
		defer func() { _ = conn.Close() }()
		return sight{serial: conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()}
	}
}

// The bounds of a look, and of the wait for a change: Headgate may be away.
const (
	lookEvery = 4 * time.Millisecond
	lookLimit = 2 * time.Second
	seenLimit = 45 * time.Second
)

// await looks until the change is seen. Between two looks is lookEvery, which is how
// exactly the times are known.
func (w *world) await(ctx context.Context, s seen) error {
	ctx, cancel := context.WithTimeout(ctx, seenLimit)
	defer cancel()
	last := sight{err: errors.New("nothing")}
	for {
		look, done := context.WithTimeout(ctx, lookLimit)
		now := s.look(look)
		done()
		if s.fits(now) {
			return nil
		}
		if ctx.Err() == nil { // else it is the end that was seen
			last = now
		}
		if !sleep(ctx, lookEvery) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("waited %s; last seen: %s", seenLimit, last)
			}
			return ctx.Err()
		}
	}
}

func hasHeader(name, value string) func(sight) bool {
	return func(s sight) bool { return s.err == nil && s.header.Get(name) == value }
}

func hasSerial(serial int) func(sight) bool {
	return func(s sight) bool { return s.serial == strconv.Itoa(serial) }
}
