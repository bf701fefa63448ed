// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// matchText says which requests a route takes: /exact, /prefix*, ~regex, then method,
// headers and query parameters.
func matchText(m *routev3.RouteMatch) string {
	var parts []string
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		parts = append(parts, p.Path)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		parts = append(parts, p.PathSeparatedPrefix+"/*")
	case *routev3.RouteMatch_Prefix:
		parts = append(parts, p.Prefix+"*")
	case *routev3.RouteMatch_SafeRegex:
		parts = append(parts, "~"+p.SafeRegex.GetRegex())
	default:
		parts = append(parts, "*")
	}
	for _, h := range m.GetHeaders() {
		text := stringText(h.GetStringMatch())
		switch {
		case h.GetName() == ":method":
			parts[0] = strings.TrimPrefix(text, "=") + " " + parts[0]
			continue
		case h.GetStringMatch() == nil:
			text = " present"
		}
		if h.GetInvertMatch() {
			text = " not " + text
		}
		parts = append(parts, "header "+h.GetName()+text)
	}
	for _, q := range m.GetQueryParameters() {
		parts = append(parts, "query "+q.GetName()+stringText(q.GetStringMatch()))
	}
	if len(m.GetFilterState()) > 0 {
		parts = append(parts, "of this listener")
	}
	return strings.Join(parts, ", ")
}

func stringText(m *matcherv3.StringMatcher) string {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return "=" + p.Exact
	case *matcherv3.StringMatcher_Prefix:
		return "=" + p.Prefix + "*"
	case *matcherv3.StringMatcher_SafeRegex:
		return "~" + p.SafeRegex.GetRegex()
	}
	return ""
}

// answerText says what the proxy answers without a backend.
func answerText(r *routev3.Route) string {
	if direct := r.GetDirectResponse(); direct != nil {
		return strconv.Itoa(int(direct.Status))
	}
	redirect := r.GetRedirect()
	if redirect == nil {
		return ""
	}
	codes := map[routev3.RedirectAction_RedirectResponseCode]string{
		routev3.RedirectAction_MOVED_PERMANENTLY: "301", routev3.RedirectAction_FOUND: "302", routev3.RedirectAction_SEE_OTHER: "303",
		routev3.RedirectAction_TEMPORARY_REDIRECT: "307", routev3.RedirectAction_PERMANENT_REDIRECT: "308",
	}
	to := cmp.Or(redirect.GetSchemeRedirect(), "(scheme)") + "://" + cmp.Or(redirect.GetHostRedirect(), "(host)")
	if redirect.GetPortRedirect() != 0 {
		to += ":" + strconv.Itoa(int(redirect.GetPortRedirect()))
	}
	switch p := redirect.GetPathRewriteSpecifier().(type) {
	case *routev3.RedirectAction_PathRedirect:
		to += p.PathRedirect
	case *routev3.RedirectAction_PrefixRewrite:
		to += p.PrefixRewrite + "(rest)"
	case *routev3.RedirectAction_RegexRewrite:
		to += p.RegexRewrite.GetSubstitution() + "(rest)"
	default:
		to += "(path)"
	}
	return codes[redirect.GetResponseCode()] + " to " + to
}

// filterTexts says what else happens to a request.
func filterTexts(r *routev3.Route) []string {
	var out []string
	out = append(out, headerTexts("request", r.RequestHeadersToAdd, r.RequestHeadersToRemove)...)
	out = append(out, headerTexts("response", r.ResponseHeadersToAdd, r.ResponseHeadersToRemove)...)
	action := r.GetRoute()
	for _, w := range action.GetWeightedClusters().GetClusters() {
		for _, text := range slices.Concat(
			headerTexts("request", w.RequestHeadersToAdd, w.RequestHeadersToRemove),
			headerTexts("response", w.ResponseHeadersToAdd, w.ResponseHeadersToRemove)) {
			out = append(out, w.Name+": "+text)
		}
		if host := w.GetHostRewriteLiteral(); host != "" {
			out = append(out, w.Name+": host becomes "+host)
		}
	}
	if host := action.GetHostRewriteLiteral(); host != "" {
		out = append(out, "host becomes "+host)
	}
	if prefix := action.GetPrefixRewrite(); prefix != "" {
		out = append(out, "matched prefix becomes "+prefix)
	}
	if rewrite := action.GetRegexRewrite(); rewrite != nil {
		out = append(out, fmt.Sprintf("path: what matches %s becomes %s", rewrite.GetPattern().GetRegex(), rewrite.GetSubstitution()))
	}
	for _, m := range action.GetRequestMirrorPolicies() {
		text := "copy to " + m.Cluster
		if parts := percentParts(m.GetRuntimeFraction().GetDefaultValue()); m.RuntimeFraction != nil && parts != million {
			text += fmt.Sprintf(" of %s%%", strconv.FormatFloat(float64(parts)/10_000, 'g', -1, 64))
		}
		out = append(out, text)
	}
	if t := action.GetTimeout().AsDuration(); t > 0 {
		out = append(out, "timeout "+t.String())
	}
	if retry := action.GetRetryPolicy(); retry != nil {
		text := fmt.Sprintf("%d retries", retry.GetNumRetries().GetValue())
		if len(retry.RetriableStatusCodes) > 0 {
			text += fmt.Sprintf(" of %v", retry.RetriableStatusCodes)
		}
		out = append(out, text)
	}
	for _, name := range slices.Sorted(maps.Keys(r.TypedPerFilterConfig)) {
		out = append(out, "filter "+strings.TrimPrefix(name, "envoy.filters.http."))
	}
	return out
}

func headerTexts(of string, add []*corev3.HeaderValueOption, remove []string) []string {
	var out []string
	for _, h := range add {
		verb := "set"
		if h.AppendAction == corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
			verb = "add"
		}
		out = append(out, fmt.Sprintf("%s %s header %s=%s", verb, of, h.GetHeader().GetKey(), strings.ReplaceAll(h.GetHeader().GetValue(), "%%", "%")))
	}
	for _, name := range remove {
		out = append(out, fmt.Sprintf("remove %s header %s", of, name))
	}
	return out
}
