// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func TestGRPC(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	key := graphtest.Key("health")
	key.Protocol = graph.UpstreamH2C
	r.Server.PublishEndpoints(key, Endpoints(key, NewGRPCBackend(t, "health")))
	rule := &graph.Rule{
		Valid:    true,
		Matches:  []graph.Match{{Path: graph.StringMatch{Type: graph.MatchExact, Value: "/grpc.health.v1.Health/Check"}}},
		Backends: []*graph.Backend{{Cluster: key, Weight: 1, Valid: true}},
	}
	broken := &graph.Rule{
		Matches: []graph.Match{{Path: graph.StringMatch{Type: graph.MatchExact, Value: "/grpc.health.v1.Health/List"}}},
	}
	route := graphtest.Route("health", nil, rule, broken)
	route.Kind = graph.KindGRPCRoute
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)))

	conn, err := grpc.NewClient(Address(port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := healthpb.NewHealthClient(conn)
	answer, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("the matched method: %v, %v", answer, err)
	}
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that no rule matches: %v, want Unimplemented", err)
	}
	if _, err = client.List(t.Context(), &healthpb.HealthListRequest{}); status.Code(err) != codes.Unknown {
		t.Errorf("a method of a rule that is not valid: %v, want Unknown, gRPC's form of 500", err)
	}
	// A stream goes on through weight changes of another route.
	rule.Matches[0].Path.Value = "/grpc.health.v1.Health/Watch"
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)))
	if stream, err = client.Watch(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Errorf("a stream: %v", err)
	}
}

func TestWebSocketGoesOnThroughChanges(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	echo := NewBackendFunc(t, "echo", echoFunc)
	r.endpoints("stable", echo)
	r.endpoints("canary", echo)
	r.publish(release(port, true, 100, 0))
	say := webSocket(t, port, "example.com")
	for i := range int32(10) {
		r.publish(release(port, i%3 != 0, 100-i*10, i*10))
		want := fmt.Sprintf("message %d", i)
		if got, err := say(want); err != nil || got != want {
			t.Fatalf("got %q, %v after change %d", got, err, i)
		}
	}
}

// TestEnvoyTakesEveryGolden publishes the snapshot of every shared case to a real Envoy.
func TestEnvoyTakesEveryGolden(t *testing.T) {
	w := NewWorld(t)
	for _, c := range goldens.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			g := graph.Build(c.Resources)
			for _, gw := range g.Gateways {
				if !gw.Valid {
					continue
				}
				inner := *w
				inner.TB = t
				proxy := inner.StartProxy(gw.Key)
				snap := xds.Translate(g, gw.Key)
				for _, key := range snap.ClusterKeys {
					inner.Server.PublishEndpoints(key, Endpoints(key))
				}
				inner.AwaitAck(gw.Key, inner.Server.Publish(snap))
				page, err := proxy.Admin("/listeners")
				if err != nil {
					t.Fatal(err)
				}
				for name := range snap.Listeners {
					if !strings.Contains(page, name+"::") {
						t.Errorf("the proxy does not listen for %s:\n%s", name, page)
					}
				}
				proxy.Stop()
				inner.Server.Withdraw(gw.Key)
			}
		})
	}
}

func TestMetricsCarryTheClusterWhole(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("stable", NewBackend(t, "stable"))
	r.endpoints("canary", NewBackendFunc(t, "canary", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	r.publish(release(port, true, 50, 50))
	for range 40 {
		r.do(call{port: port, path: "/"})
	}
	for _, want := range []string{
		`envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/stable/80",backend_namespace="shop",backend_service="stable",backend_port="80"}`,
		`envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/canary/80",backend_namespace="shop",backend_service="canary",backend_port="80"}`,
		`envoy_cluster_upstream_rq_completed{gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/stable/80",backend_namespace="shop",backend_service="stable",backend_port="80"}`,
		`envoy_cluster_upstream_rq_time_bucket{gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/stable/80",backend_namespace="shop",backend_service="stable",backend_port="80",le="0.5"}`,
		`envoy_cluster_upstream_rq_time_bucket{gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/stable/80",backend_namespace="shop",backend_service="stable",backend_port="80",le="1024"}`,
		`envoy_cluster_membership_healthy{gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/stable/80",backend_namespace="shop",backend_service="stable",backend_port="80"}`,
		`envoy_http_downstream_rq_xx{envoy_response_code_class="2",gateway="edge",gateway_namespace="infra",envoy_http_conn_manager_prefix="http-` + fmt.Sprint(port) + `"}`,
		`envoy_control_plane_connected_state{gateway="edge",gateway_namespace="infra"}`,
		`envoy_server_live{gateway="edge",gateway_namespace="infra"}`,
	} {
		r.Eventually(want, func() error {
			page, err := r.proxy.Stats("/stats/prometheus")
			if err == nil && !strings.Contains(page, want) {
				err = errors.New("it is not among them")
			}
			return err
		})
	}
	if _, err := r.proxy.Stats("/config_dump"); err == nil {
		t.Error("the port for metrics serves the admin interface")
	}
	if answer, err := http.Post("http://"+Address(r.proxy.StatsPort)+"/stats/prometheus", "", nil); err != nil || answer.StatusCode != 404 {
		t.Errorf("a POST to the port for metrics: %v, %v", answer, err)
	}
}
