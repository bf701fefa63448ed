// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"slices"
	"strings"
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/utils"
)

func buildHTTPRoute(src *gwv1.HTTPRoute, refs references) *Route {
	r := newRoute(KindHTTPRoute, src, src.Spec.Hostnames)
	rules := src.Spec.Rules
	if len(rules) == 0 { // the default of the API
		rules = []gwv1.HTTPRouteRule{{}}
	}
	for i, rule := range rules {
		r.Rules = append(r.Rules, buildHTTPRule(i, src.Namespace, rule, refs))
	}
	r.settle()
	return r
}

func buildHTTPRule(i int, namespace string, src gwv1.HTTPRouteRule, refs references) *Rule {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := &Rule{Index: i, Name: string(deref(src.Name, ""))}
	if len(src.Matches) == 0 {
		rule.Matches = []Match{{Path: StringMatch{Type: MatchPrefix, Value: "/"}}}
	}
	for j, m := range src.Matches {
		match, problems := readHTTPMatch(fmt.Sprintf("%s.matches[%d]", field, j), m)
		rule.Matches = append(rule.Matches, match)
		rule.Problems = append(rule.Problems, problems...)
	}
	filters, problems := readFilters(field, src.Filters)
	rule.Filters = filters
	rule.Problems = append(rule.Problems, problems...)
	rule.Filters.Auth, problems = readExternalAuth(field, namespace, src.Filters, refs)
	rule.Problems = append(rule.Problems, problems...)
	rule.Mirrors, problems = readMirrors(field, KindHTTPRoute, namespace, src.Filters, refs)
	rule.Problems = append(rule.Problems, problems...)
	rule.readTimeouts(field, src.Timeouts)
	rule.Retry, problems = readRetry(field+".retry", src.Retry)
	rule.Problems = append(rule.Problems, problems...)
	if src.SessionPersistence != nil { //nolint:staticcheck // it is deprecated, and refused rather than ignored
		rule.Problems = append(rule.Problems, sessionMisplaced(field))
	}
	for j, ref := range src.BackendRefs {
		rule.Backends = append(rule.Backends, buildBackend(
			fmt.Sprintf("%s.backendRefs[%d]", field, j), KindHTTPRoute, namespace, ref.BackendRef, ref.Filters, refs))
	}
	rule.settle(field)
	return rule
}

func readHTTPMatch(field string, src gwv1.HTTPRouteMatch) (Match, []Problem) {
	m := Match{Path: StringMatch{Type: MatchPrefix, Value: "/"}}
	var problems []Problem
	if src.Path != nil {
		m.Path = StringMatch{
			Type:  MatchType(deref(src.Path.Type, gwv1.PathMatchPathPrefix)),
			Value: deref(src.Path.Value, "/"),
		}
		problems = append(problems, pathProblems(field+".path", m.Path)...)
		if m.Path.Type == MatchPrefix && len(m.Path.Value) > 1 {
			m.Path.Value = strings.TrimSuffix(m.Path.Value, "/")
		}
	}
	if src.Method != nil {
		m.Method = string(*src.Method)
		if !slices.Contains(methods(), *src.Method) {
			problems = append(problems, valueUnsupported(field+".method", "%q is not a method: write GET, POST or another of HTTP", *src.Method))
		}
	}
	for i, h := range src.Headers {
		problems = append(problems, m.addHeader(fmt.Sprintf("%s.headers[%d]", field, i),
			string(h.Name), string(deref(h.Type, gwv1.HeaderMatchExact)), h.Value)...)
	}
	for i, q := range src.QueryParams {
		q := NamedMatch{Name: string(q.Name), StringMatch: StringMatch{
			Type: MatchType(deref(q.Type, gwv1.QueryParamMatchExact)), Value: q.Value,
		}}
		if slices.ContainsFunc(m.Query, func(other NamedMatch) bool { return other.Name == q.Name }) {
			continue // of equal names only the first counts, says the API
		}
		at := fmt.Sprintf("%s.queryParams[%d]", field, i)
		if q.Name == "" {
			problems = append(problems, valueUnsupported(at+".name", "it is empty: write the parameter's name"))
		}
		problems = append(problems, valueProblems(at, q.StringMatch)...)
		m.Query = append(m.Query, q)
	}
	return m, problems
}

// addHeader adds a header match; of names that differ only in case the first counts.
func (m *Match) addHeader(field, name, matchType, value string) []Problem {
	h := NamedMatch{Name: strings.ToLower(name), StringMatch: StringMatch{Type: MatchType(matchType), Value: value}}
	if slices.ContainsFunc(m.Headers, func(other NamedMatch) bool { return other.Name == h.Name }) {
		return nil
	}
	m.Headers = append(m.Headers, h)
	problems := valueProblems(field, h.StringMatch)
	if !isToken(h.Name) {
		problems = append(problems, valueUnsupported(field+".name", "%q is not the name of a header", name))
	}
	return problems
}

func methods() []gwv1.HTTPMethod {
	return []gwv1.HTTPMethod{
		gwv1.HTTPMethodGet, gwv1.HTTPMethodHead, gwv1.HTTPMethodPost, gwv1.HTTPMethodPut, gwv1.HTTPMethodDelete,
		gwv1.HTTPMethodConnect, gwv1.HTTPMethodOptions, gwv1.HTTPMethodTrace, gwv1.HTTPMethodPatch,
	}
}

func (r *Rule) readTimeouts(field string, src *gwv1.HTTPRouteTimeouts) {
	if src == nil {
		return
	}
	read := func(name string, d *gwv1.Duration) *Duration {
		if d == nil {
			return nil
		}
		parsed, err := utils.ParseDuration(string(*d))
		if err != nil {
			r.Problems = append(r.Problems, valueUnsupported(field+".timeouts."+name, "%q is not a duration: write 500ms, 10s or 1m30s", *d))
			return nil
		}
		return parsed
	}
	r.RequestTimeout, r.BackendTimeout = read("request", src.Request), read("backendRequest", src.BackendRequest)
	if r.RequestTimeout != nil && r.BackendTimeout != nil && *r.RequestTimeout > 0 && *r.BackendTimeout > *r.RequestTimeout {
		r.Problems = append(r.Problems, valueUnsupported(field+".timeouts.backendRequest", "%s is longer than request, which is %s",
			time.Duration(*r.BackendTimeout), time.Duration(*r.RequestTimeout)))
	}
}
