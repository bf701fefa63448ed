// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package prometheus answers the queries of an analysis from a server that speaks
// the Prometheus HTTP API: one number from a query, requests and bad requests from counters,
// and latencies from histograms. Counters and histograms are read as raw samples:
// rate() and increase() extrapolate, and a sum of extrapolated counts is not a count.
package prometheus

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

// Options say which server is asked, and how.
type Options struct {
	// Address of the server, for example http://prometheus.monitoring:9090. Empty:
	// metrics without an address of their own get the problem SourceNotConfigured.
	Address string
	// Connections makes the clients. Required.
	Connections *connection.Pool
	// Now is the clock that the server's is compared with. Nil: it is not compared.
	Now func() time.Time
}

// Source asks Prometheus. Its methods may be called from several goroutines.
type Source struct {
	address     string
	connections *connection.Pool
	now         func() time.Time
}

// New checks the address. The error is a sentence that says what to write instead.
func New(o Options) (*Source, error) {
	if o.Address != "" {
		u, err := url.Parse(o.Address)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%q is not the address of a Prometheus: write http://prometheus.monitoring:9090", o.Address)
		}
	}
	return &Source{address: o.Address, connections: o.Connections, now: o.Now}, nil
}

// Ask answers one query, each request within the time-out of the metric. What goes wrong is in the
// answer's Problem, which is a sentence for the user.
func (s *Source) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	p := settings(q)
	m := analysis.Measurement{Metric: q.Metric.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
	switch {
	case p.Counters != nil:
		m.Stable, m.Canary, m.Problem = s.counters(ctx, q)
	case p.Histogram != "":
		m.Stable, m.Canary, m.Problem = s.histograms(ctx, q)
	default:
		m.Stable, m.Canary, m.Problem = s.scalars(ctx, q)
	}
	if m.Problem != nil {
		m.Stable, m.Canary = analysis.Sample{}, analysis.Sample{}
	}
	return m
}

// settings are what the metric says about its source.
func settings(q analysis.Query) v1beta1.PrometheusSource {
	if q.Metric.Prometheus == nil {
		return v1beta1.PrometheusSource{}
	}
	return *q.Metric.Prometheus
}

func (s *Source) addressOf(q analysis.Query) string {
	if own := settings(q).Address; own != "" {
		return own
	}
	return s.address
}

// scalars asks the user's query for the canary and, where it is compared with
// stable, for stable.
func (s *Source) scalars(ctx context.Context, q analysis.Query) (stable, canary analysis.Sample, problem *analysis.Problem) {
	if q.Asks(analysis.Canary) {
		if canary, problem = s.scalar(ctx, q, analysis.Canary); problem != nil {
			return stable, canary, problem
		}
	}
	if q.Asks(analysis.Stable) {
		stable, problem = s.scalar(ctx, q, analysis.Stable)
	}
	return stable, canary, problem
}

func (s *Source) scalar(ctx context.Context, q analysis.Query, arm analysis.Arm) (analysis.Sample, *analysis.Problem) {
	text := settings(q).Query
	if own := settings(q).StableQuery; arm == analysis.Stable && own != "" {
		text = own
	}
	query, err := analysis.Render(text, analysis.FieldsFor(q, arm), nil)
	switch {
	case err != nil:
		return analysis.Sample{}, invalid("the query cannot be asked: %v", err)
	case strings.TrimSpace(query) == "":
		return analysis.Sample{}, invalid("the metric has no query: write prometheus: {query: …}")
	}
	value, problem := s.ask(ctx, q, query)
	if problem != nil {
		return analysis.Sample{}, problem
	}
	v, problem := soleNumber(value, arm, query)
	if problem != nil {
		return analysis.Sample{}, problem
	}
	return analysis.Sample{Value: v, Present: true}, nil
}

