// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/analysis/prometheus"
	"headgate.dev/headgate/api/v1beta1"
)

var now = time.Unix(1_800_000_000, 0)

func scalarQuery(address string) analysis.Query {
	return analysis.Query{
		Kind: analysis.KindScalar, Subject: shop, From: now.Add(-time.Minute), To: now, Asked: now,
		Metric: v1beta1.Metric{
			Name: "orders",
			Prometheus: &v1beta1.PrometheusSource{
				Query: `orders{pod=~"{{.Pods}}"}`, Address: address,
				Connection: v1beta1.Connection{Timeout: &metav1.Duration{Duration: time.Second}},
			},
			Tolerance: &v1beta1.Tolerance{Relative: "10%"},
		},
	}
}

var shop = analysis.Subject{
	Namespace: "shop", Canary: "checkout", Since: now.Add(-time.Minute), Weight: 5,
	StableVersion: analysis.Version{Service: "checkout", Ports: []int32{8080}, PodPattern: "checkout-[0-9]"},
	CanaryVersion: analysis.Version{Service: "checkout-canary", Ports: []int32{8080}, PodPattern: "checkout-canary-[0-9]"},
}

// silence reads the question and says nothing. Only a body that was read lets the
// server notice that the client has gone.
func silence(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	select {
	case <-r.Context().Done():
	case <-time.After(5 * time.Second):
	}
}

// result is a successful answer of the API.
func result(kind, value string) http.HandlerFunc {
	return body(200, "application/json", fmt.Sprintf(`{"status":"success","data":{"resultType":%q,"result":%s}}`, kind, value))
}

func body(status int, contentType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func vector(values ...string) http.HandlerFunc {
	var parts []string
	for i, v := range values {
		parts = append(parts, fmt.Sprintf(`{"metric":{"i":"%d"},"value":[1800000000,%q]}`, i, v))
	}
	return result("vector", "["+strings.Join(parts, ",")+"]")
}

func TestEveryBadAnswerHasItsReasonAndASentence(t *testing.T) {
	html := "<html><body>" + strings.Repeat("secret ", 100) + "</body></html>"
	tests := []struct {
		name    string
		handler http.HandlerFunc
		reason  string
		message string // part of the sentence
	}{
		{"no series", vector(), v1beta1.ReasonNoSeries, `the query for canary matched no series; run it in Prometheus, or append "or vector(0)"`},
		{"several series", vector("1", "2"), v1beta1.ReasonSeveralSeries, "gave 2 numbers instead of one; aggregate them"},
		{"NaN", vector("NaN"), v1beta1.ReasonNotANumber, "gave NaN, as a division by zero does"},
		{"infinity", vector("+Inf"), v1beta1.ReasonNotANumber, "gave +Inf"},
		{"a matrix", result("matrix", `[{"metric":{},"values":[[1800000000,"1"]]}]`), v1beta1.ReasonUnusableAnswer, "gave a range of samples instead of one number"},
		{"a string", result("string", `[1800000000,"x"]`), v1beta1.ReasonUnusableAnswer, "the query gave a text instead of one number: orders"},
		{
			"a histogram", result("vector", `[{"metric":{},"histogram":[1800000000,{"count":"1","sum":"1","buckets":[[0,"0","1","1"]]}]}]`),
			v1beta1.ReasonUnusableAnswer, "gave a histogram",
		},
		{
			"warnings", body(200, "application/json", `{"status":"success","warnings":["store east is down"],"data":{"resultType":"vector","result":[]}}`),
			v1beta1.ReasonUnusableAnswer, "warns about its answer: store east is down",
		},
		{"401", body(401, "text/plain", "who are you"), v1beta1.ReasonAccessDenied, "asks for credentials (HTTP 401)"},
		{"403", body(403, "text/plain", ""), v1beta1.ReasonAccessDenied, "forbids the query (HTTP 403)"},
		{"404", body(404, "text/html", html), v1beta1.ReasonSourceNotFound, "the address ends before /api/v1"},
		{"429", body(429, "text/plain", ""), v1beta1.ReasonSourceUnavailable, "asked too often (HTTP 429)"},
		{"500", body(500, "text/html", html), v1beta1.ReasonSourceUnavailable, "answered HTTP 500"},
		{
			"503 of an overloaded Prometheus", body(503, "application/json", `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`),
			v1beta1.ReasonQueryTimedOut, "took too long to evaluate the query: orders{pod=~\"checkout-canary-[0-9]\"}",
		},
		{
			"bad PromQL", body(400, "application/json", `{"status":"error","errorType":"bad_data","error":"1:7: parse error: unexpected end of input"}`),
			v1beta1.ReasonQueryRejected, "does not understand the query (1:7: parse error: unexpected end of input)",
		},
		{
			"a query that costs too much", body(422, "application/json", `{"status":"error","errorType":"execution","error":"query processing would load too many samples"}`),
			v1beta1.ReasonQueryRejected, "cannot evaluate the query (query processing would load too many samples)",
		},
		{"a page that is not Prometheus", body(200, "text/html", html), v1beta1.ReasonSourceNotFound, "is not Prometheus (HTTP 200, text/html)"},
		{"JSON that is not Prometheus", body(200, "application/json", `{"hello":"world"}`), v1beta1.ReasonSourceNotFound, "is not Prometheus"},
		{"half an answer", body(200, "application/json", `{"status":"succ`), v1beta1.ReasonSourceNotFound, "is not Prometheus"},
		{"no answer", silence, v1beta1.ReasonQueryTimedOut, "did not answer within 1s"},
		{"a connection that is cut", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = c.Close()
			}
		}, v1beta1.ReasonSourceUnavailable, "cannot be reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			m := ask(t, "", scalarQuery(server.URL))
			check(t, m, tt.reason, tt.message)
		})
	}
}

