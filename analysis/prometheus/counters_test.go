// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// samples is one range of samples, one each second from second first on, in the API's JSON.
func samples(labels string, first int, values ...int) string {
	var all []string
	for i, v := range values {
		all = append(all, fmt.Sprintf(`[%d,"%d"]`, now.Unix()+int64(first+i), v))
	}
	return fmt.Sprintf(`{"metric":{%s},"values":[%s]}`, labels, strings.Join(all, ","))
}

// matrices answers each query with the series that stand under a part of it.
func matrices(byPart map[string][]string, asked *[]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		if asked != nil {
			*asked = append(*asked, query)
		}
		for part, series := range byPart {
			if strings.Contains(query, part) {
				result("matrix", "["+strings.Join(series, ",")+"]")(w, r)
				return
			}
		}
		result("matrix", "[]")(w, r)
	}
}

func countersQuery() analysis.Query {
	q := scalarQuery("")
	q.Kind, q.From = analysis.KindCounts, now.Add(-12*time.Second)
	q.Metric.Prometheus = &v1beta1.PrometheusSource{Counters: &v1beta1.Counters{
		Bad: `rq{pod=~"{{.Pods}}",code=~"5.."}`, Total: `rq{pod=~"{{.Pods}}"}`,
	}}
	return q
}

const stablePods, canaryPods = `rq{pod=~"checkout-[0-9]"}`, `rq{pod=~"checkout-canary-[0-9]"}`

func series(pod, code string, first int, values ...int) string {
	return samples(fmt.Sprintf(`"__name__":"rq","pod":%q,"code":%q,"instance":%q`, pod, code, pod), first, values...)
}

