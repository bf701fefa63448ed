// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
)

func TestParseSelector(t *testing.T) {
	tests := []struct {
		text string
		want analysis.Selector
		err  string // part of the sentence; empty: it is a selector
	}{
		{`http_requests_total`, analysis.Selector{Name: "http_requests_total"}, ""},
		{` job:requests:sum {} `, analysis.Selector{Name: "job:requests:sum"}, ""},
		{`x{pod=~"a-[0-9]+", code !~ '2..',}`, analysis.Selector{Name: "x", Labels: []string{"pod", "code"}}, ""},
		{"x{a=`\\`, b=\"}\\\"\"}", analysis.Selector{Name: "x", Labels: []string{"a", "b"}}, ""},
		{`{__name__="x", a!="1"}`, analysis.Selector{Name: "x", Labels: []string{"a"}}, ""},
		{`{"http.requests", "k8s.pod"=~"a"}`, analysis.Selector{Name: "http.requests", Labels: []string{"k8s.pod"}}, ""},
		{`{__name__=~"x|y"}`, analysis.Selector{}, ""},
		{`rate(x[1m])`, analysis.Selector{}, "rate(…) is a function"},
		{`x[5m]`, analysis.Selector{}, "the range in brackets is Headgate's to choose"},
		{`x{a="1"} offset 1m`, analysis.Selector{}, "more follows behind it"},
		{`x + y`, analysis.Selector{}, "more follows behind it"},
		{`sum by (pod) (x)`, analysis.Selector{}, "more follows behind it"},
		{`x{a}`, analysis.Selector{}, "behind a one of = != =~ !~ is missing"},
		{`x{a=1}`, analysis.Selector{}, "the value of a is not in quotes"},
		{`x{a="1}`, analysis.Selector{}, "a quote is not closed"},
		{`x{a="1"`, analysis.Selector{}, "a comma or } is missing"},
		{`x{a="1" b="2"}`, analysis.Selector{}, "a comma or } is missing"},
		{`x{="1"}`, analysis.Selector{}, "a label's name is missing"},
		{`12`, analysis.Selector{}, "does not begin with the name of a metric"},
		{``, analysis.Selector{}, "does not begin with the name of a metric"},
		{`x{` + strings.Repeat("é", 100), analysis.Selector{}, "…"},
	}
	for _, tt := range tests {
		got, err := analysis.ParseSelector(tt.text)
		if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %v, want %q", tt.text, err, tt.err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
}

func FuzzParseSelector(f *testing.F) {
	f.Add(`x{a="1",b=~'2'}`)
	f.Add("{\"a\", b!=`c`}")
	f.Fuzz(func(t *testing.T, text string) {
		// What is taken for a selector has nothing behind its last brace.
		if _, err := analysis.ParseSelector(text); err == nil {
			trimmed := strings.TrimSpace(text)
			if i := strings.LastIndexAny(trimmed, "\"'`"); i >= 0 && strings.ContainsAny(trimmed[i+1:], "()[]+-*/") {
				t.Errorf("%q is no selector", text)
			}
		}
	})
}
