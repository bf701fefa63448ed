// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// readFilters reads the filters of a rule or a backendRef. What is not supported
// is a problem, never left out silently: a filter may be what protects the backend.
func readFilters(field string, src []gwv1.HTTPRouteFilter) (Filters, []Problem) {
	var out Filters
	var problems []Problem
	for i, f := range src {
		at := fmt.Sprintf("%s.filters[%d]", field, i)
		repeated := slices.ContainsFunc(src[:i], func(other gwv1.HTTPRouteFilter) bool { return other.Type == f.Type })
		var p []Problem
		switch {
		case f.Type == gwv1.HTTPRouteFilterRequestMirror: // see readMirrors
		case f.Type == gwv1.HTTPRouteFilterExternalAuth && f.ExternalAuth != nil && !repeated: // see readExternalAuth
		case f.Type == gwv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil && !repeated:
			out.RequestHeaders, p = readHeaderModifier(at+".requestHeaderModifier", f.RequestHeaderModifier)
		case f.Type == gwv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil && !repeated:
			out.ResponseHeaders, p = readHeaderModifier(at+".responseHeaderModifier", f.ResponseHeaderModifier)
		case f.Type == gwv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil && !repeated:
			out.Redirect, p = readRedirect(at+".requestRedirect", f.RequestRedirect)
		case f.Type == gwv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil && !repeated:
			out.Rewrite, p = readRewrite(at+".urlRewrite", f.URLRewrite)
		case f.Type == gwv1.HTTPRouteFilterCORS && f.CORS != nil && !repeated:
			out.CORS, p = readCORS(at+".cors", f.CORS)
		case repeated && supportedFilter(f.Type):
			p = []Problem{filterRepeated(at, string(f.Type))}
		case supportedFilter(f.Type):
			p = []Problem{valueUnsupported(at, "type is %s but its settings are missing", f.Type)}
		default:
			p = []Problem{filterUnsupported(at, string(f.Type))}
		}
		problems = append(problems, p...)
	}
	return out, problems
}

func supportedFilter(t gwv1.HTTPRouteFilterType) bool {
	switch t {
	case gwv1.HTTPRouteFilterRequestHeaderModifier, gwv1.HTTPRouteFilterResponseHeaderModifier,
		gwv1.HTTPRouteFilterRequestRedirect, gwv1.HTTPRouteFilterURLRewrite, gwv1.HTTPRouteFilterCORS,
		gwv1.HTTPRouteFilterExternalAuth:
		return true
	}
	return false
}

// readHeaderModifier keeps, of names that differ only in case, the first, as the API says.
func readHeaderModifier(field string, src *gwv1.HTTPHeaderFilter) (*HeaderModifier, []Problem) {
	out := &HeaderModifier{}
	var problems []Problem
	list := func(name string, headers []gwv1.HTTPHeader) (kept []Header) {
		for i, h := range headers {
			at := fmt.Sprintf("%s.%s[%d]", field, name, i)
			if slices.ContainsFunc(kept, func(k Header) bool { return strings.EqualFold(k.Name, string(h.Name)) }) {
				continue
			}
			problems = append(problems, headerNameProblems(at+".name", string(h.Name))...)
			if !isHeaderValue(h.Value) {
				problems = append(problems, valueUnsupported(at+".value", "%q has control characters", h.Value))
			}
			kept = append(kept, Header{Name: string(h.Name), Value: h.Value})
		}
		return kept
	}
	out.Set, out.Add = list("set", src.Set), list("add", src.Add)
	for i, name := range src.Remove {
		problems = append(problems, headerNameProblems(fmt.Sprintf("%s.remove[%d]", field, i), name)...)
		if !slices.ContainsFunc(out.Remove, func(k string) bool { return strings.EqualFold(k, name) }) {
			out.Remove = append(out.Remove, name)
		}
	}
	return out, problems
}

