// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/prometheus"
	"headgate.dev/headgate/api/v1beta1"
)

// program starts a program and stops it with the test.
func program(t *testing.T, name string, args ...string) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), out.String())
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// realPrometheus scrapes the targets each second and gives its address.
func realPrometheus(t *testing.T, path string, targets ...string) string {
	t.Helper()
	binary := os.Getenv("PROMETHEUS")
	if binary == "" {
		t.Skip("PROMETHEUS does not name a Prometheus program")
	}
	dir, address := t.TempDir(), freeAddress(t)
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: proxies
  metrics_path: %s
  static_configs: [{targets: [%s]}]
`, path, strings.Join(targets, ", "))
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	url := "http://" + address
	eventually(t, "Prometheus has scraped", func() bool {
		q := userQuery(`sum(up{job="proxies"})`)
		m := askReal(t, url, q)
		return m.Problem == nil && m.Canary.Value == float64(len(targets))
	})
	return url
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func userQuery(query string) analysis.Query {
	subject := shop
	subject.Since = time.Now().Add(-time.Minute)
	return analysis.Query{
		Kind: analysis.KindScalar, Subject: subject, From: time.Now().Add(-10 * time.Second), To: time.Now(),
		Metric: v1beta1.Metric{Name: "m", Prometheus: &v1beta1.PrometheusSource{Query: query}, Threshold: &v1beta1.Threshold{}},
	}
}

func askReal(t *testing.T, address string, q analysis.Query) analysis.Measurement {
	t.Helper()
	s, err := prometheus.New(prometheus.Options{Address: address, Connections: local(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Ask(t.Context(), q)
}

func TestQueriesAgainstARealPrometheus(t *testing.T) {
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "orders{pod=\"checkout-1\"} 10\norders{pod=\"checkout-canary-1\"} 7\norders{pod=\"checkout-canary-2\"} 5\n")
	}))
	defer exporter.Close()
	address := realPrometheus(t, "/metrics", strings.TrimPrefix(exporter.URL, "http://"))

	compared := userQuery(`sum(orders{pod=~"{{.Pods}}"})`)
	compared.Metric.Threshold, compared.Metric.Tolerance = nil, &v1beta1.Tolerance{Relative: "10%"}
	m := askReal(t, address, compared)
	if m.Problem != nil || m.Canary.Value != 12 || m.Stable.Value != 10 {
		t.Errorf("both versions: %+v, %+v", m, m.Problem)
	}
	tests := []struct {
		name, query, reason, message string
	}{
		{"a scalar is a number", `1 + 1`, "", ""},
		{"one series", `count(orders)`, "", ""},
		{"several series", `orders`, v1beta1.ReasonSeveralSeries, "gave 3 numbers"},
		{"no series", `orders{pod="none"}`, v1beta1.ReasonNoSeries, "matched no series"},
		{"a division by zero", `vector(0) / vector(0)`, v1beta1.ReasonNotANumber, "gave NaN"},
		{"a range", `orders[1m]`, v1beta1.ReasonUnusableAnswer, "a range of samples"},
		{"a text", `"ten"`, v1beta1.ReasonUnusableAnswer, "a text"},
		{"bad PromQL", `sum(orders`, v1beta1.ReasonQueryRejected, "does not understand the query"},
		{"labels that do not match", `orders * on() orders`, v1beta1.ReasonQueryRejected, "cannot evaluate the query"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := askReal(t, address, userQuery(tt.query))
			if tt.reason == "" {
				if m.Problem != nil || !m.Canary.Present {
					t.Errorf("%+v", m.Problem)
				}
				return
			}
			check(t, m, tt.reason, tt.message)
		})
	}
	t.Run("an address one level too deep", func(t *testing.T) {
		check(t, askReal(t, address+"/api/v1", userQuery("1")), v1beta1.ReasonSourceNotFound, "the address ends before /api/v1")
	})
}

const envoyConfig = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %[1]s}}}
stats_flush_interval: 0.5s
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /stable}, route: {cluster: shop/checkout/8080}}
              - {match: {prefix: /mirrored}, route: {cluster: shop/checkout/8080, request_mirror_policies: [{cluster: shop/checkout-canary/8080}]}}
              - {match: {prefix: /flaky}, route: {cluster: shop/checkout-canary/8080, retry_policy: {retry_on: 5xx, num_retries: 2}}}
              - {match: {prefix: /canary}, route: {cluster: shop/checkout-canary/8080}}
          http_filters:
          - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: shop/checkout/8080
    load_assignment: &pods {cluster_name: pods, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[3]s}}}}]}]}
  - {name: shop/checkout-canary/8080, load_assignment: *pods}
`

// realEnvoy serves two versions, both by the handler, and gives the addresses of
// its listener and of its admin endpoint.
func realEnvoy(t *testing.T, app http.Handler) (listener, admin string) {
	t.Helper()
	binary := os.Getenv("ENVOY")
	if binary == "" {
		t.Skip("ENVOY does not name an Envoy program")
	}
	upstream := httptest.NewServer(app)
	t.Cleanup(upstream.Close)
	listener, admin = freeAddress(t), freeAddress(t)
	port := func(address string) string { return address[strings.LastIndex(address, ":")+1:] }
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	config := fmt.Sprintf(envoyConfig, port(admin), port(listener), port(upstream.URL))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, binary, "-c", file, "--use-dynamic-base-id", "--concurrency", "1", "-l", "error")
	eventually(t, "Envoy is ready", func() bool {
		resp, err := http.Get("http://" + admin + "/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	})
	return listener, admin
}

// app answers with the status at the end of the path; flaky ones fail at first,
// slow ones take 60 ms, hung ones answer when they are told to.
type app struct {
	mu    sync.Mutex
	tries map[string]int
	hung  atomic.Int32
	free  chan struct{}
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case parts[0] == "flaky":
		a.mu.Lock()
		a.tries[r.URL.Path]++
		n := a.tries[r.URL.Path]
		a.mu.Unlock()
		if n == 1 {
			w.WriteHeader(503)
		}
	case parts[len(parts)-1] == "slow":
		time.Sleep(60 * time.Millisecond)
	case parts[len(parts)-1] == "hung":
		a.hung.Add(1)
		<-a.free
	default:
		status := 200
		_, _ = fmt.Sscan(parts[len(parts)-1], &status)
		w.WriteHeader(status)
	}
}

func TestEnvoysRequestsAreCountedOnce(t *testing.T) {
	a := &app{tries: map[string]int{}, free: make(chan struct{})}
	listener, admin := realEnvoy(t, a)
	address := realPrometheus(t, "/stats/prometheus", admin)
	get := func(path string, times int) {
		t.Helper()
		for i := range times {
			resp, err := http.Get("http://" + listener + strings.Replace(path, "N", fmt.Sprint(i), 1))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	scraped := func() time.Time { time.Sleep(2500 * time.Millisecond); return time.Now().Truncate(time.Millisecond) }

	start := scraped()
	get("/stable/200", 40)
	get("/stable/503", 2)
	get("/canary/200", 20)
	middle := scraped()
	get("/canary/404", 5)
	get("/canary/500", 3)
	get("/canary/slow", 10)
	get("/mirrored/200", 7)
	get("/flaky/N", 4)
	ctx, cancel := context.WithCancel(t.Context())
	for range 6 {
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener+"/canary/hung", http.NoBody)
			if err == nil {
				if resp, err := http.DefaultClient.Do(r); err == nil {
					_ = resp.Body.Close()
				}
			}
		}()
	}
	eventually(t, "six requests hang", func() bool { return a.hung.Load() == 6 })
	defer cancel()
	defer close(a.free)
	end := scraped()

	counts := func(from, to time.Time, kind analysis.Kind) analysis.Measurement {
		m := askReal(t, address, analysis.Query{Kind: kind, Subject: shop, From: from, To: to, Metric: v1beta1.Metric{Name: "m", Gateway: "x"}})
		if m.Problem != nil {
			t.Fatal(*m.Problem)
		}
		return m
	}
	first, second, whole := counts(start, middle, analysis.KindCounts), counts(middle, end, analysis.KindCounts), counts(start, end, analysis.KindCounts)
	for _, c := range []struct {
		what      string
		got, want analysis.Sample
	}{
		{"stable, first half", first.Stable, analysis.Sample{Requests: 42, Bad: 2}},
		{"canary, first half", first.Canary, analysis.Sample{Requests: 20}},
		{"stable, second half", second.Stable, analysis.Sample{Requests: 7}},
		{"canary, second half", second.Canary, analysis.Sample{Requests: 22, Bad: 3}},
		{"stable, whole", whole.Stable, analysis.Sample{Requests: 49, Bad: 2}},
		{"canary, whole", whole.Canary, analysis.Sample{Requests: 42, Bad: 3}},
	} {
		if c.got.Requests != c.want.Requests || c.got.Bad != c.want.Bad || !c.got.Present {
			t.Errorf("%s: got %+v, want %+v", c.what, c.got, c.want)
		}
	}
	times := counts(middle, end, analysis.KindHistogram).Canary
	last := len(times.Buckets) - 1
	if last < 1 || times.Requests != 22 || !math.IsInf(times.Buckets[last].Le, 1) {
		t.Fatalf("histogram: %+v", times)
	}
	for _, b := range times.Buckets {
		if b.Le == 0.05 && b.Count > 12 || b.Le == 1 && b.Count < 22 {
			t.Errorf("%v requests took at most %v s, of 22 of which 10 took 60 ms", b.Count, b.Le)
		}
	}
}
