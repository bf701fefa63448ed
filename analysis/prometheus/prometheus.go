// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package prometheus answers the queries of an analysis from a server that speaks
// the Prometheus HTTP API: the metrics of the gateway from raw counters of its
// proxies, and numbers from queries of the user's own.
package prometheus

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"headgate.dev/headgate/analysis"
)

// Options say which server is asked, and how.
type Options struct {
	// Address of the server, for example http://prometheus.monitoring:9090. Empty:
	// metrics without an address of their own get the problem SourceNotConfigured.
	Address string
	// Timeout of one request. Default 10 seconds.
	Timeout time.Duration
	// Transport carries the requests. Default: the usual one, with its own pool.
	Transport http.RoundTripper
}

// Source asks Prometheus. Its methods may be called from several goroutines.
type Source struct {
	address   string
	timeout   time.Duration
	transport http.RoundTripper
}

// New checks the address. The error is a sentence that says what to write instead.
func New(o Options) (*Source, error) {
	if o.Address != "" {
		u, err := url.Parse(o.Address)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, fmt.Errorf("%q is not the address of a Prometheus: write http://prometheus.monitoring:9090", o.Address)
		}
	}
	s := &Source{address: o.Address, timeout: o.Timeout, transport: o.Transport}
	if s.timeout <= 0 {
		s.timeout = 10 * time.Second
	}
	if s.transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = s.timeout
		s.transport = t
	}
	return s, nil
}

// Ask answers one query within the source's timeout. What goes wrong is in the
// answer's Problem, which is a sentence for the user.
func (s *Source) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	m := analysis.Measurement{Metric: q.Metric.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked}
	switch q.Kind {
	case analysis.KindScalar:
		m.Stable, m.Canary, m.Problem = s.scalars(ctx, q)
	default:
		m.Stable, m.Canary, m.Problem = s.counts(ctx, q)
	}
	if m.Problem != nil {
		m.Stable, m.Canary = analysis.Sample{}, analysis.Sample{}
	}
	return m
}

// scalars asks the user's query for the canary and, where it is compared with
// stable, for stable.
func (s *Source) scalars(ctx context.Context, q analysis.Query) (stable, canary analysis.Sample, problem *analysis.Problem) {
	if q.Metric.Prometheus == nil {
		return stable, canary, invalid("the metric has no query: write prometheus: {query: …}")
	}
	if canary, problem = s.scalar(ctx, q, analysis.Canary); problem != nil {
		return stable, canary, problem
	}
	if q.Metric.Tolerance != nil {
		stable, problem = s.scalar(ctx, q, analysis.Stable)
	}
	return stable, canary, problem
}

func (s *Source) scalar(ctx context.Context, q analysis.Query, arm analysis.Arm) (analysis.Sample, *analysis.Problem) {
	text := q.Metric.Prometheus.Query
	if arm == analysis.Stable && q.Metric.Prometheus.StableQuery != "" {
		text = q.Metric.Prometheus.StableQuery
	}
	query, err := analysis.Render(text, analysis.FieldsFor(q, arm))
	if err != nil {
		return analysis.Sample{}, invalid(err.Error())
	}
	address := q.Metric.Prometheus.Address
	if address == "" {
		address = s.address
	}
	value, problem := s.query(ctx, address, query, q.To)
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

// query asks one instant query.
func (s *Source) query(ctx context.Context, address, query string, at time.Time) (model.Value, *analysis.Problem) {
	if address == "" {
		return nil, notConfigured()
	}
	seen := &exchange{transport: s.transport}
	client, err := api.NewClient(api.Config{Address: address, RoundTripper: seen})
	if err != nil {
		return nil, invalid(fmt.Sprintf("%q is not the address of a Prometheus: write http://prometheus.monitoring:9090", address))
	}
	value, warnings, _, err := promv1.NewAPI(client).Query(ctx, query, at, promv1.WithTimeout(s.timeout))
	f := failure{
		address: address, query: query, status: seen.status, contentType: seen.contentType,
		timeout: s.timeout, expired: ctx.Err(),
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
	return value, nil
}

// maxAnswer bounds an answer in bytes, so that no address a user writes can fill
// the operator's memory.
const maxAnswer = 64 << 20

// exchange carries the requests of one query and remembers how it was answered,
// which the client of the API does not tell.
type exchange struct {
	transport   http.RoundTripper
	status      int
	contentType string
}

// RoundTrip implements http.RoundTripper.
func (e *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.transport.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	e.status, e.contentType = resp.StatusCode, resp.Header.Get("Content-Type")
	resp.Body = &bounded{body: resp.Body, left: maxAnswer}
	return resp, nil
}

type bounded struct {
	body io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *bounded) Close() error { return b.body.Close() }
