// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
)

// pathProblems refuses paths that cannot match or that Envoy would refuse.
func pathProblems(field string, m StringMatch) []Problem {
	switch m.Type {
	case MatchRegex:
		if err := checkRegex(m.Value); err != nil {
			return []Problem{valueUnsupported(field+".value", "%v", err)}
		}
		return nil
	case MatchExact, MatchPrefix:
	default:
		return []Problem{valueUnsupported(field+".type", "%q is not known: write Exact, PathPrefix or RegularExpression", m.Type)}
	}
	switch {
	case !strings.HasPrefix(m.Value, "/"):
		return []Problem{valueUnsupported(field+".value", "%q does not begin with /", m.Value)}
	case strings.Contains(m.Value, "//"):
		return []Problem{valueUnsupported(field+".value", "%q has an empty element: write a single /", m.Value)}
	case !isPath(m.Value):
		return []Problem{valueUnsupported(field+".value", "%q has characters that no path has: write them as %%XX", m.Value)}
	}
	for _, element := range strings.Split(m.Value, "/") {
		if element == "." || element == ".." || strings.Contains(strings.ToLower(element), "%2f") {
			return []Problem{valueUnsupported(field+".value", "%q has the element %q, which paths lose before they are compared", m.Value, element)}
		}
	}
	return nil
}

// isPath tells whether s has only what RFC 3986 allows in a path.
func isPath(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isAlphanumeric(c), strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
		default:
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isToken tells whether s is a header name of RFC 9110.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// isHeaderValue tells whether s can stand in a header: no control characters.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || r < ' ' && r != '\t' || r == 0x7f })
}

// valueProblems checks how a header or a query parameter is compared.
func valueProblems(field string, m StringMatch) []Problem {
	switch m.Type {
	case MatchExact:
		if !isHeaderValue(m.Value) {
			return []Problem{valueUnsupported(field+".value", "%q has control characters", m.Value)}
		}
		return nil
	case MatchRegex:
		if err := checkRegex(m.Value); err != nil {
			return []Problem{valueUnsupported(field+".value", "%v", err)}
		}
		return nil
	}
	return []Problem{valueUnsupported(field+".type", "%q is not known: write Exact or RegularExpression", m.Type)}
}

// maxRegex bounds a compiled expression, so that RE2's memory limit of 8 MB is
// out of reach: it counts instructions and the character ranges in them.
const maxRegex = 50_000

// checkRegex refuses expressions that Envoy's RE2 refuses. Go's syntax is RE2's
// but for a few additions.
func checkRegex(expression string) error {
	if expression == "" {
		return fmt.Errorf("the regular expression is empty")
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return fmt.Errorf("%q is not a regular expression of RE2: %w", expression, err)
	}
	for _, class := range unicodeClasses(expression) {
		if _, ok := unicode.Scripts[class]; !ok && (unicode.Categories[class] == nil || class == "Cn" || class == "LC") && class != "Any" {
			return fmt.Errorf("%q has the character class \\p{%s}, which RE2 does not know: write a script such as \\p{Greek} or a category such as \\p{Lu}", expression, class)
		}
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("%q cannot be compiled: %w", expression, err)
	}
	size := 0
	for _, inst := range compiled.Inst {
		size += 1 + len(inst.Rune)
	}
	if size > maxRegex {
		return fmt.Errorf("%q is too large a regular expression: write a shorter one, or smaller repetitions", expression)
	}
	return nil
}

// ValidRegex tells whether Envoy takes a regular expression.
func ValidRegex(expression string) bool { return checkRegex(expression) == nil }

// unicodeClasses gives the names in \p{name}, \P{name} and \pN.
func unicodeClasses(expression string) []string {
	var names []string
	for i := 0; i+2 < len(expression); i++ {
		if expression[i] != '\\' {
			continue
		}
		i++ // the escaped character, so that \\p is no class
		if c := expression[i]; c != 'p' && c != 'P' {
			continue
		}
		name := expression[i+1:]
		if name[0] != '{' {
			names = append(names, name[:1])
			continue
		}
		if end := strings.IndexByte(name, '}'); end > 0 {
			names = append(names, strings.TrimPrefix(name[1:end], "^"))
		}
	}
	return names
}

func quoteRegex(s string) string { return regexp.QuoteMeta(s) }
