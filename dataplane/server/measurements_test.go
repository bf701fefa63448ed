// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/go-logr/logr"
	clientmodel "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/pki"
)

var edge = types.NamespacedName{Namespace: "infra", Name: "edge"}

// heard is what a handler of measurements was given.
type heard struct {
	gateway  types.NamespacedName
	node     string
	messages chan []byte
	ended    chan error
}

// listen serves measurements on loopback, and gives a client with the certificate of a gateway.
func listen(t *testing.T, h *heard) (client metricsv3.MetricsServiceClient, stop func()) {
	t.Helper()
	conn, stop := dial(t, h)
	return metricsv3.NewMetricsServiceClient(conn), stop
}

func dial(t *testing.T, h *heard) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	authority, err := pki.NewAuthority(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.NewServer(authority, []string{"localhost"}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{
		Log: logr.Discard(), Identity: func() pki.Identity { return pki.Identity{Pair: own, CA: authority.Cert} },
		Measurements: func(gateway types.NamespacedName, node string, receive func() ([]byte, error)) error {
			h.gateway, h.node = gateway, node
			for {
				message, err := receive()
				if err != nil {
					h.ended <- err
					return err
				}
				h.messages <- message
			}
		},
		Loads: func(gateway types.NamespacedName, node string, receive func() (*loadstatsv3.LoadStatsRequest, error), ask func(*loadstatsv3.LoadStatsResponse) error) error {
			h.gateway, h.node = gateway, node
			if err := ask(&loadstatsv3.LoadStatsResponse{Clusters: []string{"shop/web/80"}}); err != nil {
				return err
			}
			report, err := receive()
			h.messages <- []byte(report.GetClusterStats()[0].GetClusterName())
			h.ended <- err
			return err
		},
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx, listener) }()
	stop = func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		stopped <- nil
	}
	t.Cleanup(stop)
	pair, err := pki.NewProxy(authority, edge, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Cert)
	conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: "localhost", RootCAs: roots, Certificates: []tls.Certificate{certificate},
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, stop
}

func newHeard() *heard { return &heard{messages: make(chan []byte, 16), ended: make(chan error, 16)} }

func identified(gateway, node string, families ...*clientmodel.MetricFamily) *metricsv3.StreamMetricsMessage {
	return &metricsv3.StreamMetricsMessage{
		Identifier:   &metricsv3.StreamMetricsMessage_Identifier{Node: &corev3.Node{Id: node, Cluster: gateway}},
		EnvoyMetrics: families,
	}
}

func TestMeasurementsComeAsTheyWereSent(t *testing.T) {
	h := newHeard()
	client, stop := listen(t, h)
	stream, err := client.StreamMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := []*metricsv3.StreamMetricsMessage{
		identified("infra/edge", "proxy-7", &clientmodel.MetricFamily{Name: proto.String("first")}),
		{EnvoyMetrics: []*clientmodel.MetricFamily{{Name: proto.String("second"), Metric: []*clientmodel.Metric{{TimestampMs: proto.Int64(9)}}}}},
		{},
	}
	for _, m := range sent {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		got := &metricsv3.StreamMetricsMessage{}
		if err := proto.Unmarshal(<-h.messages, got); err != nil || !proto.Equal(m, got) {
			t.Errorf("got %v (%v), want %v", got, err, m)
		}
	}
	if h.gateway != edge || h.node != "proxy-7" {
		t.Errorf("from %v %q", h.gateway, h.node)
	}
	stop()
	if err := <-h.ended; err == nil {
		t.Error("the stream did not end with the server")
	}
}

func TestMeasurementsOfAnotherGatewayAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first *metricsv3.StreamMetricsMessage
		want  string
	}{
		{"another Gateway", identified("infra/other", "proxy-7"), `asks for Gateway "infra/other" but its certificate names "infra/edge"`},
		{"no Gateway", &metricsv3.StreamMetricsMessage{}, `asks for Gateway ""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHeard()
			client, _ := listen(t, h)
			stream, err := client.StreamMetrics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(tt.first); err != nil {
				t.Fatal(err)
			}
			err = stream.RecvMsg(&metricsv3.StreamMetricsResponse{})
			if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if len(h.messages) > 0 {
				t.Error("the message was handed over")
			}
		})
	}
}

func TestAMessageWithoutEndIsRefused(t *testing.T) {
	h := newHeard()
	client, _ := listen(t, h)
	stream, err := client.StreamMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(identified("infra/edge", "proxy-7", &clientmodel.MetricFamily{Name: proto.String(strings.Repeat("x", maxRequest))}))
	if err := stream.RecvMsg(&metricsv3.StreamMetricsResponse{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestLoadsAreAskedForAndComeFromTheGatewayOfTheCertificate(t *testing.T) {
	h := newHeard()
	conn, _ := dial(t, h)
	client := loadstatsv3.NewLoadReportingServiceClient(conn)
	stream, err := client.StreamLoadStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: &corev3.Node{Id: "proxy-7", Cluster: "infra/edge"}}); err != nil {
		t.Fatal(err)
	}
	asked, err := stream.Recv()
	if err != nil || len(asked.GetClusters()) != 1 {
		t.Fatalf("asked for %v, %v", asked, err)
	}
	if err := stream.Send(&loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{{ClusterName: "shop/web/80"}}}); err != nil {
		t.Fatal(err)
	}
	if got := string(<-h.messages); got != "shop/web/80" || h.gateway != edge || h.node != "proxy-7" {
		t.Errorf("%q from %v %q", got, h.gateway, h.node)
	}
	foreign, err := client.StreamLoadStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Send(&loadstatsv3.LoadStatsRequest{Node: &corev3.Node{Id: "proxy-7", Cluster: "infra/other"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}