func check(t *testing.T, m analysis.Measurement, reason, message string) {
	t.Helper()
	p := m.Problem
	if p == nil || p.Reason != reason || !strings.Contains(p.Message, message) {
		t.Fatalf("got %+v\nwant %s: …%s…", p, reason, message)
	}
	if len(p.Message) > 700 || strings.Contains(p.Message, "secret") {
		t.Errorf("the message repeats what a foreign server said: %s", p.Message)
	}
	if diff := cmp.Diff(analysis.Sample{}, m.Canary); diff != "" {
		t.Errorf("a sample beside a problem:\n%s", diff)
	}
}

// local makes clients that may reach this machine, with the Secrets by name.
func local(secrets map[string]map[string][]byte) *connection.Pool {
	return connection.New(connection.Options{Local: true, Secrets: func(_ context.Context, namespace, name string) (map[string][]byte, error) {
		if data, ok := secrets[name]; ok && namespace == shop.Namespace {
			return data, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}})
}

func ask(t *testing.T, address string, q analysis.Query) analysis.Measurement {
	t.Helper()
	s, err := prometheus.New(prometheus.Options{Address: address, Connections: local(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Ask(t.Context(), q)
}

func TestEveryWrongAddressHasItsSentence(t *testing.T) {
	plain := httptest.NewServer(vector("1"))
	defer plain.Close()
	encrypted := httptest.NewTLSServer(vector("1"))
	defer encrypted.Close()
	closed := httptest.NewServer(vector("1"))
	closed.Close()
	tests := []struct {
		name, address, reason, message string
	}{
		{"none at all", "", v1beta1.ReasonSourceNotConfigured, "write prometheus.address in the metric"},
		{"nothing listens", closed.URL, v1beta1.ReasonSourceUnavailable, "nothing listens at http://127.0.0.1"},
		{"an unknown name", "http://prometheus.invalid:9090", v1beta1.ReasonSourceUnavailable, "prometheus.invalid"},
		{"http for https", strings.Replace(encrypted.URL, "https", "http", 1), v1beta1.ReasonSourceUnavailable, "write https:// in the address"},
		{"https for http", strings.Replace(plain.URL, "http", "https", 1), v1beta1.ReasonSourceUnavailable, "write http:// in the address"},
		{"a certificate nobody trusts", encrypted.URL, v1beta1.ReasonSourceUnavailable, "is not trusted"},
		{"not an address", "http://[", v1beta1.ReasonInvalidSpec, "write http://prometheus.monitoring:9090"},
		{"a password is not shown", "http://me:hush@" + strings.TrimPrefix(closed.URL, "http://"), v1beta1.ReasonSourceUnavailable, "nothing listens at http://127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, ask(t, "", scalarQuery(tt.address)), tt.reason, tt.message)
		})
	}
}

func TestAnAnswerWithoutEndIsCut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	s, err := prometheus.New(prometheus.Options{Connections: local(nil)})
	if err != nil {
		t.Fatal(err)
	}
	q := scalarQuery(server.URL)
	q.Metric.Prometheus.Timeout = &metav1.Duration{Duration: time.Minute}
	check(t, s.Ask(t.Context(), q), v1beta1.ReasonUnusableAnswer, "more than 32 MiB")
}

func TestBothVersionsAreAskedAtTheSameTimeWithTheirOwnFields(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.FormValue("query")+" @ "+r.FormValue("time"))
		vector(fmt.Sprint(len(asked)))(w, r)
	}))
	defer server.Close()
	q := scalarQuery("")
	m := ask(t, server.URL, q)
	if m.Problem != nil || m.Canary.Value != 1 || m.Stable.Value != 2 || !m.Canary.Present || !m.Stable.Present {
		t.Errorf("%+v", m)
	}
	want := []string{`orders{pod=~"checkout-canary-[0-9]"} @ 1800000000`, `orders{pod=~"checkout-[0-9]"} @ 1800000000`}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}

	asked = nil
	q.Metric.Prometheus.StableQuery, q.Metric.Prometheus.Query = "vector(1)", "vector(2)"
	ask(t, server.URL, q)
	if diff := cmp.Diff([]string{"vector(2) @ 1800000000", "vector(1) @ 1800000000"}, asked); diff != "" {
		t.Error(diff)
	}

	asked = nil
	q.Metric.Tolerance, q.Metric.Threshold = nil, &v1beta1.Threshold{}
	ask(t, server.URL, q)
	if len(asked) != 1 {
		t.Errorf("a threshold asks for the canary only, not %v", asked)
	}
}

