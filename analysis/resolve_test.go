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

func template(name string, m v1beta1.Metric, args ...v1beta1.Parameter) v1beta1.MetricTemplate {
	return v1beta1.MetricTemplate{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.MetricTemplateSpec{Args: args, Metric: m}}
}

func with(name string, args ...v1beta1.Argument) v1beta1.Metric {
	return v1beta1.Metric{Name: "m", Template: &v1beta1.TemplateReference{Name: name, Args: args}}
}

func text(s string) *v1beta1.Amount { return &v1beta1.Amount{Type: 1, StrVal: s} }

// templates are those of a namespace: a query with arguments, JSON and a Job.
func templates() map[string]v1beta1.MetricTemplate {
	five := "5xx"
	list := []v1beta1.MetricTemplate{
		template("queue", v1beta1.Metric{
			Name: "ignored", Interval: &metav1.Duration{Duration: time.Minute}, Threshold: &v1beta1.Threshold{Max: text("10")},
			Prometheus: &v1beta1.PrometheusSource{
				Query: `max({{.Args.metric}}{pod=~"{{.Pods}}",class="{{.Args.class}}"})`, Address: "http://prometheus-{{.Args.class}}:9090",
				Connection: v1beta1.Connection{Headers: []v1beta1.Header{{Name: "X-Scope-OrgID", Value: "{{.Args.class}}"}}},
			},
		}, v1beta1.Parameter{Name: "metric"}, v1beta1.Parameter{Name: "class", Default: &five}),
		template("json", v1beta1.Metric{
			HTTP:      &v1beta1.HTTPSource{URL: "http://orders/{{.Args.path}}", Value: "body.{{.Args.path}}"},
			Tolerance: &v1beta1.Tolerance{Relative: "10%"},
		}, v1beta1.Parameter{Name: "path"}),
		template("load", v1beta1.Metric{Job: &v1beta1.JobSource{Spec: runtime.RawExtension{Raw: []byte(
			`{"backoffLimit":0,"template":{"spec":{"containers":[{"name":"t","image":"t:{{ .Args.tag }}","args":["--format={{.Names}}","{{.Args.tag}}"]}]}}}`,
		)}}}, v1beta1.Parameter{Name: "tag"}),
		template("plain", v1beta1.Metric{Gateway: v1beta1.GatewayErrorRate}),
		template("broken", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "{{.Args.nothing}}"}, Threshold: &v1beta1.Threshold{Max: text("1")}}),
		template("nolimit", v1beta1.Metric{Prometheus: &v1beta1.PrometheusSource{Query: "x"}}),
	}
	byName := map[string]v1beta1.MetricTemplate{}
	for _, t := range list {
		byName[t.Name] = t
	}
	return byName
}