// headerNameProblems refuses what Envoy does not let a modifier touch.
func headerNameProblems(field, name string) []Problem {
	switch {
	case strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority"):
		return []Problem{valueUnsupported(field, "%q cannot be modified: write a URLRewrite filter with hostname", name)}
	case strings.HasPrefix(name, ":"):
		return []Problem{valueUnsupported(field, "%q cannot be modified: it is not a header but a part of the request line", name)}
	case FramesMessage(name):
		return []Problem{valueUnsupported(field, "%q cannot be modified: it says how a message is sent over one connection, which the proxy decides", name)}
	case !isToken(name):
		return []Problem{valueUnsupported(field, "%q is not the name of a header", name)}
	}
	return nil
}

// FramesMessage tells whether a header says where a message ends, or what becomes of
// its connection. A route that sets one could make the backend read a part of a request
// as the next request on a connection that other routes use too (request smuggling).
func FramesMessage(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

func readRedirect(field string, src *gwv1.HTTPRequestRedirectFilter) (*Redirect, []Problem) {
	out := &Redirect{StatusCode: deref(src.StatusCode, 302), Port: src.Port}
	var problems []Problem
	if !slices.Contains([]int{301, 302, 303, 307, 308}, out.StatusCode) {
		problems = append(problems, valueUnsupported(field+".statusCode", "%d is not a redirect: write 301, 302, 303, 307 or 308", out.StatusCode))
	}
	if src.Scheme != nil {
		scheme := strings.ToLower(*src.Scheme)
		if scheme != "http" && scheme != "https" {
			problems = append(problems, valueUnsupported(field+".scheme", "%q is not known: write http or https", *src.Scheme))
		}
		out.Scheme = &scheme
	}
	if out.Port != nil && (*out.Port < 1 || *out.Port > 65535) {
		problems = append(problems, valueUnsupported(field+".port", "%d does not exist: write a number from 1 to 65535", *out.Port))
	}
	var p []Problem
	out.Hostname, p = readPreciseHostname(field+".hostname", src.Hostname)
	problems = append(problems, p...)
	out.Path, p = readPathModifier(field+".path", src.Path)
	return out, append(problems, p...)
}

func readRewrite(field string, src *gwv1.HTTPURLRewriteFilter) (*Rewrite, []Problem) {
	out := &Rewrite{}
	var problems, p []Problem
	out.Hostname, problems = readPreciseHostname(field+".hostname", src.Hostname)
	out.Path, p = readPathModifier(field+".path", src.Path)
	return out, append(problems, p...)
}

func readPreciseHostname(field string, src *gwv1.PreciseHostname) (*string, []Problem) {
	if src == nil {
		return nil, nil
	}
	host := strings.ToLower(string(*src))
	if strings.HasPrefix(host, "*") || !validHostname(host) {
		return &host, []Problem{valueUnsupported(field, "%q is not a host: write a DNS name such as shop.example.com", *src)}
	}
	return &host, nil
}

func readPathModifier(field string, src *gwv1.HTTPPathModifier) (*PathModifier, []Problem) {
	if src == nil {
		return nil, nil
	}
	out := &PathModifier{}
	switch src.Type {
	case gwv1.FullPathHTTPPathModifier:
		out.Full, out.Value = true, deref(src.ReplaceFullPath, "")
	case gwv1.PrefixMatchHTTPPathModifier:
		out.Value = deref(src.ReplacePrefixMatch, "")
	default:
		return out, []Problem{valueUnsupported(field+".type", "%q is not known: write ReplaceFullPath or ReplacePrefixMatch", src.Type)}
	}
	if !isPath(out.Value) {
		return out, []Problem{valueUnsupported(field, "%q has characters that no path has: write them as %%XX", out.Value)}
	}
	if out.Full && out.Value != "" && !strings.HasPrefix(out.Value, "/") {
		return out, []Problem{valueUnsupported(field, "%q does not begin with /", out.Value)}
	}
	return out, nil
}
