// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// wholeTraffic is a Mirror's PerMillion when every request is copied.
const wholeTraffic = 1_000_000

// Mirror is a backend that gets copies of a rule's requests. One that is not Valid
// gets none; the requests themselves are served all the same, as the API says.
type Mirror struct {
	*Backend
	// PerMillion is how many of a million requests are copied.
	PerMillion uint32
}

// readMirrors reads the RequestMirror filters of a rule. A rule can have several. What
// is wrong with where a copy goes stands at the Mirror; the problems that are returned
// are those that only another spec can solve.
func readMirrors(field string, kind RouteKind, namespace string, src []gwv1.HTTPRouteFilter, refs references) ([]*Mirror, []Problem) {
	var mirrors []*Mirror
	var problems []Problem
	for i, f := range src {
		if f.Type != gwv1.HTTPRouteFilterRequestMirror {
			continue
		}
		at := fmt.Sprintf("%s.filters[%d].requestMirror", field, i)
		if f.RequestMirror == nil {
			problems = append(problems, valueUnsupported(at, "it is missing: name a backendRef"))
			continue
		}
		m := &Mirror{Backend: &Backend{}}
		if p := m.resolve(at+".backendRef", kind, namespace, f.RequestMirror.BackendRef, refs); p != nil {
			m.Problems = append(m.Problems, *p)
		}
		m.Valid = len(m.Problems) == 0
		var p *Problem
		if m.PerMillion, p = mirrorShare(at, f.RequestMirror); p != nil {
			problems = append(problems, *p)
		}
		mirrors = append(mirrors, m)
	}
	return mirrors, problems
}

// mirrorShare gives the part of the requests that is copied, of a million.
func mirrorShare(field string, src *gwv1.HTTPRequestMirrorFilter) (uint32, *Problem) {
	switch {
	case src.Percent != nil && src.Fraction != nil:
		p := valueUnsupported(field, "percent and fraction exclude each other: remove one of the two")
		return 0, &p
	case src.Percent != nil:
		if *src.Percent < 0 || *src.Percent > 100 {
			p := valueUnsupported(field+".percent", "%d is not a percentage: write a number from 0 to 100", *src.Percent)
			return 0, &p
		}
		return uint32(*src.Percent) * (wholeTraffic / 100), nil
	case src.Fraction != nil:
		numerator, denominator := int64(src.Fraction.Numerator), int64(deref(src.Fraction.Denominator, 100))
		if denominator < 1 || numerator < 0 || numerator > denominator {
			p := valueUnsupported(field+".fraction", "%d/%d is not a part of the whole: write a numerator from 0 to the denominator, and a denominator of at least 1",
				numerator, denominator)
			return 0, &p
		}
		return uint32((numerator*wholeTraffic + denominator/2) / denominator), nil
	}
	return wholeTraffic, nil
}
