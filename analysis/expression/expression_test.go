// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expression_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/analysis/expression"
)

const document = `{"data": {"errors": 3, "total": 200, "name": "hush", "list": [1, 2, 3], "empty": null}, "ok": true}`

func decoded(t testing.TB, text string) any {
	t.Helper()
	var body any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func TestAnExpressionGivesANumber(t *testing.T) {
	for text, want := range map[string]float64{
		"body.data.errors / double(body.data.total)": 0.015,
		"body.data.errors":                           3,
		"7":                                          7,
		"7u":                                         7,
		"size(body.data.list)":                       3,
		"body.data.list[1]":                          2,
		"body.ok ? 1.0 : 0.0":                        1,
		"body.?data.?warnings.orValue(5.0)":          5,
		"math.greatest(body.data.list.map(x, double(x)))":  3,
		"body.data.list.filter(x, x > 1).size()":           2,
		"has(body.data.warnings) ? body.data.warnings : 0": 0,
		"double(body.data.name.size())":                    4,
	} {
		n, err := expression.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := n.Of(decoded(t, document)); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	n, err := expression.Compile("body.data.errors / 0.0")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.Of(decoded(t, document)); err != nil || !math.IsInf(got, 1) {
		t.Errorf("what is no finite number is the caller's to refuse: %v, %v", got, err)
	}
}

func TestWhatIsNoNumberIsRefusedBeforeAnythingIsAsked(t *testing.T) {
	for text, want := range map[string]string{
		"body.":           "it is not a CEL expression over body (at character 6",
		"answer.errors":   "undeclared reference to 'answer'",
		"true":            "write (true) ? 1.0 : 0.0",
		"'three'":         "it gives a string instead of a number",
		"[1]":             "instead of a number",
		"body.data.f(1)":  "it is not a CEL expression",
		"size(1) + 'a'":   "it is not a CEL expression",
		"body.data == 1 ": "gives true or false",
	} {
		if _, err := expression.Compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestAnAnswerThatDoesNotFitHasASentenceAndNothingOfTheAnswer(t *testing.T) {
	for text, want := range map[string]string{
		"body.data.warnings":         "no such field",
		"body.data.name":             "it gives a string instead of a number",
		"body.data.empty":            "instead of a number",
		"double(body.data.name)":     "it cannot be evaluated",
		"body.data.list[7]":          "shorter than the index",
		"int(body.data.errors) / 0":  "divides by zero",
		"body.data.name + 1":         "another type",
		"body.data.list.all(x, x>0)": "it gives a bool",
	} {
		n, err := expression.Compile(text)
		if err != nil {
			if !strings.Contains(err.Error(), "true or false") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		_, err = n.Of(decoded(t, document))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestAnExpressionThatWouldTakeForeverIsStopped(t *testing.T) {
	n, err := expression.Compile("body.map(a, body.map(b, body.map(c, body.map(d, 1.0)))).size()")
	if err != nil {
		t.Fatal(err)
	}
	big := make([]any, 1000)
	began := time.Now()
	if _, err := n.Of(big); err == nil || !strings.Contains(err.Error(), "too many steps") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopped after %s", took)
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := expression.Compile("body.data.errors / double(body.data.total)"); err != nil {
			b.Fatal(err)
		}
	}
}
