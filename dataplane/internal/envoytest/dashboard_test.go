// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/server"
)

// query is one expression of a dashboard.
type query struct{ panel, expression string }

// queries reads the expressions of every dashboard in the chart, with its variables as
// Grafana fills them in when everything is chosen.
func queries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob("../../../charts/headgate/files/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no dashboards (%v)", err)
	}
	var out []query
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Templating struct {
				List []struct{ Name, AllValue, Definition string }
			}
			Annotations struct {
				List []struct{ Name, Expr string }
			}
			Panels []struct {
				Title, Type string
				Targets     []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(content, &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		chosen := []string{"$__rate_interval", "30s"}
		for _, v := range dashboard.Templating.List {
			chosen = append(chosen, "$"+v.Name, v.AllValue)
		}
		fill := strings.NewReplacer(chosen...)
		for _, v := range dashboard.Templating.List {
			if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
				at := strings.LastIndex(inner, ", ")
				out = append(out, query{"the variable " + v.Name, fmt.Sprintf("count by (%s) (%s)", strings.TrimSuffix(inner[at+2:], ")"), fill.Replace(inner[:at]))})
			}
		}
		for _, a := range dashboard.Annotations.List {
			out = append(out, query{"the annotation " + a.Name, fill.Replace(a.Expr)})
		}
		for _, p := range dashboard.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: the panel %q shows nothing", file, p.Title)
			}
			for _, target := range p.Targets {
				out = append(out, query{p.Title, fill.Replace(target.Expr)})
			}
		}
	}
	return out
}

// instant gives the values of an expression now.
func instant(address, expression string) ([]float64, error) {
	page, err := get(address + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal([]byte(page), &answer); err != nil {
		return nil, err
	}
	var values []float64
	for _, r := range answer.Data.Result {
		value, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// TestEveryPanelShowsSomething runs each query of the dashboards against a Prometheus that
// scrapes a proxy with requests of every kind, and Headgate's metrics.
func TestEveryPanelShowsSomething(t *testing.T) {
	r := newRig(t)
	passes := measure.New(time.Now)
	released, release := releases()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(server.NewCollector(r.Server), passes, released)
	headgate := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	t.Cleanup(headgate.Close)

	port, secure, calls := FreePort(t), FreePort(t), FreePort(t)
	for _, version := range []string{"web", "web-canary"} {
		r.endpoints(version, NewBackendFunc(t, version, func(w http.ResponseWriter, r *http.Request) {
			status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
			w.WriteHeader(max(status, http.StatusOK))
		}))
	}
	codes := graphtest.Key("codes")
	codes.Protocol = graph.UpstreamH2C
	r.Server.PublishEndpoints(codes, Endpoints(codes, newCodesBackend(t)))
	grpc := graphtest.Route("calls", nil, graphtest.Rule("/", &graph.Backend{Cluster: codes, Weight: 1, Valid: true}))
	grpc.Kind = graph.KindGRPCRoute
	canary, stable := types.NamespacedName{Namespace: "shop", Name: "web-canary"}, types.NamespacedName{Namespace: "shop", Name: "web"}
	web := graphtest.Route("web.v2", []string{"example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1), graphtest.Backend("web-canary", 1)))
	web.Running = true
	build := func() *graph.Graph {
		return graphtest.Graph(graphtest.HTTP("http", port, "", web), graphtest.HTTP("calls", calls, "", grpc),
			graphtest.HTTPS("https", secure, "", certificate(t, "web", 1, "example.com"), web))
	}
	publish := func() { // as the reconciler does it
		passes.Noted()
		first, g := passes.Take(), build()
		r.publish(g)
		passes.Published(graphtest.GatewayKey, first)
		passes.Certificates(g)
	}
	publish()
	conn := grpcConn(t, proxyPort(calls))
	traffic := func() {
		for _, path := range []string{"/200", "/404", "/500"} {
			r.do(call{port: port, path: path})
			r.do(call{port: secure, sni: "example.com", path: path})
		}
		for _, code := range []int{0, 2, 4, 12, 13, 14, 15} {
			invoke(t.Context(), conn, fmt.Sprintf("trailers-%d", code))
		}
	}
	traffic()
	address := r.startPrometheusOf(fmt.Sprintf(`
- job_name: headgate
  static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(headgate.URL, "http://")))

	waiting := queries(t)
	if len(waiting) < 30 {
		t.Fatalf("only %d queries", len(waiting))
	}
	total := len(waiting)
	delay := 0
	r.Eventually("every query has an answer", func() error {
		traffic()
		delay++
		bound := time.Duration(delay) * time.Minute // each publication is another
		web.Rules[0].RequestTimeout = &bound
		publish()
		r.Server.Divert(canary, stable)
		r.Server.Restore(canary)
		release()
		time.Sleep(300 * time.Millisecond)
		var empty []query
		var failures []error
		for _, q := range waiting {
			values, err := instant(address, q.expression)
			if err == nil && len(values) == 0 {
				err = errors.New("no series")
			}
			for _, v := range values {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					err = fmt.Errorf("the value is %v", v)
				}
			}
			if err != nil {
				empty = append(empty, q)
				failures = append(failures, fmt.Errorf("%s: %s: %w", q.panel, q.expression, err))
			}
		}
		waiting = empty
		return errors.Join(failures...)
	})
	t.Logf("%d queries answered", total)
}
