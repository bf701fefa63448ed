// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// CORS says which pages of other origins a browser may let call a rule (GEP-1767).
type CORS struct {
	// Origins are those that are allowed; without any, none is.
	Origins []Origin
	// Methods and Headers are what such a page may send, Expose what it may read.
	// {"*"} stands for all.
	Methods, Headers, Expose []string
	// Credentials is true when cookies and the like may go along.
	Credentials bool
	// MaxAge is how long, in seconds, a browser may remember the answer.
	MaxAge int32
}

// Origin is the scheme, host and port of a page. An empty Scheme allows every origin.
type Origin struct {
	// Scheme is http or https.
	Scheme string
	// Host is a lower case name, one after "*." for everything below it, or "*".
	Host string
	// Port is that of the scheme when none was written.
	Port int32
}

// corsMaxAge is the API's default.
const corsMaxAge = 5

// anything is the wildcard of the lists of a CORS filter.
const anything = "*"

func readCORS(field string, src *gwv1.HTTPCORSFilter) (*CORS, []Problem) {
	out := &CORS{Credentials: deref(src.AllowCredentials, false), MaxAge: src.MaxAge}
	var problems []Problem
	for i, o := range src.AllowOrigins {
		origin, ok := parseOrigin(string(o))
		if !ok {
			problems = append(problems, valueUnsupported(fmt.Sprintf("%s.allowOrigins[%d]", field, i),
				"%q is not an origin: write https://shop.example.com, https://*.example.com, a port behind it where it has one of its own, or *", o))
			continue
		}
		out.Origins = append(out.Origins, origin)
	}
	var p []Problem
	out.Methods, p = corsList(field+".allowMethods", "method", src.AllowMethods)
	problems = append(problems, p...)
	out.Headers, p = corsList(field+".allowHeaders", "header", src.AllowHeaders)
	problems = append(problems, p...)
	out.Expose, p = corsList(field+".exposeHeaders", "header", src.ExposeHeaders)
	problems = append(problems, p...)
	if out.Credentials && slices.Contains(out.Expose, anything) {
		// With credentials a browser takes * for the name of a header, so the API forbids to
		// answer with it.
		out.Expose = nil
	}
	if out.MaxAge < 0 {
		problems = append(problems, valueUnsupported(field+".maxAge", "%d is not a number of seconds: write 1 or more", src.MaxAge))
	}
	if out.MaxAge <= 0 {
		out.MaxAge = corsMaxAge
	}
	return out, problems
}

// corsList reads names that a header of the answer will list. A wildcard stands for the rest.
func corsList[S ~string](field, what string, src []S) ([]string, []Problem) {
	var out []string
	var problems []Problem
	for i, name := range src {
		switch {
		case !isToken(string(name)): // the wildcard is one
			problems = append(problems, valueUnsupported(fmt.Sprintf("%s[%d]", field, i), "%q is not the name of a %s", name, what))
		case !slices.Contains(out, string(name)):
			out = append(out, string(name))
		}
	}
	if slices.Contains(out, anything) {
		out = []string{anything}
	}
	return out, problems
}

func parseOrigin(s string) (Origin, bool) {
	if s == anything {
		return Origin{}, true
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(s), "://")
	out := Origin{Scheme: scheme}
	switch {
	case !ok:
		return Origin{}, false
	case scheme == "http":
		out.Port = 80
	case scheme == "https":
		out.Port = 443
	default:
		return Origin{}, false
	}
	host, port, hasPort := strings.Cut(rest, ":")
	if hasPort {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return Origin{}, false
		}
		out.Port = int32(number)
	}
	out.Host = host
	_, notIP := netip.ParseAddr(host)
	return out, host == anything || notIP == nil || validHostname(host)
}
