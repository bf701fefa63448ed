// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package httpjson_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/analysis/httpjson"
	"headgate.dev/headgate/api/v1beta1"
)

var now = time.Unix(1_790_000_000, 0)

func query(h v1beta1.HTTPSource) analysis.Query {
	return analysis.Query{
		Kind: analysis.KindScalar, From: now.Add(-time.Minute), To: now, Asked: now,
		Metric: v1beta1.Metric{Name: "orders", HTTP: &h, Tolerance: &v1beta1.Tolerance{Relative: "10%"}},
		Subject: analysis.Subject{
			Namespace: "shop", Canary: "checkout", Attempt: 4, Step: 2, Weight: 25, Since: now.Add(-time.Minute),
			StableVersion: analysis.Version{Service: "checkout", Revision: "aaa"},
			CanaryVersion: analysis.Version{Service: "checkout-canary", Revision: "bbb"},
		},
	}
}

func ask(t *testing.T, q analysis.Query, secrets connection.Secrets) analysis.Measurement {
	t.Helper()
	s := &httpjson.Source{Connections: connection.New(connection.Options{Local: true, Secrets: secrets})}
	return s.Ask(t.Context(), q)
}

func TestBothVersionsAreAskedAndTheirNumbersTaken(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.String()+" "+string(body))
		fmt.Fprintf(w, `{"data": {"errors": %d, "total": 200}}`, len(asked))
	}))
	defer server.Close()
	q := query(v1beta1.HTTPSource{URL: server.URL + "/{{.Version}}?window={{.Window}}", Value: "body.data.errors / double(body.data.total)"})
	m := ask(t, q, nil)
	if m.Problem != nil || m.Canary.Value != 0.005 || m.Stable.Value != 0.01 || !m.Stable.Present || !m.Canary.Present {
		t.Errorf("%+v, %+v", m, m.Problem)
	}
	q.Metric.HTTP.Method, q.Metric.HTTP.Body = "POST", `{"service": "{{.Service}}"}`
	q.Metric.Tolerance, q.Metric.Threshold = nil, &v1beta1.Threshold{}
	if m := ask(t, q, nil); m.Problem != nil || m.Stable.Present {
		t.Errorf("with a threshold stable does not matter: %+v, %+v", m, m.Problem)
	}
	want := []string{"GET /bbb?window=60s ", "GET /aaa?window=60s ", `POST /bbb?window=60s {"service": "checkout-canary"}`}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStableIsAskedForBeforeTheCanaryHasAllTraffic(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "1") }))
	defer server.Close()
	q := query(v1beta1.HTTPSource{URL: server.URL, Value: "body"})
	q.Subject.Weight = 100
	if m := ask(t, q, nil); m.Problem != nil || !m.Canary.Present || m.Stable.Present {
		t.Errorf("at 100%% only the canary has traffic: %+v, %+v", m, m.Problem)
	}
	q.To = q.Subject.Since
	if m := ask(t, q, nil); m.Problem != nil || m.Canary.Present || !m.Stable.Present {
		t.Errorf("before it stable had: %+v, %+v", m, m.Problem)
	}
}

func TestEveryAnswerThatIsNoNumberHasItsSentence(t *testing.T) {
	tests := []struct {
		name, body, value, reason, message string
	}{
		{"no JSON", "<html>hush</html>", "body.n", v1beta1.ReasonUnusableAnswer, "for canary is not JSON"},
		{"nothing", " ", "body.n", v1beta1.ReasonUnusableAnswer, "for canary is empty"},
		{"two documents", `{"n":1} {"n":2}`, "body.n", v1beta1.ReasonUnusableAnswer, "is not JSON"},
		{"no such field", `{"hush": 1}`, "body.n", v1beta1.ReasonUnusableAnswer, "no such field"},
		{"a text", `{"n": "hush"}`, "body.n", v1beta1.ReasonUnusableAnswer, "it gives a string instead of a number"},
		{"a text that is no number", `{"n": "hush"}`, "double(body.n)", v1beta1.ReasonUnusableAnswer, "cannot be evaluated on this answer"},
		{"a division by zero", `{"n": 1, "total": 0}`, "body.n / body.total", v1beta1.ReasonNotANumber, "is not a finite number"},
		{"too much", `"` + strings.Repeat("x", 1<<20) + `"`, "body.n", v1beta1.ReasonUnusableAnswer, "more than 1 MiB"},
		{"no CEL", `{}`, "body.", v1beta1.ReasonInvalidSpec, "http.value: it is not a CEL expression"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tt.body) }))
			defer server.Close()
			m := ask(t, query(v1beta1.HTTPSource{URL: server.URL + "/?token=hush", Value: tt.value}), nil)
			if m.Problem == nil || m.Problem.Reason != tt.reason || !strings.Contains(m.Problem.Message, tt.message) || strings.Contains(m.Problem.Message, "hush") {
				t.Errorf("got %+v, want %s: %s", m.Problem, tt.reason, tt.message)
			}
			if m.Canary.Present || m.Stable.Present {
				t.Error("a number beside a problem")
			}
		})
	}
}

func TestAServerWithTLSIsAskedWithATokenFromASecret(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"n": 7}`)
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	secrets := func(context.Context, string, string) (map[string][]byte, error) {
		return map[string][]byte{"token": []byte("t0ken"), "ca.crt": ca}, nil
	}
	h := v1beta1.HTTPSource{URL: server.URL, Value: "body.n", Connection: v1beta1.Connection{
		TLS: &v1beta1.ClientTLS{CA: &v1beta1.SecretKeyReference{Name: "s", Key: "ca.crt"}},
	}}
	if m := ask(t, query(h), secrets); m.Problem == nil || m.Problem.Reason != v1beta1.ReasonAccessDenied {
		t.Errorf("without the token: %+v", m.Problem)
	}
	h.BearerToken = &v1beta1.SecretKeyReference{Name: "s", Key: "token"}
	if m := ask(t, query(h), secrets); m.Problem != nil || m.Canary.Value != 7 {
		t.Errorf("with it: %+v, %+v", m, m.Problem)
	}
}