// soleNumber is the one finite number of an answer.
func soleNumber(value model.Value, arm analysis.Arm, query string) (float64, *analysis.Problem) {
	var v float64
	switch value := value.(type) {
	case *model.Scalar:
		v = float64(value.Value)
	case model.Vector:
		switch {
		case len(value) == 0:
			return 0, noSeries(arm, query)
		case len(value) > 1:
			return 0, severalSeries(arm, len(value), query)
		case value[0].Histogram != nil:
			return 0, wrongShape(arm, "a histogram", "take a number from it, for example with histogram_quantile(0.99, …)")
		}
		v = float64(value[0].Value)
	case model.Matrix:
		return 0, wrongShape(arm, "a range of samples", "aggregate over the range, for example with sum(rate(…[{{.Window}}]))")
	default:
		return 0, wrongShape(arm, fmt.Sprintf("%T", value), "write a query that gives one number")
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, notANumber(arm, v, query)
	}
	return v, nil
}

// lookback is how far before From samples are asked for, to find the last one at
// or before it: more than the usual intervals of scraping.
const lookback = 2*time.Minute + 5*time.Second

// samples asks for the raw samples of a selector for an arm, so far back that the
// last one before From is among them. The selector is also given as it was asked.
func (s *Source) samples(ctx context.Context, q analysis.Query, arm analysis.Arm, selector string) (model.Matrix, string, *analysis.Problem) {
	text, err := analysis.Render(selector, analysis.FieldsFor(q, arm), nil)
	if err != nil {
		return nil, "", invalid("the selector cannot be asked: %v", err)
	}
	if _, err := analysis.ParseSelector(text); err != nil {
		return nil, "", invalid("%v", err)
	}
	value, problem := s.ask(ctx, q, fmt.Sprintf("%s[%dms]", strings.TrimSpace(text), (q.To.Sub(q.From)+lookback).Milliseconds()))
	if problem != nil {
		return nil, "", problem
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, "", incomplete(s.addressOf(q), fmt.Sprintf("it is a %T, not a range of samples", value))
	}
	return matrix, text, nil
}

// maxAnswer bounds an answer in bytes, so that no address a user writes can fill
// the operator's memory.
const maxAnswer = 32 << 20

// ask asks one instant query.
func (s *Source) ask(ctx context.Context, q analysis.Query, query string) (model.Value, *analysis.Problem) {
	address, conn := s.addressOf(q), settings(q).Connection
	if address == "" {
		return nil, notConfigured()
	}
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout(conn))
	defer cancel()
	client, problem := s.connections.Client(ctx, q.Subject.Namespace, conn, connection.Use{
		Limit: maxAnswer, Trusted: settings(q).Address == "",
	})
	if problem != nil {
		return nil, problem
	}
	seen := &exchange{transport: client.Transport}
	client.Transport = seen
	asker, err := api.NewClient(api.Config{Address: address, Client: client})
	if err != nil {
		return nil, invalid("%q is not the address of a Prometheus: write http://prometheus.monitoring:9090", connection.Redacted(address))
	}
	value, warnings, _, err := promv1.NewAPI(asker).Query(ctx, query, q.To, promv1.WithTimeout(connection.Timeout(conn)))
	f := failure{
		address: address, query: query, status: seen.status, contentType: seen.contentType,
		timeout: connection.Timeout(conn), expired: ctx.Err(),
	}
	switch {
	case err != nil:
		return nil, explain(err, f)
	case value == nil:
		return nil, notPrometheus(f)
	}
	if len(warnings) > 0 {
		return nil, incomplete(address, strings.Join(warnings, "; "))
	}
	if skew, known := s.skew(seen.date); known && skew.Abs() > maxSkew {
		return nil, clockSkew(address, skew)
	}
	return value, nil
}

// maxSkew is how far the server's clock may be from ours. Its samples carry its time, and
// what was counted in an interval is what it says was counted then.
const maxSkew = 5 * time.Second

// skew is how far the clock of the server is ahead of ours, by the date of its answer, which
// has whole seconds.
func (s *Source) skew(date string) (time.Duration, bool) {
	at, err := http.ParseTime(date)
	if err != nil || s.now == nil {
		return 0, false
	}
	return at.Sub(s.now()), true
}

// exchange carries the requests of one query and remembers how it was answered,
// which the client of the API does not tell.
type exchange struct {
	transport   http.RoundTripper
	status      int
	contentType string
	date        string
}

// RoundTrip implements http.RoundTripper.
func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	e.status, e.contentType = 0, ""
	resp, err := e.transport.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	e.status, e.contentType, e.date = resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Date")
	return resp, nil
}
