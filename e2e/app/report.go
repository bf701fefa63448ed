// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
)

// report is what a version says of itself as JSON, at /report: a number that no
// proxy and no Prometheus sees.
type report struct {
	Version string  `json:"version"`
	Waiting float64 `json:"waiting"`
}

// verdict is the answer of a webhook that says whether a release may go on.
type verdict struct {
	Verdict string `json:"verdict"`
	Message string `json:"message"`
}

func (a *app) report(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(report{Version: a.options.Version, Waiting: a.options.Waiting}) // the caller is gone when this fails
}

// gate answers as the webhook of a release, at /gate, with the verdict it was given. Only
// those who know its token get one.
func (a *app) gate(w http.ResponseWriter, r *http.Request) {
	if a.options.GateToken == "" || r.Header.Get("Authorization") != "Bearer "+a.options.GateToken {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	var question struct{ Canary, Service, StableService string }
	if err := json.NewDecoder(r.Body).Decode(&question); err != nil || question.Canary == "" {
		http.Error(w, "ask about a Canary", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(verdict{ // the caller is gone when this fails
		Verdict: a.options.Verdict,
		Message: "asked about " + question.Service + " beside " + question.StableService,
	})
}
