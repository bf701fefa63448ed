// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/api/v1beta1"
)

func problem(reason, format string, args ...any) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *analysis.Problem {
	return problem(v1beta1.ReasonInvalidSpec, format, args...)
}

func notConfigured() *analysis.Problem {
	return problem(v1beta1.ReasonSourceNotConfigured,
		"there is no Prometheus to ask: install Headgate with the address of one, or write prometheus.address in the metric")
}

func noSeries(arm analysis.Arm, query string) *analysis.Problem {
	return problem(v1beta1.ReasonNoSeries,
		"the query for %s matched no series; run it in Prometheus, or append \"or vector(0)\" if nothing means 0: %s", arm, connection.Short(query))
}

func severalSeries(arm analysis.Arm, n int, query string) *analysis.Problem {
	return problem(v1beta1.ReasonSeveralSeries,
		"the query for %s gave %d numbers instead of one; aggregate them, for example with sum(…): %s", arm, n, connection.Short(query))
}

func notANumber(arm analysis.Arm, v float64, query string) *analysis.Problem {
	return problem(v1beta1.ReasonNotANumber,
		"the query for %s gave %v, as a division by zero does where there is no traffic: %s", arm, v, connection.Short(query))
}

func noCounter(arm analysis.Arm, selector string) *analysis.Problem {
	return problem(v1beta1.ReasonNoSeries,
		"%s has no series of %s: check the labels, and whether its pods are scraped", arm, connection.Short(selector))
}

func badUnknown(selector string) *analysis.Problem {
	return problem(v1beta1.ReasonNoSeries,
		"no version has a series of the bad counter %s, so none can be told from a misspelled one: let the app create it with the value 0, or count by a label of the total counter", connection.Short(selector))
}

func noLabel(name, label string) *analysis.Problem {
	return problem(v1beta1.ReasonNoSeries,
		"no series of %s carries the label %s that counters.bad asks for: nothing would ever be bad; check the name of the label", name, label)
}

func moreBadThanAll(arm analysis.Arm, bad, total float64) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer,
		"of %s the bad counter rose by %v and the total by only %v: counters.total must count the bad requests too", arm, bad, total)
}

func notHistogram(selector string) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer,
		"%s is no histogram: its series are neither native nor do they have the label le, as those ending in _bucket do", connection.Short(selector))
}

func wrongShape(arm analysis.Arm, what, instead string) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer, "the query for %s gave %s instead of one number: %s", arm, what, instead)
}

func incomplete(address, warnings string) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer, "%s warns about its answer: %s", connection.Redacted(address), connection.Short(warnings))
}

func clockSkew(address string, ahead time.Duration) *analysis.Problem {
	which := "ahead of"
	if ahead < 0 {
		which = "behind"
	}
	return problem(v1beta1.ReasonClockSkew, "the clock of %s is %s %s Headgate's, so it cannot be said what was counted since the weight was confirmed: correct the clocks",
		connection.Redacted(address), ahead.Abs().Round(time.Second), which)
}

func notPrometheus(f failure) *analysis.Problem {
	return problem(v1beta1.ReasonSourceNotFound, "what answers at %s is not Prometheus (%s)", connection.Redacted(f.address), contentType(f))
}

// failure is what is known of a query that was not answered.
type failure struct {
	address, query string
	// status and contentType of the last response; 0 where there was none.
	status      int
	contentType string
	timeout     time.Duration
	// expired is the error of the query's context.
	expired error
}

// explain says what went wrong and what to do, without repeating the body of a
// response from an address a user wrote.
func explain(err error, f failure) *analysis.Problem {
	at := connection.Redacted(f.address)
	if connection.IsTooLarge(err) {
		return problem(v1beta1.ReasonUnusableAnswer,
			"%s gave an answer of more than %d MiB: aggregate more in the query", at, maxAnswer>>20)
	}
	if apiErr := new(promv1.Error); f.status != 0 && f.expired == nil && errors.As(err, &apiErr) {
		return explainAnswer(apiErr, at, f)
	}
	switch {
	case f.expired != nil || f.status/100 != 2:
		return connection.Explain(err, connection.Failure{Address: f.address, Timeout: f.timeout, Expired: f.expired})
	case strings.Contains(err.Error(), `unexpected value type "string"`):
		// The client of the API does not know this type of result.
		return problem(v1beta1.ReasonUnusableAnswer, "the query gave a text instead of one number: %s", connection.Short(f.query))
	}
	return notPrometheus(f)
}

// explainAnswer is for responses that are not a result.
func explainAnswer(err *promv1.Error, at string, f failure) *analysis.Problem {
	switch {
	case f.status/100 == 2 && strings.Contains(err.Msg, `unexpected value type "string"`):
		// The client of the API does not know this type of result.
		return problem(v1beta1.ReasonUnusableAnswer, "the query gave a text instead of one number: %s", connection.Short(f.query))
	case f.status/100 == 2:
		return notPrometheus(f)
	case f.status == http.StatusUnauthorized:
		return problem(v1beta1.ReasonAccessDenied, "%s asks for credentials (HTTP 401)", at)
	case f.status == http.StatusForbidden:
		return problem(v1beta1.ReasonAccessDenied, "%s forbids the query (HTTP 403)", at)
	case f.status == http.StatusNotFound || f.status == http.StatusMethodNotAllowed:
		return problem(v1beta1.ReasonSourceNotFound,
			"there is no Prometheus API under %s (HTTP %d): the address ends before /api/v1", at, f.status)
	case f.status == http.StatusTooManyRequests:
		return problem(v1beta1.ReasonSourceUnavailable, "%s is asked too often (HTTP 429): write a longer analysis.interval", at)
	case strings.Contains(err.Detail, `"errorType":"timeout"`) || err.Type == promv1.ErrTimeout:
		return problem(v1beta1.ReasonQueryTimedOut, "%s took too long to evaluate the query: %s", at, connection.Short(f.query))
	case strings.Contains(err.Detail, "HTTP request to an HTTPS server"):
		return problem(v1beta1.ReasonSourceUnavailable, "%s speaks HTTPS: write https:// in the address", at)
	case f.status == http.StatusBadRequest && err.Type == promv1.ErrBadData:
		return problem(v1beta1.ReasonQueryRejected, "Prometheus does not understand the query (%s): %s", connection.Short(err.Msg), connection.Short(f.query))
	case f.status == http.StatusUnprocessableEntity:
		return problem(v1beta1.ReasonQueryRejected, "Prometheus cannot evaluate the query (%s): %s", connection.Short(err.Msg), connection.Short(f.query))
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "%s answered HTTP %d", at, f.status)
	}
}

func contentType(f failure) string {
	if f.contentType == "" {
		return fmt.Sprintf("HTTP %d without a content type", f.status)
	}
	return fmt.Sprintf("HTTP %d, %s", f.status, connection.Short(f.contentType))
}
