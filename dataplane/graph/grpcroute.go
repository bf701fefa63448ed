// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func buildGRPCRoute(src *gwv1.GRPCRoute, refs references) *Route {
	r := newRoute(KindGRPCRoute, src, src.Spec.Hostnames)
	for i, rule := range src.Spec.Rules {
		r.Rules = append(r.Rules, buildGRPCRule(i, src.Namespace, rule, refs))
	}
	r.settle()
	return r
}

func buildGRPCRule(i int, namespace string, src gwv1.GRPCRouteRule, refs references) *Rule {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := &Rule{Index: i, Name: string(deref(src.Name, ""))}
	if len(src.Matches) == 0 {
		rule.Matches = []Match{{Path: StringMatch{Type: MatchPrefix, Value: "/"}}}
	}
	for j, m := range src.Matches {
		match, problems := readGRPCMatch(fmt.Sprintf("%s.matches[%d]", field, j), m)
		rule.Matches = append(rule.Matches, match)
		rule.Problems = append(rule.Problems, problems...)
	}
	filters, problems := readFilters(field, httpFilters(src.Filters))
	rule.Filters = filters
	rule.Problems = append(rule.Problems, problems...)
	rule.Mirrors, problems = readMirrors(field, KindGRPCRoute, namespace, httpFilters(src.Filters), refs)
	rule.Problems = append(rule.Problems, problems...)
	if src.SessionPersistence != nil { //nolint:staticcheck // it is deprecated, and refused rather than ignored
		rule.Problems = append(rule.Problems, sessionMisplaced(field))
	}
	for j, ref := range src.BackendRefs {
		rule.Backends = append(rule.Backends, buildBackend(
			fmt.Sprintf("%s.backendRefs[%d]", field, j), KindGRPCRoute, namespace, ref.BackendRef, httpFilters(ref.Filters), refs))
	}
	rule.settle(field)
	return rule
}

func readGRPCMatch(field string, src gwv1.GRPCRouteMatch) (Match, []Problem) {
	m := Match{Path: StringMatch{Type: MatchPrefix, Value: "/"}}
	var problems []Problem
	if src.Method != nil {
		m.Path, problems = readGRPCMethod(field+".method", *src.Method)
	}
	for i, h := range src.Headers {
		problems = append(problems, m.addHeader(fmt.Sprintf("%s.headers[%d]", field, i),
			string(h.Name), string(deref(h.Type, gwv1.GRPCHeaderMatchExact)), h.Value)...)
	}
	return m, problems
}

// readGRPCMethod turns service and method into the path they have on the wire:
// /service/method.
func readGRPCMethod(field string, src gwv1.GRPCMethodMatch) (StringMatch, []Problem) {
	service, method := deref(src.Service, ""), deref(src.Method, "")
	const one = "[^/]+"
	switch t := deref(src.Type, gwv1.GRPCMethodMatchExact); t {
	case gwv1.GRPCMethodMatchExact:
		if strings.ContainsAny(service+method, "/?#% ") {
			return StringMatch{Type: MatchExact, Value: "/"}, []Problem{valueUnsupported(field,
				"service %q and method %q must be names such as shop.Cart and Add", service, method)}
		}
		switch {
		case service != "" && method != "":
			return StringMatch{Type: MatchExact, Value: "/" + service + "/" + method}, nil
		case service != "":
			return StringMatch{Type: MatchPrefix, Value: "/" + service}, nil
		case method != "":
			return StringMatch{Type: MatchRegex, Value: "/" + one + "/" + quoteRegex(method)}, nil
		}
		return StringMatch{Type: MatchPrefix, Value: "/"}, nil
	case gwv1.GRPCMethodMatchRegularExpression:
		var problems []Problem
		part := func(name, expression string) string {
			if expression == "" {
				return one
			}
			if err := checkRegex(expression); err != nil {
				problems = append(problems, valueUnsupported(field+"."+name, "%v", err))
			}
			return "(?:" + expression + ")"
		}
		return StringMatch{Type: MatchRegex, Value: "/" + part("service", service) + "/" + part("method", method)}, problems
	default:
		return StringMatch{Type: MatchExact, Value: "/"}, []Problem{valueUnsupported(field+".type",
			"%q is not known: write Exact or RegularExpression", t)}
	}
}

// httpFilters gives the filters of a GRPCRoute, which are a part of those of an HTTPRoute.
func httpFilters(src []gwv1.GRPCRouteFilter) []gwv1.HTTPRouteFilter {
	var out []gwv1.HTTPRouteFilter
	for _, f := range src {
		out = append(out, gwv1.HTTPRouteFilter{
			Type:                  gwv1.HTTPRouteFilterType(f.Type),
			RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}
