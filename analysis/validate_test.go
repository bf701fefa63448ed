// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

func TestValidate(t *testing.T) {
	num := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	query := func(q string) *v1beta1.PrometheusSource { return &v1beta1.PrometheusSource{Query: q} }
	max1 := &v1beta1.Threshold{Max: num("1")}
	tests := []struct {
		name   string
		metric v1beta1.Metric
		want   string // part of the sentence; empty: valid
	}{
		{"an error rate with defaults", v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate}, ""},
		{"a latency with defaults", v1beta1.Metric{Gateway: v1beta1.GatewayLatency}, ""},
		{"both sources", v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Prometheus: query("x")}, "exactly one of"},
		{"no source", v1beta1.Metric{}, "exactly one of"},
		{"a metric that is none", v1beta1.Metric{Gateway: "Saturation"}, "write ErrorRate or Latency"},
		{"a time for an error rate", v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Threshold: &v1beta1.Threshold{Max: num("300ms")}}, "write 0.5%"},
		{"a plain number for an error rate", v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: &v1beta1.Tolerance{Absolute: num("1")}}, "tolerance.absolute 1 has no percent sign"},
		{"a share for a latency", v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Threshold: &v1beta1.Threshold{Max: num("5%")}}, "write 300ms or 1.5s"},
		{"a unit for a query", v1beta1.Metric{Prometheus: query("x"), Threshold: &v1beta1.Threshold{Max: num("300ms")}}, "for example 0.3"},
		{"a range nothing lies in", v1beta1.Metric{Prometheus: query("x"), Threshold: &v1beta1.Threshold{Min: num("3"), Max: num("1")}}, "no value lies between"},
		{"a negative tolerance", v1beta1.Metric{Prometheus: query("x"), Tolerance: &v1beta1.Tolerance{Absolute: num("-1")}}, "is negative"},
		{"a quantile of nothing", v1beta1.Metric{Gateway: v1beta1.GatewayLatency, Quantile: "0.00"}, `write quantile: "0.99"`},
		{"higher error rates are not better", v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: &v1beta1.Tolerance{Relative: "1%", Better: "Higher"}}, "better: Higher does not fit"},
		{"a query with no limit", v1beta1.Metric{Prometheus: query("x")}, "neither a tolerance nor a threshold"},
		{"a query with fields", v1beta1.Metric{Prometheus: query(`sum(rate(x{pod=~"{{.Pods}}"}[{{ .Window }}]))`), Threshold: max1}, ""},
		{"a query with an unknown field", v1beta1.Metric{Prometheus: query("{{.Pod}}"), Threshold: max1}, "{{.Pod}}, which is not one of {{.Namespace}}"},
		{"a query with a loop", v1beta1.Metric{Prometheus: query("{{range 1000000000}}x{{end}}"), Threshold: max1}, "which is not one of"},
		{"a query with a function", v1beta1.Metric{Prometheus: query(`{{printf "x"}}`), Threshold: max1}, "not a valid template"},
		{"a query with a method chain", v1beta1.Metric{Prometheus: query(`{{.Pods.Len}}`), Threshold: max1}, "which is not one of"},
		{"a template that is not closed", v1beta1.Metric{Prometheus: query("x{{.Pods"), Threshold: max1}, "not a valid template"},
		{"a query of blanks", v1beta1.Metric{Prometheus: query("  "), Threshold: max1}, "empty"},
		{"a stable query without comparison", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x", StableQuery: "y"}, Threshold: max1}, "only asked with tolerance"},
		{"a broken stable query", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x", StableQuery: "{{.X}}"}, Tolerance: &v1beta1.Tolerance{Relative: "1%"}}, "prometheus.stableQuery: "},
		{"an address that is none", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x", Address: "http://"}, Threshold: max1}, "write http://prometheus.monitoring:9090"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.metric.Name = "m"
			err := analysis.Validate(&v1beta1.Analysis{Metrics: []v1beta1.Metric{tt.metric}})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("valid, but: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), `metric "m": `)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := analysis.Validate(nil); err != nil {
		t.Errorf("no spec is valid, but: %v", err)
	}
	short := &v1beta1.Analysis{Interval: &metav1.Duration{Duration: time.Millisecond}}
	if err := analysis.Validate(short); err == nil || !strings.Contains(err.Error(), "write interval: 10s") {
		t.Errorf("an interval of 1ms: %v", err)
	}
}

func TestRenderFillsInTheArm(t *testing.T) {
	q := analysis.Query{Subject: subject(5), From: since, To: at(90 * time.Second)}
	const text = `rate(x{namespace="{{.Namespace}}",canary="{{.Canary}}",service="{{.Service}}",pod=~"{{.Pods}}"}[{{.Window}}])`
	want := map[analysis.Arm]string{
		analysis.Canary: `rate(x{namespace="shop",canary="checkout",service="checkout-canary",pod=~"checkout-canary-.*"}[90s])`,
		analysis.Stable: `rate(x{namespace="shop",canary="checkout",service="checkout",pod=~"checkout-a[.]b-.*"}[90s])`,
	}
	for arm, w := range want {
		got, err := analysis.Render(text, analysis.FieldsFor(q, arm))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", arm, diff)
		}
	}
}

func TestAnInvalidMetricIsUnknownAndSaysWhatToWrite(t *testing.T) {
	p := analysis.PlanFor(&v1beta1.Analysis{Metrics: []v1beta1.Metric{{
		Name: "p", Gateway: v1beta1.GatewayLatency, Quantile: "7",
	}}}, subject(5))
	v := analysis.Judge(p, history())
	if v.Result != v1beta1.VerdictUnknown || v.Reason != v1beta1.ReasonInvalidSpec || !strings.Contains(v.Why, `write quantile: "0.99"`) {
		t.Errorf("%+v", v)
	}
}

func TestPlanForFillsDefaultsAndLeavesTheSpecAlone(t *testing.T) {
	spec := &v1beta1.Analysis{Metrics: []v1beta1.Metric{{Name: "l", Gateway: v1beta1.GatewayLatency}}}
	p := analysis.PlanFor(spec, subject(5))
	m := p.Metrics[0]
	if p.Interval != 10*time.Second || m.Quantile != "0.99" || *m.MinRequests != 50 || m.Tolerance.Relative != "20%" || m.Tolerance.Absolute.String() != "5ms" {
		t.Errorf("%+v", p)
	}
	if spec.Metrics[0].Quantile != "" || spec.Metrics[0].Tolerance != nil {
		t.Errorf("the spec was changed: %+v", spec.Metrics[0])
	}
	names := []string{}
	for _, m := range analysis.PlanFor(nil, subject(5)).Metrics {
		names = append(names, m.Name)
	}
	if diff := cmp.Diff([]string{"errors", "p99"}, names); diff != "" {
		t.Error(diff)
	}
}
