// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook asks a service of the user's own whether a release may go on.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

// Source asks webhooks. Its methods may be called from several goroutines.
type Source struct {
	// Connections makes the clients. Required.
	Connections *connection.Pool
}

// Question is the body of the request.
type Question struct {
	// Namespace and Canary name the Canary, Metric the metric that asks.
	Namespace string `json:"namespace"`
	Canary    string `json:"canary"`
	Metric    string `json:"metric"`
	// Release counts the attempts of the Canary from 1, Step the steps of this one from 1.
	Release int64 `json:"release"`
	Step    int32 `json:"step"`
	// Weight is the canary's confirmed share of the traffic in percent.
	Weight int32 `json:"weight"`
	// Version and StableVersion are the pod-template-hashes, Service and StableService
	// the Services of both versions.
	Version       string `json:"version"`
	Service       string `json:"service"`
	StableVersion string `json:"stableVersion"`
	StableService string `json:"stableService"`
}

// answer is the body of the response.
type answer struct {
	Verdict v1beta1.VerdictResult `json:"verdict"`
	Message string                `json:"message"`
}

// Ask posts what is being released. What goes wrong, and the verdict Unknown, is in
// the answer's Problem, which is a sentence for the user.
func (s *Source) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	m := analysis.Measurement{Metric: q.Metric.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
	w := q.Metric.Webhook
	address, err := analysis.Render(w.URL, analysis.FieldsFor(q, analysis.Canary), analysis.AsURL)
	if err != nil {
		m.Problem = problem(v1beta1.ReasonInvalidSpec, "webhook.url: %v", err)
		return m
	}
	body, err := json.Marshal(Question{
		Namespace: q.Subject.Namespace, Canary: q.Subject.Canary, Metric: q.Metric.Name,
		Release: q.Subject.Attempt, Step: q.Subject.Step, Weight: q.Subject.Weight,
		Version: q.Subject.CanaryVersion.Revision, Service: q.Subject.CanaryVersion.Service,
		StableVersion: q.Subject.StableVersion.Revision, StableService: q.Subject.StableVersion.Service,
	})
	if err != nil {
		m.Problem = problem(v1beta1.ReasonUnusableAnswer, "encoding the question: %v", err)
		return m
	}
	said, trouble := s.Connections.Exchange(ctx, q.Subject.Namespace, w.Connection, connection.Request{Method: http.MethodPost, URL: address, Body: string(body)})
	if trouble != nil {
		m.Problem = trouble
		return m
	}
	m.Canary.Value, m.Says, m.Problem = understood(said, connection.Redacted(address))
	m.Canary.Present = m.Problem == nil
	return m
}

// understood reads the answer: 0 for Pass, 1 for Fail.
func understood(said []byte, at string) (verdict float64, says string, trouble *analysis.Problem) {
	if len(bytes.TrimSpace(said)) == 0 {
		return 0, "", nil
	}
	var a answer
	if err := json.Unmarshal(said, &a); err != nil {
		return 0, "", problem(v1beta1.ReasonUnusableAnswer, `%s did not answer with a verdict: let it answer {"verdict": "Pass"}, {"verdict": "Fail", "message": "…"} or {"verdict": "Unknown"}`, at)
	}
	switch a.Verdict {
	case v1beta1.VerdictPass:
		return 0, brief(a.Message), nil
	case v1beta1.VerdictFail:
		return 1, brief(a.Message), nil
	case v1beta1.VerdictUnknown:
		if a.Message == "" {
			a.Message = "it gives no reason"
		}
		return 0, "", problem(v1beta1.ReasonNotDecided, "%s cannot say yet: %s", at, brief(a.Message))
	default:
		return 0, "", problem(v1beta1.ReasonUnusableAnswer, `%s gave a verdict that is none of Pass, Fail and Unknown`, at)
	}
}

// brief bounds what a service says, for a status message.
func brief(s string) string { return connection.Short(s) }

func problem(reason, format string, args ...any) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
