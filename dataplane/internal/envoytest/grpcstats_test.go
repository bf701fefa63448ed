// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// newCodesBackend answers gRPC as the last part of the path says: a code, in trailers
// behind a message or alone ("trailers-14", "only-14"), or a fault. What is not gRPC
// is answered with that HTTP status.
func newCodesBackend(t *testing.T) *Backend {
	return NewBackendFunc(t, "codes", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		form, value, _ := strings.Cut(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], "-")
		message := func() {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = w.Write(make([]byte, 5)) // an empty message
			_ = http.NewResponseController(w).Flush()
		}
		switch form {
		case "trailers":
			message()
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", value)
		case "only":
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", value)
		case "http": // with a code that says the same, as some servers send it
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "14")
			status, _ := strconv.Atoi(value)
			w.WriteHeader(status)
		case "plain":
			status, _ := strconv.Atoi(value)
			w.WriteHeader(status)
		case "reset":
			panic(http.ErrAbortHandler)
		case "breaks":
			message()
			panic(http.ErrAbortHandler)
		case "stays":
			message()
			<-r.Context().Done()
		case "hangs":
			<-r.Context().Done()
		}
	})
}

// invoke makes a call and gives the code that the client gets.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string) codes.Code {
	return status.Code(conn.Invoke(ctx, "/test.Service/"+method, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}))
}

func grpcConn(t *testing.T, port uint32) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(Address(port), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

var clusterSeries = regexp.MustCompile(`^envoy_cluster_(grpc_\w+|upstream_rq_xx|upstream_rq_completed|upstream_rq_total)\{(?:envoy_response_code_class="(.)",)?envoy_cluster_name="shop/(\w+)/80/h2c"\} (\d+)$`)

// seriesOf are the counters of answers of one cluster that are not zero.
func (r *rig) seriesOf(service string) (map[string]int, error) {
	page, err := r.proxy.Stats("/stats/prometheus")
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for line := range strings.Lines(page) {
		m := clusterSeries.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[3] != service || m[4] == "0" {
			continue
		}
		name := strings.TrimPrefix(m[1], "upstream_rq_")
		if m[2] != "" {
			name = m[2] + name
		}
		out[name], _ = strconv.Atoi(m[4])
	}
	return out, nil
}

// TestWhatAGRPCAnswerCounts makes each call four times and reads which series moved.
func TestWhatAGRPCAnswerCounts(t *testing.T) {
	const limit = 200 * time.Millisecond
	tests := []struct {
		name, method string
		code         codes.Code
		cancel       bool
		want         map[string]int
	}{
		{name: "ok", method: "trailers-0", want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4}},
		{name: "failing trailers", method: "trailers-13", code: codes.Internal, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_13": 4}},
		{name: "trailers only", method: "only-14", code: codes.Unavailable, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_14": 4}},
		{name: "the client's fault", method: "trailers-5", code: codes.NotFound, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4}},
		{name: "HTTP 503 without a code", method: "plain-503", code: codes.Unavailable, want: map[string]int{"completed": 4, "total": 4}},
		{name: "HTTP 503 with a code", method: "http-503", code: codes.Unavailable, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_14": 4}},
		{name: "HTTP 404 without a code", method: "plain-404", code: codes.Unimplemented, want: map[string]int{"completed": 4, "total": 4}},
		{name: "reset before an answer", method: "reset-x", code: codes.Unavailable, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_14": 4}},
		{name: "reset within an answer", method: "breaks-x", code: codes.Internal, want: map[string]int{"completed": 4, "total": 4}},
		{name: "the route's timeout", method: "hangs-x", code: codes.Unavailable, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_14": 4}},
		{name: "the client goes away", method: "hangs-x", code: codes.Canceled, cancel: true, want: map[string]int{"total": 4}},
		{name: "the client goes away within an answer", method: "stays-x", code: codes.Canceled, cancel: true, want: map[string]int{"completed": 4, "total": 4}},
		{name: "no endpoints", method: "trailers-0", code: codes.Unavailable, want: map[string]int{"completed": 4, "grpc_total": 4, "grpc_14": 4}},
		{name: "nobody listens", method: "trailers-0", code: codes.Unavailable, want: map[string]int{"completed": 4, "grpc_total": 4, "grpc_14": 4}},
	}
	r := newRig(t)
	backend := newCodesBackend(t)
	var listeners []*graph.Listener
	ports := make([]uint32, len(tests))
	for i, tt := range tests {
		key := graphtest.Key(fmt.Sprintf("case%d", i))
		key.Protocol = graph.UpstreamH2C
		switch tt.name {
		case "no endpoints":
			r.Server.PublishEndpoints(key, Endpoints(key))
		case "nobody listens":
			gone := *backend.address
			gone.Port = int(FreePort(t))
			r.Server.PublishEndpoints(key, Endpoints(key, &Backend{address: &gone}))
		default:
			r.Server.PublishEndpoints(key, Endpoints(key, backend))
		}
		rule := graphtest.Rule("/", &graph.Backend{Cluster: key, Weight: 1, Valid: true})
		if tt.name == "the route's timeout" {
			bound := limit
			rule.RequestTimeout = &bound
		}
		route := graphtest.Route(fmt.Sprintf("case%d", i), nil, rule)
		route.Kind = graph.KindGRPCRoute
		ports[i] = FreePort(t)
		listeners = append(listeners, graphtest.HTTP(fmt.Sprintf("case%d", i), ports[i], "", route))
	}
	r.publish(graphtest.Graph(listeners...))
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := grpcConn(t, ports[i])
			for range 4 {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if tt.cancel {
					time.AfterFunc(limit, cancel)
				}
				if code := invoke(ctx, conn, tt.method); code != tt.code {
					t.Errorf("the client got %s, want %s", code, tt.code)
				}
				cancel()
			}
			r.Eventually("the counters", func() error {
				got, err := r.seriesOf(fmt.Sprintf("case%d", i))
				if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
					err = fmt.Errorf("(-want +got):\n%s", diff)
				}
				return err
			})
		})
	}
}
