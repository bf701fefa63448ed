// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
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

var clusterSeries = regexp.MustCompile(`^envoy_cluster_(grpc_\w+|upstream_rq_xx|upstream_rq_completed|upstream_rq_total)\{(?:envoy_response_code_class="(.)",)?gateway="edge",gateway_namespace="infra",envoy_cluster_name="shop/(\w+)/80/h2c",backend_namespace="shop",backend_service="\w+",backend_port="80"\} (\d+)$`)

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
		{name: "a second try elsewhere", method: "trailers-13", code: codes.Internal, want: map[string]int{"completed": 4, "total": 4, "grpc_total": 4, "grpc_13": 4}},
		{name: "nobody listens", method: "trailers-0", code: codes.Unavailable, want: map[string]int{"completed": 4, "grpc_total": 4, "grpc_14": 4}},
	}
	r := newRig(t)
	backend := newCodesBackend(t)
	nowhere := *backend.address
	nowhere.Port = int(FreePort(t))
	gone := &Backend{address: &nowhere}
	var listeners []*graph.Listener
	ports := make([]uint32, len(tests))
	for i, tt := range tests {
		key := graphtest.Key(fmt.Sprintf("case%d", i))
		key.Protocol = graph.UpstreamH2C
		switch tt.name {
		case "no endpoints":
			r.Server.PublishEndpoints(key, Endpoints(key))
		case "nobody listens":
			r.Server.PublishEndpoints(key, Endpoints(key, gone))
		case "a second try elsewhere":
			r.Server.PublishEndpoints(key, Endpoints(key, gone, backend))
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

// startPrometheusOf scrapes the proxy each second, and what further scrape_configs say; it gives the address.
func (r *rig) startPrometheusOf(further string) string {
	r.TB.Helper()
	binary := os.Getenv("PROMETHEUS")
	if binary == "" {
		r.TB.Skip("PROMETHEUS does not name a Prometheus program")
	}
	dir, address := r.TB.TempDir(), Address(FreePort(r.TB))
	config := filepath.Join(dir, "prometheus.yaml")
	r.write(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: proxies
  metrics_path: /stats/prometheus
  static_configs: [{targets: ["%s"]}]
%s`, Address(r.proxy.StatsPort), further))
	command := exec.Command(binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		r.TB.Fatal(err)
	}
	r.TB.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return "http://" + address
}

// counted is what a client knows of its requests to one version.
type counted struct{ Requests, Bad float64 }

// mix sends gRPC calls and HTTP requests to a version in an order that chance gives,
// and counts what the client gets.
func mix(t *testing.T, random *rand.Rand, port uint32, conn *grpc.ClientConn, version string, kinds map[string]int) counted {
	t.Helper()
	var order []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		order = append(order, slices.Repeat([]string{kind}, kinds[kind])...)
	}
	random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var got counted
	for _, kind := range order {
		got.Requests++
		if strings.HasPrefix(kind, "plain-") {
			a, err := send(call{port: port, path: "/" + version + "/" + kind})
			if err != nil {
				t.Fatal(err)
			}
			if a.status >= 500 {
				got.Bad++
			}
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		switch code := status.Code(conn.Invoke(ctx, "/"+version+"/"+kind, &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})); code {
		case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
			got.Bad++
		}
		cancel()
	}
	return got
}

// TestTheErrorRateIsTheClientsOwn compares what the proxy reports of two versions that
// answer HTTP and gRPC in the same clusters with what the client saw.
func TestTheErrorRateIsTheClientsOwn(t *testing.T) {
	r := newReporting(t)
	port, backend := FreePort(t), newCodesBackend(t)
	key := func(service string) graph.ClusterKey {
		key := graphtest.Key(service)
		key.Protocol = graph.UpstreamH2C
		return key
	}
	var rules []*graph.Rule
	for _, service := range []string{"stable", "canary"} {
		r.Server.PublishEndpoints(key(service), Endpoints(key(service), backend))
		rules = append(rules, graphtest.Rule("/"+service, &graph.Backend{Cluster: key(service), Weight: 1, Valid: true}))
	}
	route := graphtest.Route("shop", nil, rules...)
	route.Running = true
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)), func(xds.Snapshot) {})
	tap := r.open("stable", "canary")
	random, conn := rand.New(rand.NewPCG(1, 2)), grpcConn(t, port)
	healthy := map[string]int{"trailers-0": 60, "trailers-5": 7, "plain-200": 50, "plain-404": 6, "plain-503": 2, "only-14": 1}
	stable := mix(t, random, port, conn, "stable", healthy)
	canary := mix(t, random, port, conn, "canary", map[string]int{
		"trailers-0": 40, "trailers-2": 2, "trailers-4": 3, "trailers-12": 4, "trailers-13": 5, "only-14": 6, "only-15": 1,
		"trailers-1": 2, "trailers-3": 2, "only-5": 3, "trailers-7": 2, "trailers-8": 2, "only-16": 2,
		"reset-x": 5, "http-503": 2, "plain-200": 30, "plain-404": 4, "plain-500": 3, "plain-503": 2,
	})
	// The proxy answers in the version's place, gRPC and HTTP.
	r.Server.PublishEndpoints(key("canary"), Endpoints(key("canary")))
	r.Eventually("the canary has no endpoints", func() error {
		page, err := r.proxy.Admin("/clusters")
		if err == nil && strings.Contains(page, "shop/canary/80/h2c::127.0.0.1") {
			err = errors.New("it has")
		}
		return err
	})
	alone := mix(t, random, port, conn, "canary", map[string]int{"trailers-0": 6, "plain-200": 5})
	if alone.Bad != 11 {
		t.Errorf("without endpoints %v of 11 requests failed", alone.Bad)
	}
	canary.Requests, canary.Bad = canary.Requests+alone.Requests, canary.Bad+alone.Bad

	want, got := [2]counted{stable, canary}, [2]counted{}
	r.Eventually("the counts are the client's", func() error {
		m := tap.Take(time.Time{})
		for i, arm := range []envoystats.Arm{m.Stable, m.Canary} {
			got[i].Requests += arm.Requests.N
			got[i].Bad += arm.Requests.X
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%s (-client +proxy):\n%s", m.Why, diff)
		}
		return nil
	})
	t.Logf("stable %+v, canary %+v", stable, canary)
}
