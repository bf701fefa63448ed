// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestASmokeTestFailsWithTheFirstBadAnswer(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/bad" && asked == 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	if err := smoke(server.URL + "/good"); err != nil || asked != 20 {
		t.Errorf("%v after %d questions", err, asked)
	}
	asked = 0
	if err := smoke(server.URL + "/bad"); err == nil || !strings.Contains(err.Error(), "500") || asked != 3 {
		t.Errorf("%v after %d questions", err, asked)
	}
}
