// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// newRoute makes what routes of every kind have in common. Rules follow, then settle.
func newRoute(kind RouteKind, src client.Object, hostnames []gwv1.Hostname) *Route {
	_, running := src.GetAnnotations()[v1beta1.AnnotationRelease]
	r := &Route{Kind: kind, Key: keyOf(src), Source: src, Running: running}
	for i, h := range hostnames {
		host := strings.ToLower(string(h))
		switch {
		case !validHostname(host):
			r.Problems = append(r.Problems, hostnameInvalid(i, string(h)))
		case !slices.Contains(r.Hostnames, host):
			r.Hostnames = append(r.Hostnames, host)
		}
	}
	r.noHost = len(hostnames) > 0 && len(r.Hostnames) == 0
	return r
}

// settle decides what invalid rules mean for the route: when nothing of it works
// it is not accepted, when a part works the rest is shown as PartiallyInvalid.
// Either way the requests of an invalid rule are answered with 500, and never
// fall through to another rule.
func (r *Route) settle() {
	var messages []string
	works := false
	first := Problem{}
	for _, rule := range r.Rules {
		problems := rule.unsupported()
		for _, p := range problems {
			if len(messages) == 0 {
				first = p
			}
			messages = append(messages, p.Message)
		}
		works = works || rule.works()
	}
	switch {
	case len(messages) == 0:
	case works:
		r.Problems = append(r.Problems, rulesDropped(strings.Join(messages, "; ")))
	default:
		first.Message = strings.Join(messages, "; ")
		r.Problems = append(r.Problems, first)
	}
}

// unsupported are the problems of a rule and its backends that only another
// spec can solve, as opposed to references that may resolve later.
func (r *Rule) unsupported() []Problem {
	var out []Problem
	keep := func(problems []Problem) {
		for _, p := range problems {
			if p.Condition == string(gwv1.RouteConditionAccepted) {
				out = append(out, p)
			}
		}
	}
	keep(r.Problems)
	for _, b := range r.Backends {
		keep(b.Problems)
	}
	return out
}

func (r *Rule) works() bool {
	if !r.Valid {
		return false
	}
	for _, b := range r.Backends {
		if !Has(b.Problems, string(gwv1.RouteConditionAccepted)) {
			return true
		}
	}
	return len(r.Backends) == 0
}

// settle checks what concerns the rule as a whole. It comes last.
func (r *Rule) settle(field string) {
	var sum int64
	for _, b := range r.Backends {
		sum += int64(b.Weight)
	}
	if sum > math.MaxUint32 {
		r.Problems = append(r.Problems, valueUnsupported(field+".backendRefs",
			"the weights add up to %d: the sum must stay below 4294967296", sum))
	}
	if r.Filters.Redirect != nil && len(r.Backends) > 0 {
		r.Problems = append(r.Problems, filtersIncompatible(field, "a rule that redirects cannot have backendRefs: remove one of the two"))
	}
	if r.Filters.Redirect != nil && len(r.Mirrors) > 0 {
		r.Problems = append(r.Problems, filtersIncompatible(field, "a request that is redirected is not mirrored: remove RequestMirror or RequestRedirect"))
	}
	if r.Filters.Redirect != nil && r.Filters.Rewrite != nil {
		r.Problems = append(r.Problems, filtersIncompatible(field, "RequestRedirect and URLRewrite exclude each other: remove one of the two"))
	}
	if r.Filters.Redirect != nil && r.Filters.CORS != nil {
		r.Problems = append(r.Problems, filtersIncompatible(field, "a redirect is answered without CORS headers, so that no browser follows it: remove CORS or RequestRedirect"))
	}
	for i, b := range r.Backends {
		if b.Filters.Rewrite == nil {
			continue
		}
		if p := r.prefixProblems(fmt.Sprintf("%s.backendRefs[%d]", field, i), b.Filters.Rewrite.Path); p != nil {
			b.Problems = append(b.Problems, p...)
			b.Valid = false
		}
	}
	switch {
	case r.Filters.Redirect != nil:
		r.Problems = append(r.Problems, r.prefixProblems(field, r.Filters.Redirect.Path)...)
	case r.Filters.Rewrite != nil:
		r.Problems = append(r.Problems, r.prefixProblems(field, r.Filters.Rewrite.Path)...)
	}
	r.Valid = len(r.Problems) == 0
}

// prefixProblems refuses to replace a prefix where no prefix is matched. The field is
// where the modifier stands.
func (r *Rule) prefixProblems(field string, modifier *PathModifier) []Problem {
	if modifier == nil || modifier.Full {
		return nil
	}
	for i, m := range r.Matches {
		if m.Path.Type != MatchPrefix {
			return []Problem{filtersIncompatible(field,
				"ReplacePrefixMatch needs a path of type PathPrefix, and spec.rules[%d].matches[%d].path is %s", r.Index, i, m.Path.Type)}
		}
	}
	return nil
}
