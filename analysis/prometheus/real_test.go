// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
global: {scrape_interval: 1s, scrape_timeout: 1s, scrape_native_histograms: true}
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
