// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

var errTooLarge = errors.New("the answer is too large")

// IsTooLarge says whether an answer was longer than what is read of one.
func IsTooLarge(err error) bool { return errors.Is(err, errTooLarge) }

// Failure is what is known of a request that was not answered.
type Failure struct {
	Address string
	Timeout time.Duration
	// Expired is the error of the request's context.
	Expired error
}

// Explain says why a request was not answered and what to do, without repeating
// anything of the answer.
func Explain(err error, f Failure) *analysis.Problem {
	at := Redacted(f.Address)
	var redirect *redirectError
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return problem(v1beta1.ReasonSourceUnavailable, "%s is not asked: %s", at, refused)
	case errors.As(err, &redirect):
		return problem(v1beta1.ReasonSourceNotFound, "%s %s, where it could not be followed with what belongs to this address: write the address that answers", at, redirect)
	case errors.Is(f.Expired, context.Canceled):
		return problem(v1beta1.ReasonSourceUnavailable, "the question to %s was stopped", at)
	case f.Expired != nil || isTimeout(err):
		return problem(v1beta1.ReasonQueryTimedOut, "%s did not answer within %s", at, f.Timeout)
	}
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return unreachable(err, at)
}

// unreachable is for addresses from which nothing came.
func unreachable(err error, at string) *analysis.Problem {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return problem(v1beta1.ReasonSourceUnavailable, "the name %s of %s is not known here: check the address", dns.Name, at)
	case errors.Is(err, syscall.ECONNREFUSED):
		return problem(v1beta1.ReasonSourceUnavailable, "nothing listens at %s: check the address, and whether the server runs", at)
	case errors.As(err, &certificate):
		return problem(v1beta1.ReasonSourceUnavailable, "the certificate of %s is not trusted (%v): name its authority with tls.ca, or its name with tls.serverName", at, certificate.Err)
	case strings.Contains(err.Error(), "remote error: tls: ") && strings.Contains(err.Error(), "certificate"):
		// The type of what the other end says of a certificate is crypto/tls's own.
		return problem(v1beta1.ReasonAccessDenied, "%s does not accept the client certificate, or the want of one: name one with tls.clientCertificate", at)
	case errors.Is(err, http.ErrSchemeMismatch) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return problem(v1beta1.ReasonSourceUnavailable, "%s does not speak HTTPS: write http:// in the address", at)
	default:
		return problem(v1beta1.ReasonSourceUnavailable, "%s cannot be reached: %s", at, Short(err.Error()))
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// Redacted is an address without what may be secret in it: name, password and query.
func Redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Short bounds what others wrote, for a status message.
func Short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
