// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// pathRewrite is Envoy's form of a path modifier: at most one part is set.
type pathRewrite struct {
	prefix string
	regex  *matcherv3.RegexMatchAndSubstitute
}

// rewritePath gives the Envoy form of a path modifier under the match it applies to.
// A prefix can only be replaced where a prefix was matched; the API's validation
// refuses anything else.
//
//	match /foo  replace /bar   /foo → /bar   /foo/x → /bar/x
//	match /foo  replace /      /foo → /      /foo/x → /x
//	match /     replace /bar   /    → /bar/  /x     → /bar/x
func rewritePath(m *graph.PathModifier, path graph.StringMatch) pathRewrite {
	switch {
	case m == nil:
		return pathRewrite{}
	case m.Full:
		full := m.Value
		if !strings.HasPrefix(full, "/") {
			full = "/" + full
		}
		return pathRewrite{regex: substitute(`^[^?]*`, full)}
	case path.Type == graph.MatchExact || path.Type == graph.MatchRegex:
		return pathRewrite{}
	}
	from, to := trimPrefix(path.Value), trimPrefix(m.Value)
	if to != "" && !strings.HasPrefix(to, "/") {
		to = "/" + to
	}
	switch {
	case from == "" && to == "":
		return pathRewrite{}
	case from == "":
		return pathRewrite{prefix: to + "/"}
	case to == "":
		// With the prefix gone, what is left may be empty or begin with the slash.
		return pathRewrite{regex: substitute("^"+regexp.QuoteMeta(from)+"/*", "/")}
	}
	return pathRewrite{prefix: to}
}

func substitute(pattern, replacement string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern:      regex(pattern),
		Substitution: strings.ReplaceAll(replacement, `\`, `\\`),
	}
}

// setRewrite applies the rewrites of a rule and of one backend; the backend's win.
func setRewrite(action *routev3.RouteAction, path graph.StringMatch, rewrites ...*graph.Rewrite) {
	for _, r := range rewrites {
		if r == nil {
			continue
		}
		if r.Hostname != nil {
			action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: *r.Hostname}
		}
		if r.Path != nil {
			p := rewritePath(r.Path, path)
			action.PrefixRewrite, action.RegexRewrite = p.prefix, p.regex
		}
	}
}
