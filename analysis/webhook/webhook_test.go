// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/analysis/webhook"
	"headgate.dev/headgate/api/v1beta1"
)

func query(url string) analysis.Query {
	return analysis.Query{
		Kind:   analysis.KindVerdict,
		Metric: v1beta1.Metric{Name: "gate", Webhook: &v1beta1.WebhookSource{URL: url}},
		Subject: analysis.Subject{
			Namespace: "shop", Canary: "checkout", Attempt: 4, Step: 2, Weight: 25,
			StableVersion: analysis.Version{Service: "checkout", Revision: "aaa"},
			CanaryVersion: analysis.Version{Service: "checkout-canary", Revision: "bbb"},
		},
	}
}

func ask(t *testing.T, url string) analysis.Measurement {
	t.Helper()
	s := &webhook.Source{Connections: connection.New(connection.Options{Local: true})}
	return s.Ask(t.Context(), query(url))
}

func TestTheQuestionSaysWhatIsReleased(t *testing.T) {
	var asked map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != "/checkout-canary" {
			t.Errorf("%s %s with %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	m := ask(t, server.URL+"/{{.Service}}")
	if m.Problem != nil || m.Canary.Value != 0 || !m.Canary.Present || m.Metric != "gate" || m.Kind != analysis.KindVerdict {
		t.Errorf("an answer without a body is a pass: %+v, %+v", m, m.Problem)
	}
	want := map[string]any{
		"namespace": "shop", "canary": "checkout", "metric": "gate", "release": 4.0, "step": 2.0, "weight": 25.0,
		"version": "bbb", "service": "checkout-canary", "stableVersion": "aaa", "stableService": "checkout",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryAnswerIsPassFailOrAProblem(t *testing.T) {
	long := strings.Repeat("very ", 1000)
	tests := []struct {
		name, body string
		status     int
		value      float64
		says       string
		reason     string // empty: it is a verdict
		message    string
	}{
		{"pass", `{"verdict": "Pass"}`, 200, 0, "", "", ""},
		{"pass with a message", `{"verdict": "Pass", "message": "all\n good"}`, 201, 0, "all good", "", ""},
		{"no body", " \n", 204, 0, "", "", ""},
		{"fail", `{"verdict": "Fail", "message": "orders are missing"}`, 200, 1, "orders are missing", "", ""},
		{"unknown", `{"verdict": "Unknown", "message": "the nightly run has not ended"}`, 200, 0, "", v1beta1.ReasonNotDecided, "cannot say yet: the nightly run has not ended"},
		{"unknown without a word", `{"verdict": "Unknown"}`, 200, 0, "", v1beta1.ReasonNotDecided, "it gives no reason"},
		{"another verdict", `{"verdict": "pass"}`, 200, 0, "", v1beta1.ReasonUnusableAnswer, "none of Pass, Fail and Unknown"},
		{"no verdict", `{}`, 200, 0, "", v1beta1.ReasonUnusableAnswer, "none of Pass, Fail and Unknown"},
		{"no JSON", `<html>hush</html>`, 200, 0, "", v1beta1.ReasonUnusableAnswer, `let it answer {"verdict": "Pass"}`},
		{"no object", `"Fail"`, 200, 0, "", v1beta1.ReasonUnusableAnswer, `let it answer {"verdict": "Pass"}`},
		{"an error is never a fail", `{"verdict": "Fail", "message": "hush"}`, 500, 0, "", v1beta1.ReasonSourceUnavailable, "answered HTTP 500"},
		{"401", "hush", 401, 0, "", v1beta1.ReasonAccessDenied, "asks for credentials (HTTP 401)"},
		{"403", "", 403, 0, "", v1beta1.ReasonAccessDenied, "HTTP 403"},
		{"404", "", 404, 0, "", v1beta1.ReasonSourceNotFound, "HTTP 404"},
		{"400", "", 400, 0, "", v1beta1.ReasonQueryRejected, "HTTP 400"},
		{"429", "", 429, 0, "", v1beta1.ReasonSourceUnavailable, "HTTP 429"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				if tt.status != 204 {
					_, _ = io.WriteString(w, tt.body)
				}
			}))
			defer server.Close()
			m := ask(t, server.URL+"?token=hush")
			if tt.reason == "" {
				if m.Problem != nil || m.Canary.Value != tt.value || !m.Canary.Present || m.Says != tt.says {
					t.Errorf("%+v, %+v", m, m.Problem)
				}
				return
			}
			if m.Problem == nil || m.Problem.Reason != tt.reason || !strings.Contains(m.Problem.Message, tt.message) || strings.Contains(m.Problem.Message, "hush") {
				t.Errorf("got %+v, want %s: %s", m.Problem, tt.reason, tt.message)
			}
			if m.Canary.Present {
				t.Error("a problem beside a verdict")
			}
		})
	}
	t.Run("a message without end", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"verdict": "Fail", "message": "`+long+`"}`)
		}))
		defer server.Close()
		if m := ask(t, server.URL); m.Canary.Value != 1 || len(m.Says) > 512 {
			t.Errorf("%d bytes: %+v", len(m.Says), m.Problem)
		}
	})
}