func TestCountersOfBothVersionsAreAddedUp(t *testing.T) {
	var asked []string
	server := httptest.NewServer(matrices(map[string][]string{
		stablePods:                    {series("checkout-1", "200", -13, 1000, 1000, 1040), series("checkout-2", "200", -13, 10, 20, 5), series("checkout-1", "500", -13, 7, 7, 8)},
		`"checkout-[0-9]",code`:       {series("checkout-1", "500", -13, 7, 7, 8)},
		canaryPods:                    {series("checkout-canary-1", "200", -20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50), series("checkout-canary-1", "503", -3, 2, 4)},
		`checkout-canary-[0-9]",code`: {series("checkout-canary-1", "503", -3, 2, 4)},
	}, &asked))
	defer server.Close()
	m := ask(t, server.URL, countersQuery())
	if m.Problem != nil {
		t.Fatal(m.Problem)
	}
	want := [2]analysis.Sample{
		{Requests: 40 + 5 + 1, Bad: 1, Present: true},
		// The first bad requests make a series; its process was scraped before, so it began at 0.
		{Requests: 50 + 4, Bad: 4, Present: true},
	}
	// At 13 s before, the sample at 12 s is the last at or before From.
	if diff := cmp.Diff(want, [2]analysis.Sample{m.Stable, m.Canary}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantAsked := []string{
		canaryPods + "[137000ms]", `rq{pod=~"checkout-canary-[0-9]",code=~"5.."}[137000ms]`,
		stablePods + "[137000ms]", `rq{pod=~"checkout-[0-9]",code=~"5.."}[137000ms]`,
	}
	if diff := cmp.Diff(wantAsked, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestCountersThatCannotBeJudgedHaveTheirSentence(t *testing.T) {
	good := func(pod string) []string { return []string{series(pod, "200", -13, 0, 0, 50)} }
	bad := func(pod string) []string { return []string{series(pod, "500", -13, 0, 0, 60)} }
	tests := []struct {
		name            string
		change          func(*v1beta1.Counters)
		series          map[string][]string
		reason, message string // empty: no problem
	}{
		{"nothing was ever bad, and the label exists", nil, map[string][]string{stablePods: good("checkout-1"), canaryPods: good("checkout-canary-1")}, "", ""},
		{"the canary is not scraped", nil, map[string][]string{stablePods: good("checkout-1")}, v1beta1.ReasonNoSeries, "canary has no series of rq{pod"},
		{"stable is not scraped", nil, map[string][]string{canaryPods: good("checkout-canary-1")}, v1beta1.ReasonNoSeries, "stable has no series of"},
		{
			"a label that no series has", func(c *v1beta1.Counters) { c.Bad = `rq{pod=~"{{.Pods}}",status=~"5.."}` },
			map[string][]string{stablePods: good("checkout-1"), canaryPods: good("checkout-canary-1")},
			v1beta1.ReasonNoSeries, "no series of rq carries the label status",
		},
		{
			"another counter that nobody has", func(c *v1beta1.Counters) { c.Bad = `errors_total{pod=~"{{.Pods}}"}` },
			map[string][]string{stablePods: good("checkout-1"), canaryPods: good("checkout-canary-1")},
			v1beta1.ReasonNoSeries, "let the app create it with the value 0",
		},
		{
			"more bad than all", nil, map[string][]string{
				stablePods: good("checkout-1"), canaryPods: good("checkout-canary-1"), `checkout-canary-[0-9]",code`: bad("checkout-canary-1"),
			}, v1beta1.ReasonUnusableAnswer, "of canary the bad counter rose by 60 and the total by only 50",
		},
		{
			"a rate in place of a counter", func(c *v1beta1.Counters) { c.Bad = `rate(rq[1m])` },
			map[string][]string{stablePods: good("checkout-1"), canaryPods: good("checkout-canary-1")},
			v1beta1.ReasonInvalidSpec, "without rate(), increase()",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(matrices(tt.series, nil))
			defer server.Close()
			q := countersQuery()
			if tt.change != nil {
				tt.change(q.Metric.Prometheus.Counters)
			}
			m := ask(t, server.URL, q)
			if tt.reason != "" {
				check(t, m, tt.reason, tt.message)
			} else if m.Problem != nil || m.Canary.Requests != 50 || m.Canary.Bad != 0 {
				t.Errorf("%+v, %+v", m, m.Problem)
			}
		})
	}
}

func TestAtFullWeightOnlyTheCanaryIsAsked(t *testing.T) {
	var asked []string
	server := httptest.NewServer(matrices(map[string][]string{canaryPods: {series("checkout-canary-1", "200", -13, 0, 0, 50)}}, &asked))
	defer server.Close()
	q := countersQuery()
	q.Subject.Weight = 100
	if m := ask(t, server.URL, q); m.Problem != nil || !m.Canary.Present || m.Stable.Present || len(asked) != 2 {
		t.Errorf("%+v, %+v; asked %q", m, m.Problem, asked)
	}
}

func TestClassicHistogramsOfSeveralPodsAreAddedUp(t *testing.T) {
	bucket := func(pod, le string, values ...int) string {
		return samples(fmt.Sprintf(`"__name__":"s_bucket","pod":%q,"le":%q,"instance":%q`, pod, le, pod), -13, values...)
	}
	server := httptest.NewServer(matrices(map[string][]string{
		"checkout-canary": {
			bucket("c-1", "0.1", 5, 5, 15), bucket("c-1", "0.25", 6, 6, 17), bucket("c-1", "+Inf", 6, 6, 20),
			// This one restarted: its second bucket has grown past its old value already.
			bucket("c-2", "0.1", 9, 9, 1), bucket("c-2", "0.25", 10, 10, 12), bucket("c-2", "+Inf", 11, 11, 13),
		},
		"checkout-[0-9]": {bucket("s-1", "0.1", 0, 0, 7), bucket("s-1", "+Inf", 0, 0, 7)},
	}, nil))
	defer server.Close()
	q := countersQuery()
	q.Kind = analysis.KindHistogram
	q.Metric.Prometheus = &v1beta1.PrometheusSource{Histogram: `s_bucket{pod=~"{{.Pods}}"}`}
	m := ask(t, server.URL, q)
	if m.Problem != nil {
		t.Fatal(m.Problem)
	}
	if got := fmt.Sprint(m.Canary.Requests, m.Canary.Buckets); got != "27 [{0.1 11} {0.25 23} {+Inf 27}]" {
		t.Errorf("canary: %s", got)
	}
	if got := fmt.Sprint(m.Stable.Requests, m.Stable.Buckets); got != "7 [{0.1 7} {+Inf 7}]" {
		t.Errorf("stable: %s", got)
	}
	q.Metric.Prometheus.Histogram = `checkout{pod=~"{{.Pods}}"}`
	plain := httptest.NewServer(matrices(map[string][]string{"checkout": {series("c-1", "200", -13, 1, 1, 2)}}, nil))
	defer plain.Close()
	check(t, ask(t, plain.URL, q), v1beta1.ReasonUnusableAnswer, "is no histogram")
}
