// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// reporting is a rig whose proxy reports to a store, as in Headgate.
type reporting struct {
	*rig
	store *envoystats.Store
}

func newReporting(tb testing.TB) *reporting {
	w := NewWorld(tb)
	store := envoystats.New(time.Now)
	w.StopServer()
	w.Measurements, w.Loads = store.Serve, store.ServeLoads
	w.StartServer()
	return &reporting{rig: &rig{World: w, proxy: w.StartProxy(graphtest.GatewayKey)}, store: store}
}

// flushing lets a proxy flush as in a release, which the graph must have; in a test it has an admin port
// of its own.
func flushing(snap xds.Snapshot, p *Proxy) xds.Snapshot {
	c := proto.CloneOf(snap.Clusters[bootstrap.Flush].(*clusterv3.Cluster))
	address := c.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress()
	address.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: p.AdminPort}
	snap.Clusters[bootstrap.Flush] = c
	return snap
}

func (m *reporting) publish(g *graph.Graph, change func(xds.Snapshot)) {
	m.TB.Helper()
	snap := flushing(xds.Translate(g, graphtest.GatewayKey), m.proxy)
	change(snap)
	m.AwaitAck(graphtest.GatewayKey, m.Server.Publish(snap))
}

// open counts two versions in namespace shop.
func (m *reporting) open(stable, canary string) *envoystats.Tap {
	return m.store.Open(envoystats.Versions{
		Gateways: []types.NamespacedName{graphtest.GatewayKey},
		Stable:   []string{"shop/" + stable + "/80"}, Canary: []string{"shop/" + canary + "/80"},
	})
}

// sum takes until the canary has so many requests, and one flush longer, in which nothing may come.
func (m *reporting) sum(tap *envoystats.Tap, requests float64) envoystats.Arm {
	m.TB.Helper()
	var sum envoystats.Arm
	var newest time.Time
	take := func() envoystats.Reading {
		r := tap.Take(time.Time{})
		if r.Dropped > 0 {
			m.TB.Errorf("%d flushes were refused: %s", r.Dropped, r.Why)
		}
		sum.Requests.N += r.Canary.Requests.N
		sum.Requests.X += r.Canary.Requests.X
		sum.Classes = added(sum.Classes, r.Canary.Classes)
		if n := len(r.Canary.Latency); n > 0 {
			sum.Latency = []sequential.Bucket{{Le: math.Inf(1), Count: r.Canary.Latency[n-1].Count + timed(sum)}}
		}
		newest = r.Newest
		return r
	}
	m.Eventually(fmt.Sprintf("%v requests are counted", requests), func() error {
		if take(); sum.Requests.N < requests {
			return fmt.Errorf("%+v", sum)
		}
		return nil
	})
	after := newest
	m.Eventually("one more flush", func() error {
		if take(); !newest.After(after) {
			return fmt.Errorf("none since %s", after)
		}
		return nil
	})
	return sum
}

// timed counts the requests that have a time.
func timed(a envoystats.Arm) float64 {
	if len(a.Latency) == 0 {
		return 0
	}
	return a.Latency[len(a.Latency)-1].Count
}

func added(a, b envoystats.Classes) envoystats.Classes {
	a.Upgraded += b.Upgraded
	a.Success += b.Success
	a.Redirection += b.Redirection
	a.ClientError += b.ClientError
	a.ServerError += b.ServerError
	a.GRPC += b.GRPC
	a.GRPCFault += b.GRPCFault
	a.Timeouts += b.Timeouts
	a.Resets += b.Resets
	a.ConnectFailures += b.ConnectFailures
	a.NoEndpoint += b.NoEndpoint
	a.Overflows += b.Overflows
	a.Retries += b.Retries
	return a
}