func TestResolveTakesFromTheTemplateWhatTheMetricDoesNotSay(t *testing.T) {
	m := with("queue", v1beta1.Argument{Name: "metric", Value: "queue_length"})
	m.Weight = ptrTo(int32(7))
	got, problem := analysis.Resolve(m, templates())
	if problem != nil {
		t.Fatal(problem.Message)
	}
	want := v1beta1.Metric{
		Name: "m", Interval: &metav1.Duration{Duration: time.Minute}, Threshold: &v1beta1.Threshold{Max: text("10")}, Weight: ptrTo(int32(7)),
		Prometheus: &v1beta1.PrometheusSource{
			Query: `max(queue_length{pod=~"{{.Pods}}",class="5xx"})`, Address: "http://prometheus-5xx:9090",
			Connection: v1beta1.Connection{Headers: []v1beta1.Header{{Name: "X-Scope-OrgID", Value: "5xx"}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(templates(), templates()); diff != "" {
		t.Errorf("the templates were changed:\n%s", diff)
	}
}

func TestResolveLetsTheMetricHaveTheLastWord(t *testing.T) {
	byName := templates()
	m := with("queue", v1beta1.Argument{Name: "metric", Value: "x"}, v1beta1.Argument{Name: "class", Value: "{{.Service}}"})
	m.Tolerance, m.Interval, m.InitialDelay = &v1beta1.Tolerance{Relative: "20%"}, &metav1.Duration{Duration: time.Second}, &metav1.Duration{Duration: time.Hour}
	m.Misses, m.Observe = ptrTo(int32(4)), true
	got, problem := analysis.Resolve(m, byName)
	switch {
	case problem != nil:
		t.Fatal(problem.Message)
	case got.Threshold != nil || got.Tolerance.Relative != "20%":
		t.Errorf("a tolerance takes the place of the template's threshold: %+v, %+v", got.Tolerance, got.Threshold)
	case got.Interval.Duration != time.Second || got.InitialDelay.Duration != time.Hour || *got.Misses != 4 || !got.Observe:
		t.Errorf("%+v", got)
	case got.Prometheus.Query != `max(x{pod=~"{{.Pods}}",class="{{.Service}}"})`:
		t.Errorf("a field in an argument stays to be filled in later: %s", got.Prometheus.Query)
	}
	if diff := cmp.Diff(templates(), byName); diff != "" {
		t.Errorf("the templates were changed:\n%s", diff)
	}
}

func TestResolveFillsInAllKindsOfSources(t *testing.T) {
	got, problem := analysis.Resolve(with("json", v1beta1.Argument{Name: "path", Value: "errors"}), templates())
	if problem != nil || got.HTTP.URL != "http://orders/errors" || got.HTTP.Value != "body.errors" {
		t.Errorf("%+v, %+v", got.HTTP, problem)
	}
	got, problem = analysis.Resolve(with("load", v1beta1.Argument{Name: "tag", Value: `1"2`}), templates())
	if problem != nil {
		t.Fatal(problem.Message)
	}
	spec, err := analysis.JobSpec(got.Job)
	if err != nil {
		t.Fatal(err)
	}
	c := spec.Template.Spec.Containers[0]
	if diff := cmp.Diff([]string{`t:1"2`, "--format={{.Names}}", `1"2`}, append([]string{c.Image}, c.Args...)); diff != "" {
		t.Errorf("only arguments are filled in (-want +got):\n%s", diff)
	}
	plain := v1beta1.Metric{Name: "m", Gateway: v1beta1.GatewayLatency}
	if got, problem := analysis.Resolve(plain, nil); problem != nil || cmp.Diff(plain, got) != "" {
		t.Errorf("a metric without a template stays as it is: %+v, %+v", got, problem)
	}
}

func TestResolveSaysWhatIsMissing(t *testing.T) {
	arg := func(name, value string) v1beta1.Argument { return v1beta1.Argument{Name: name, Value: value} }
	tests := []struct {
		name            string
		metric          v1beta1.Metric
		reason, message string
	}{
		{"no such template", with("none"), v1beta1.ReasonTemplateNotFound, `there is no MetricTemplate "none": the namespace has "broken", "json"`},
		{"an argument without a value", with("queue"), v1beta1.ReasonInvalidSpec, `MetricTemplate "queue": the argument "metric" has no value: write template.args: [{name: metric, value: …}]`},
		{"an argument nobody asked for", with("queue", arg("metric", "x"), arg("kind", "y")), v1beta1.ReasonInvalidSpec, `it has no argument "kind": its arguments are "class", "metric"`},
		{"an argument where there are none", with("plain", arg("kind", "y")), v1beta1.ReasonInvalidSpec, "it has no arguments"},
		{"a template with a mistake", with("broken"), v1beta1.ReasonInvalidSpec, "prometheus.query: it names {{.Args.nothing}}, which is not an argument of the template"},
		{"an argument that makes nonsense", with("json", arg("path", "a b c")), v1beta1.ReasonInvalidSpec, "http.value: it is not a CEL expression"},
		{"an argument with a field that does not exist", with("queue", arg("metric", "{{.Nothing}}")), v1beta1.ReasonInvalidSpec, "{{.Nothing}}, which is not one of"},
		{"nothing to compare with", with("nolimit"), v1beta1.ReasonInvalidSpec, "neither a tolerance nor a threshold"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problem := analysis.Resolve(tt.metric, templates())
			if problem == nil || problem.Reason != tt.reason || !strings.Contains(problem.Message, tt.message) {
				t.Fatalf("got %+v, want %s: %s", problem, tt.reason, tt.message)
			}
			if diff := cmp.Diff(tt.metric, got); diff != "" {
				t.Errorf("a metric that cannot be resolved stays as it is:\n%s", diff)
			}
		})
	}
	if _, problem := analysis.Resolve(with("x"), nil); problem == nil || !strings.Contains(problem.Message, "the namespace has none") {
		t.Errorf("%+v", problem)
	}
}

func TestValidateLeavesTemplatesToResolve(t *testing.T) {
	if err := analysis.Validate(&v1beta1.Analysis{Metrics: []v1beta1.Metric{with("x")}}); err != nil {
		t.Error(err)
	}
	both := with("x")
	both.Gateway = v1beta1.GatewayErrorRate
	if err := analysis.Validate(&v1beta1.Analysis{Metrics: []v1beta1.Metric{both}}); err == nil {
		t.Error("a template beside a source is an error")
	}
}

func TestValuesAreEscapedForWhereTheyStand(t *testing.T) {
	f := analysis.Fields{Pods: `a b-[0-9]+&c="d"`, Release: "3", Step: "2", Version: "5d9", Window: "90s"}
	for _, tt := range []struct {
		text   string
		escape analysis.Escape
		want   string
	}{
		{"{{.Release}}/{{.Step}}/{{.Version}}/{{.Window}}", nil, "3/2/5d9/90s"},
		{"http://x/?pods={{.Pods}}", analysis.AsURL, "http://x/?pods=a%20b-%5B0-9%5D%2B%26c%3D%22d%22"},
		{`{"pods":"{{.Pods}}"}`, analysis.AsJSON, `{"pods":"a b-[0-9]+\u0026c=\"d\""}`},
	} {
		if got, err := analysis.Render(tt.text, f, tt.escape); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
}

func ptrTo[T any](v T) *T { return &v }