func TestAFieldThatDoesNotExistIsAnError(t *testing.T) {
	q := scalarQuery("http://127.0.0.1:1")
	q.Metric.Prometheus.Query = "{{.Revision}}"
	check(t, ask(t, "", q), v1beta1.ReasonInvalidSpec, "{{.Revision}}, which is not one of {{.Namespace}}")
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, address := range []string{"prometheus:9090", "ftp://x", "http://", ":"} {
		if _, err := prometheus.New(prometheus.Options{Address: address}); err == nil || !strings.Contains(err.Error(), "write http://") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestAServerWithAnotherClockIsNotBelieved(t *testing.T) {
	for _, tt := range []struct {
		ahead time.Duration
		part  string // of the sentence; empty: it is believed
	}{{0, ""}, {4 * time.Second, ""}, {-4 * time.Second, ""}, {time.Minute, "is 1m0s ahead of Headgate's"}, {-time.Minute, "is 1m0s behind Headgate's"}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", now.Add(tt.ahead).UTC().Format(http.TimeFormat))
			vector("1")(w, r)
		}))
		s, err := prometheus.New(prometheus.Options{Connections: local(nil), Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		m := s.Ask(t.Context(), scalarQuery(server.URL))
		if tt.part != "" {
			check(t, m, v1beta1.ReasonClockSkew, tt.part)
		} else if m.Problem != nil {
			t.Errorf("%s: %+v", tt.ahead, m.Problem)
		}
		server.Close()
	}
}
