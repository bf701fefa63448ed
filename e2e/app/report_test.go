// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestItReportsItsNumber(t *testing.T) {
	h := newApp(options{Version: "v2", Waiting: 12}, nil, nil).routes()
	if code, body, _ := get(t, h, "/report"); code != http.StatusOK || strings.TrimSpace(body) != `{"version":"v2","waiting":12}` {
		t.Errorf("/report = %d %s", code, body)
	}
}

func TestTheGateAnswersWhoKnowsTheToken(t *testing.T) {
	const question = `{"canary": "checkout", "service": "checkout-canary", "stableService": "checkout"}`
	tests := []struct {
		name, token, authorization, body string
		status                           int
		answer                           string
	}{
		{"with the token", "sesame", "Bearer sesame", question, 200, `{"verdict":"Fail","message":"asked about checkout-canary beside checkout"}`},
		{"with another token", "sesame", "Bearer simsim", question, 401, "who are you?"},
		{"without a token", "sesame", "", question, 401, "who are you?"},
		{"when it has none itself", "", "Bearer ", question, 401, "who are you?"},
		{"about nothing", "sesame", "Bearer sesame", `{}`, 400, "ask about a Canary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newApp(options{Verdict: "Fail", GateToken: tt.token}, nil, nil).routes()
			r := httptest.NewRequest(http.MethodPost, "/gate", strings.NewReader(tt.body))
			r.Header.Set("Authorization", tt.authorization)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status || strings.TrimSpace(w.Body.String()) != tt.answer {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, tt.status, tt.answer)
			}
		})
	}
}
