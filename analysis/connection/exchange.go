// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"context"
	"io"
	"net/http"
	"strings"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// maxBody is how many bytes of an answer in JSON are read.
const maxBody = 1 << 20

// Request is one question whose answer is a small document.
type Request struct {
	Method, URL string
	// Body is sent as JSON; empty for none.
	Body string
}

// Exchange asks once, on a connection of its own, within the connection's time-out, and gives the answer's body. Of an answer that is
// not a 2xx the problem says the status, and nothing of what it contains.
func (p *Pool) Exchange(ctx context.Context, namespace string, c v1beta1.Connection, r Request) ([]byte, *analysis.Problem) {
	client, trouble := p.Client(ctx, namespace, c, Use{Limit: maxBody, Fresh: true})
	if trouble != nil {
		return nil, trouble
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout(c))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return nil, problem(v1beta1.ReasonInvalidSpec, "%s is not an address: write one that begins with http:// or https://", Redacted(r.URL))
	}
	request.Header.Set("Accept", "application/json")
	if r.Body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	failure := Failure{Address: r.URL, Timeout: Timeout(c)}
	resp, err := client.Do(request)
	if err != nil {
		failure.Expired = ctx.Err()
		return nil, Explain(err, failure)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end, or given up
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp.StatusCode, Redacted(r.URL))
	}
	body, err := io.ReadAll(resp.Body)
	switch {
	case IsTooLarge(err):
		return nil, problem(v1beta1.ReasonUnusableAnswer, "%s gave an answer of more than 1 MiB: ask for less", Redacted(r.URL))
	case err != nil:
		failure.Expired = ctx.Err()
		return nil, Explain(err, failure)
	}
	return body, nil
}

// refusal is for answers that are not a 2xx.
func refusal(status int, at string) *analysis.Problem {
	switch status {
	case http.StatusUnauthorized:
		return problem(v1beta1.ReasonAccessDenied, "%s asks for credentials (HTTP 401)", at)
	case http.StatusForbidden:
		return problem(v1beta1.ReasonAccessDenied, "%s forbids the request (HTTP 403)", at)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return problem(v1beta1.ReasonSourceNotFound, "there is nothing to ask at %s (HTTP %d): check the path and the method", at, status)
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return problem(v1beta1.ReasonQueryRejected, "%s does not understand the request (HTTP %d)", at, status)
	case http.StatusTooManyRequests:
		return problem(v1beta1.ReasonSourceUnavailable, "%s is asked too often (HTTP 429): write a longer interval", at)
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "%s answered HTTP %d", at, status)
	}
}
