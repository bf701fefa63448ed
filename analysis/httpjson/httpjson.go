// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package httpjson answers the queries of an analysis from any service that answers
// with JSON: a CEL expression takes one number out of the document.
package httpjson

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strings"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/analysis/expression"
	"headgate.dev/headgate/api/v1beta1"
)

// Source asks services. Its methods may be called from several goroutines.
type Source struct {
	// Connections makes the clients. Required.
	Connections *connection.Pool
}

// Ask asks the service for the canary's number and, with a tolerance, for stable's.
// What goes wrong is in the answer's Problem, which is a sentence for the user.
func (s *Source) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	m := analysis.Measurement{Metric: q.Metric.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
	value, err := expression.Compile(q.Metric.HTTP.Value)
	if err != nil {
		m.Problem = problem(v1beta1.ReasonInvalidSpec, "http.value: "+err.Error())
		return m
	}
	if q.Asks(analysis.Canary) {
		if m.Canary, m.Problem = s.number(ctx, q, analysis.Canary, value); m.Problem != nil {
			return m
		}
	}
	if q.Asks(analysis.Stable) {
		if m.Stable, m.Problem = s.number(ctx, q, analysis.Stable, value); m.Problem != nil {
			m.Canary = analysis.Sample{}
		}
	}
	return m
}

func (s *Source) number(ctx context.Context, q analysis.Query, arm analysis.Arm, value *expression.Number) (analysis.Sample, *analysis.Problem) {
	h := q.Metric.HTTP
	fields := analysis.FieldsFor(q, arm)
	address, err := analysis.Render(h.URL, fields, analysis.AsURL)
	if err != nil {
		return analysis.Sample{}, problem(v1beta1.ReasonInvalidSpec, "http.url: "+err.Error())
	}
	body, err := analysis.Render(h.Body, fields, analysis.AsJSON)
	if err != nil {
		return analysis.Sample{}, problem(v1beta1.ReasonInvalidSpec, "http.body: "+err.Error())
	}
	r := connection.Request{Method: http.MethodGet, URL: address}
	if h.Method == http.MethodPost {
		r.Method, r.Body = http.MethodPost, body
	}
	answer, trouble := s.Connections.Exchange(ctx, q.Subject.Namespace, h.Connection, r)
	if trouble != nil {
		return analysis.Sample{}, trouble
	}
	at := connection.Redacted(address)
	var document any
	if err := json.Unmarshal(answer, &document); err != nil {
		what := "is not JSON"
		if strings.TrimSpace(string(answer)) == "" {
			what = "is empty"
		}
		return analysis.Sample{}, problem(v1beta1.ReasonUnusableAnswer, "the answer of "+at+" for "+string(arm)+" "+what)
	}
	v, err := value.Of(document)
	switch {
	case err != nil:
		return analysis.Sample{}, problem(v1beta1.ReasonUnusableAnswer, "http.value on the answer of "+at+" for "+string(arm)+": "+err.Error())
	case math.IsNaN(v) || math.IsInf(v, 0):
		return analysis.Sample{}, problem(v1beta1.ReasonNotANumber,
			"http.value on the answer of "+at+" for "+string(arm)+" is not a finite number, as a division by zero is where there is no traffic; write total == 0.0 ? 0.0 : bad / total")
	}
	return analysis.Sample{Value: v, Present: true}, nil
}

func problem(reason, message string) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: message}
}