// TestEachRequestOfAClientIsCountedOnce makes four requests of each kind and compares what
// comes of them with what the client saw.
func TestEachRequestOfAClientIsCountedOnce(t *testing.T) {
	const limit = 200 * time.Millisecond
	type counted struct {
		requests, bad float64
		times         float64
		classes       envoystats.Classes
	}
	type row struct {
		name, path string
		status     int
		code       codes.Code
		grpc, away bool
		want       counted
	}
	ok := counted{4, 0, 4, envoystats.Classes{Success: 4}}
	failed := func(times float64, signs envoystats.Classes) counted {
		signs.ServerError = 4
		return counted{4, 4, times, signs}
	}
	rows := []row{
		{name: "200 by the app", path: "/plain-200", status: 200, want: ok},
		{name: "404 by the app", path: "/plain-404", status: 404, want: counted{4, 0, 4, envoystats.Classes{ClientError: 4}}},
		{name: "503 by the app", path: "/plain-503", status: 503, want: failed(4, envoystats.Classes{})},
		{name: "no endpoints", path: "/plain-200", status: 503, want: failed(0, envoystats.Classes{NoEndpoint: 4})},
		{name: "nobody listens", path: "/plain-200", status: 503, want: failed(0, envoystats.Classes{ConnectFailures: 12, Retries: 8})},
		{name: "reset", path: "/reset-x", status: 503, want: failed(0, envoystats.Classes{})},
		{name: "request timeout", path: "/hangs-x", status: 504, want: failed(0, envoystats.Classes{Timeouts: 4})},
		{name: "timeout of a try", path: "/hangs-x", status: 504, want: failed(0, envoystats.Classes{Timeouts: 4})},
		{name: "retry that succeeds", path: "/flaky-x", status: 200, want: counted{4, 0, 4, envoystats.Classes{Success: 4, Retries: 4}}},
		{name: "retry that fails", path: "/plain-503", status: 503, want: failed(4, envoystats.Classes{Retries: 4})},
		{name: "circuit breaker", path: "/plain-200", status: 503, want: failed(0, envoystats.Classes{Overflows: 4})},
		{name: "client went away", path: "/hangs-x", away: true},
		{name: "request that is mirrored", path: "/plain-200", status: 200, want: ok},
		{name: "upgrade", path: "/chat", status: 101, want: counted{4, 0, 0, envoystats.Classes{Upgraded: 4}}},
		{name: "early hints", path: "/early-x", status: 200, want: ok},
		{name: "gRPC ok", path: "trailers-0", grpc: true, want: counted{4, 0, 4, envoystats.Classes{GRPC: 4}}},
		{name: "gRPC, the client's fault", path: "trailers-5", grpc: true, code: codes.NotFound, want: counted{4, 0, 4, envoystats.Classes{GRPC: 4}}},
		{name: "gRPC failing", path: "trailers-13", grpc: true, code: codes.Internal, want: counted{4, 4, 4, envoystats.Classes{GRPCFault: 4}}},
		{name: "gRPC without endpoints", path: "trailers-0", grpc: true, code: codes.Unavailable, want: counted{4, 4, 0, envoystats.Classes{GRPCFault: 4, NoEndpoint: 4}}},
		{name: "gRPC that breaks off", path: "breaks-x", grpc: true, code: codes.Internal, want: counted{classes: envoystats.Classes{Resets: 4}}},
	}
	m := newReporting(t)
	backend, tries := newCodesBackend(t), 0
	flaky := NewBackendFunc(t, "flaky", func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	early := NewBackendFunc(t, "early", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})
	sockets := NewBackendFunc(t, "sockets", echoFunc)
	nowhere := *backend.address
	nowhere.Port = int(FreePort(t))
	var listeners []*graph.Listener
	ports := make([]uint32, len(rows))
	breaker := ""
	for i, row := range rows {
		service := fmt.Sprintf("case%d", i)
		key := graphtest.Key(service)
		if row.grpc {
			key.Protocol = graph.UpstreamH2C
		}
		endpoints := []*Backend{backend}
		rule := graphtest.Rule("/", &graph.Backend{Cluster: key, Weight: 1, Valid: true})
		bound := graph.Duration(limit)
		switch row.name {
		case "no endpoints", "gRPC without endpoints":
			endpoints = nil
		case "nobody listens":
			endpoints = []*Backend{{address: &nowhere}}
		case "request timeout":
			rule.RequestTimeout = &bound
		case "timeout of a try":
			rule.BackendTimeout = &bound
		case "retry that succeeds":
			endpoints, rule.Retry = []*Backend{flaky}, &graph.Retry{Attempts: 1, Codes: []uint32{503}}
		case "retry that fails":
			rule.Retry = &graph.Retry{Attempts: 1, Codes: []uint32{503}}
		case "circuit breaker":
			breaker = key.Name()
		case "request that is mirrored":
			rule.Mirrors = []*graph.Mirror{{Backend: graphtest.Backend("mirror", 1), PerMillion: 1_000_000}}
		case "upgrade":
			endpoints = []*Backend{sockets}
		case "early hints":
			endpoints = []*Backend{early}
		}
		m.Server.PublishEndpoints(key, Endpoints(key, endpoints...))
		route := graphtest.Route(service, nil, rule)
		route.Running = true
		if row.grpc {
			route.Kind = graph.KindGRPCRoute
		}
		ports[i] = FreePort(t)
		listeners = append(listeners, graphtest.HTTP(service, ports[i], "", route))
	}
	m.endpoints("mirror", backend)
	m.publish(graphtest.Graph(listeners...), func(snap xds.Snapshot) {
		c := proto.CloneOf(snap.Clusters[breaker].(*clusterv3.Cluster))
		c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxPendingRequests: wrapperspb.UInt32(0)}}}
		snap.Clusters[breaker] = c
	})
	mirror := m.open("none", "mirror")
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			tap := m.open("none", fmt.Sprintf("case%d", i))
			defer tap.Close()
			for range 4 {
				switch {
				case row.grpc:
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					if code := invoke(ctx, grpcConn(t, ports[i]), row.path); code != row.code {
						t.Errorf("the client got %s, want %s", code, row.code)
					}
					cancel()
				case row.status == http.StatusSwitchingProtocols:
					echo := webSocket(t, uint32(graph.ProxyPort(int32(ports[i]))), "example.com")
					if text, err := echo("hello"); err != nil || text != "hello" {
						t.Errorf("the client got %q, %v", text, err)
					}
				case row.away:
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+Address(uint32(graph.ProxyPort(int32(ports[i]))))+row.path, nil)
					if answer, err := http.DefaultClient.Do(request); err == nil {
						t.Errorf("the client got %s", answer.Status)
						_ = answer.Body.Close()
					}
					cancel()
				default:
					if a := m.do(call{port: ports[i], path: row.path}); a.status != row.status {
						t.Errorf("the client got %d, want %d", a.status, row.status)
					}
				}
			}
			sum := m.sum(tap, row.want.requests)
			got := counted{sum.Requests.N, sum.Requests.X, timed(sum), sum.Classes}
			if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(counted{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("target of a mirror", func(t *testing.T) {
		if sum := m.sum(mirror, 0); sum.Requests.N != 0 || timed(sum) != 0 {
			t.Errorf("%+v", sum)
		}
	})
}
