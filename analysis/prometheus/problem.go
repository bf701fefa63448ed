// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

var errTooLarge = errors.New("the answer is too large")

func problem(reason, format string, args ...any) *analysis.Problem {
	return &analysis.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func invalid(sentence string) *analysis.Problem {
	return problem(v1beta1.ReasonInvalidSpec, "%s", sentence)
}

func notConfigured() *analysis.Problem {
	return problem(v1beta1.ReasonSourceNotConfigured,
		"there is no Prometheus to ask: install Headgate with the address of one, or write prometheus.address in the metric")
}

func noSeries(arm analysis.Arm, query string) *analysis.Problem {
	return problem(v1beta1.ReasonNoSeries,
		"the query for %s matched no series; run it in Prometheus, or append \"or vector(0)\" if nothing means 0: %s", arm, short(query))
}

func severalSeries(arm analysis.Arm, n int, query string) *analysis.Problem {
	return problem(v1beta1.ReasonSeveralSeries,
		"the query for %s gave %d numbers instead of one; aggregate them, for example with sum(…): %s", arm, n, short(query))
}

func notANumber(arm analysis.Arm, v float64, query string) *analysis.Problem {
	return problem(v1beta1.ReasonNotANumber,
		"the query for %s gave %v, as a division by zero does where there is no traffic: %s", arm, v, short(query))
}

func wrongShape(arm analysis.Arm, what, instead string) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer, "the query for %s gave %s instead of one number: %s", arm, what, instead)
}

func incomplete(address, warnings string) *analysis.Problem {
	return problem(v1beta1.ReasonUnusableAnswer, "%s warns about its answer: %s", redacted(address), short(warnings))
}

func notPrometheus(f failure) *analysis.Problem {
	return problem(v1beta1.ReasonSourceNotFound, "what answers at %s is not Prometheus (%s)", redacted(f.address), contentType(f))
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
	at := redacted(f.address)
	switch {
	case errors.Is(err, errTooLarge):
		return problem(v1beta1.ReasonUnusableAnswer,
			"%s gave an answer of more than %d MiB: aggregate more in the query", at, maxAnswer>>20)
	case errors.Is(f.expired, context.Canceled):
		return problem(v1beta1.ReasonSourceUnavailable, "the query to %s was stopped", at)
	case f.expired != nil || isTimeout(err):
		return problem(v1beta1.ReasonQueryTimedOut, "%s did not answer within %s", at, f.timeout)
	}
	if apiErr := new(promv1.Error); errors.As(err, &apiErr) {
		return explainAnswer(apiErr, at, f)
	}
	switch {
	case f.status/100 == 2 && strings.Contains(err.Error(), `unexpected value type "string"`):
		// The client of the API does not know this type of result.
		return problem(v1beta1.ReasonUnusableAnswer, "the query gave a text instead of one number: %s", short(f.query))
	case f.status/100 == 2:
		return notPrometheus(f)
	}
	return explainConnection(err, at)
}

// explainAnswer is for responses that are not a result.
func explainAnswer(err *promv1.Error, at string, f failure) *analysis.Problem {
	switch {
	case f.status/100 == 2 && strings.Contains(err.Msg, `unexpected value type "string"`):
		// The client of the API does not know this type of result.
		return problem(v1beta1.ReasonUnusableAnswer, "the query gave a text instead of one number: %s", short(f.query))
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
		return problem(v1beta1.ReasonQueryTimedOut, "%s took too long to evaluate the query: %s", at, short(f.query))
	case strings.Contains(err.Detail, "HTTP request to an HTTPS server"):
		return problem(v1beta1.ReasonSourceUnavailable, "%s speaks HTTPS: write https:// in the address", at)
	case f.status == http.StatusBadRequest && err.Type == promv1.ErrBadData:
		return problem(v1beta1.ReasonQueryRejected, "Prometheus does not understand the query (%s): %s", short(err.Msg), short(f.query))
	case f.status == http.StatusUnprocessableEntity:
		return problem(v1beta1.ReasonQueryRejected, "Prometheus cannot evaluate the query (%s): %s", short(err.Msg), short(f.query))
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "%s answered HTTP %d", at, f.status)
	}
}

// explainConnection is for addresses from which nothing came.
func explainConnection(err error, at string) *analysis.Problem {
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return problem(v1beta1.ReasonSourceUnavailable, "the name %s of %s is not known here: check the address", dns.Name, at)
	case errors.Is(err, syscall.ECONNREFUSED):
		return problem(v1beta1.ReasonSourceUnavailable, "nothing listens at %s: check the address, and whether Prometheus runs", at)
	case errors.As(err, &certificate):
		return problem(v1beta1.ReasonSourceUnavailable, "the certificate of %s is not trusted: %v", at, certificate.Err)
	case errors.Is(err, http.ErrSchemeMismatch) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return problem(v1beta1.ReasonSourceUnavailable, "%s does not speak HTTPS: write http:// in the address", at)
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "%s cannot be reached: %s", at, short(err.Error()))
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func contentType(f failure) string {
	if f.contentType == "" {
		return fmt.Sprintf("HTTP %d without a content type", f.status)
	}
	return fmt.Sprintf("HTTP %d, %s", f.status, short(f.contentType))
}

func redacted(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return "the address"
}

// short bounds what others wrote, for a status message.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
