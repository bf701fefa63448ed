// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

func TestValidate(t *testing.T) {
	num := func(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }
	query := func(q string) *v1beta1.PrometheusSource { return &v1beta1.PrometheusSource{Query: q} }
	job := func(spec string) v1beta1.Metric {
		return v1beta1.Metric{Job: &v1beta1.JobSource{Spec: runtime.RawExtension{Raw: []byte(spec)}}}
	}
	counters := func(bad, total string) *v1beta1.PrometheusSource {
		return &v1beta1.PrometheusSource{Counters: &v1beta1.Counters{Bad: bad, Total: total}}
	}
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
		{"a metric that is none", v1beta1.Metric{Gateway: "Saturation"}, "write ErrorRate, Latency or Answers"},
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
		{"counters with defaults", v1beta1.Metric{Prometheus: counters(`x{pod=~"{{.Pods}}",code=~"5.."}`, `x{pod=~"{{.Pods}}"}`)}, ""},
		{"counters against a share", v1beta1.Metric{Prometheus: counters("b", "t"), Threshold: &v1beta1.Threshold{Max: num("1%")}}, ""},
		{"counters against a plain number", v1beta1.Metric{Prometheus: counters("b", "t"), Threshold: &v1beta1.Threshold{Max: num("1")}}, "write 0.5%"},
		{"a rate of a counter", v1beta1.Metric{Prometheus: counters("rate(b[1m])", "t")}, "prometheus.counters.bad: rate(b[1m]) is not a selector of series (rate(…) is a function)"},
		{"a range of a counter", v1beta1.Metric{Prometheus: counters("b", "t[5m]")}, "prometheus.counters.total: t[5m] is not a selector"},
		{"counters with misses", v1beta1.Metric{Prometheus: counters("b", "t"), Misses: ptrTo(int32(3))}, "remove misses"},
		{"a histogram with defaults", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Histogram: `x_seconds_bucket{pod=~"{{.Pods}}"}`}}, ""},
		{"a histogram at a quantile", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Histogram: "x_seconds"}, Quantile: "0.95", Threshold: &v1beta1.Threshold{Max: num("300ms")}}, ""},
		{"the count of a histogram", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Histogram: "x_seconds_count"}}, "write x_seconds_bucket, or x_seconds where it is native"},
		{"a histogram of milliseconds", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Histogram: "x_milliseconds_bucket"}}, "is not in seconds"},
		{"a histogram against a share", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Histogram: "x_seconds"}, Threshold: &v1beta1.Threshold{Max: num("1%")}}, "write 300ms or 1.5s"},
		{"answers with defaults", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers}, ""},
		{"answers with a share", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, Tolerance: &v1beta1.Tolerance{Relative: "30%"}}, ""},
		{"answers that may all be missing", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, Tolerance: &v1beta1.Tolerance{Relative: "100%"}}, "is not between 0% and 100%"},
		{"answers with an absolute tolerance", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, Tolerance: &v1beta1.Tolerance{Absolute: num("1%")}}, "write tolerance: {relative: 20%}"},
		{"answers with a threshold", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, Threshold: &v1beta1.Threshold{Max: num("1%")}}, "threshold does not fit"},
		{"answers with goodEnough", v1beta1.Metric{Gateway: v1beta1.GatewayAnswers, GoodEnough: &v1beta1.Tolerance{Relative: "30%"}}, "goodEnough does not fit"},
		{
			"what is good enough is stricter than what is tolerated",
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: &v1beta1.Tolerance{Relative: "25%", Absolute: num("1%")}, GoodEnough: &v1beta1.Tolerance{Relative: "10%", Absolute: num("0.5%")}},
			"write goodEnough of at least relative: 25%, absolute: 1%",
		},
		{
			"good enough may be stricter where stable is good and laxer where it is not",
			v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate, Tolerance: &v1beta1.Tolerance{Relative: "25%", Absolute: num("0.05%")}, GoodEnough: &v1beta1.Tolerance{Absolute: num("0.1%")}},
			"",
		},
		{"goodEnough of a query", v1beta1.Metric{Prometheus: query("x"), Threshold: max1, GoodEnough: &v1beta1.Tolerance{Relative: "1%"}}, "remove it"},
		{"an argument outside of a template", v1beta1.Metric{Prometheus: query("{{.Args.x}}"), Threshold: max1}, "only a MetricTemplate has arguments"},
		{"credentials in an address", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x", Address: "http://me:hush@prometheus"}, Threshold: max1}, "use basicAuth with a Secret"},
		{"an answer in JSON", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "http://orders.shop/{{.Service}}", Value: "double(body.errors) / double(body.total)"}, Threshold: max1}, ""},
		{"JSON with no limit", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "http://orders", Value: "body.n"}}, "neither a tolerance nor a threshold"},
		{"a value that is no CEL", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "http://orders", Value: "body..n"}, Threshold: max1}, "http.value: it is not a CEL expression over body (at character 6"},
		{"a value that is true or false", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "http://orders", Value: "body.n > 1"}, Threshold: max1}, "write (body.n > 1) ? 1.0 : 0.0"},
		{"a body with GET", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "http://orders", Value: "body.n", Body: "{}"}, Threshold: max1}, "only sent with method: POST"},
		{"a URL of a file", v1beta1.Metric{HTTP: &v1beta1.HTTPSource{URL: "file:///etc/passwd", Value: "body.n"}, Threshold: max1}, "is not an address: write http://orders.shop:8080"},
		{"a webhook", v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: "https://gate.shop/release"}}, ""},
		{"a webhook with a threshold", v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: "https://gate.shop/release"}, Threshold: max1}, "say pass or fail by themselves"},
		{"a job", job(`{"template":{"spec":{"containers":[{"name":"t","image":"t"}]}}}`), ""},
		{"a job without containers", job(`{"template":{"spec":{}}}`), "has no containers"},
		{"a job with a field that does not exist", job(`{"template":{"spec":{"container":[]}}}`), `unknown field "container"`},
		{"a job that is always restarted", job(`{"template":{"spec":{"restartPolicy":"Always","containers":[{"name":"t"}]}}}`), "write Never or OnFailure"},
		{"a job that never starts", job(`{"suspend":true,"template":{"spec":{"containers":[{"name":"t"}]}}}`), "never starts"},
		{"a job that is no object", job(`[]`), "is not the spec of a batch/v1 Job"},
		{
			"a secret for everybody to read",
			v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x", Connection: v1beta1.Connection{Headers: []v1beta1.Header{{Name: "authorization", Value: "Bearer x"}}}}, Threshold: max1},
			"use basicAuth, bearerToken or valueFrom",
		},
		{
			"a header twice",
			v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: "http://x", Connection: v1beta1.Connection{Headers: []v1beta1.Header{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}}}},
			"has x-a twice",
		},
		{
			"TLS without it",
			v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: "http://x", Connection: v1beta1.Connection{TLS: &v1beta1.ClientTLS{ServerName: "y"}}}},
			"write https://, or remove tls",
		},
		{"the host is the address's", v1beta1.Metric{Webhook: &v1beta1.WebhookSource{URL: "http://x", Connection: v1beta1.Connection{Headers: []v1beta1.Header{{Name: "Host", Value: "y"}}}}}, "made from the address"},
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
		got, err := analysis.Render(text, analysis.FieldsFor(q, arm), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", arm, diff)
		}
	}
}

func TestTheRateOfFalseRollbacksIsAChance(t *testing.T) {
	for rate, want := range map[string]string{"": "", "0.1%": "", "10%": "", "11%": "from 0.0001% to 10%", "0%": "from 0.0001% to 10%"} {
		err := analysis.Validate(&v1beta1.Analysis{FalseRollbackRate: rate})
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", rate, err)
		}
	}
}
