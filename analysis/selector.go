// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"strings"
)

// Selector is what is known of a PromQL series selector: name{label="value", …}.
type Selector struct {
	// Name of the metric; empty where it is selected by label alone.
	Name string
	// Labels that are matched, in the order of the text, __name__ left out.
	Labels []string
}

// ParseSelector reads a series selector and nothing more: no function, no range, no
// offset, no arithmetic. The error is a sentence that says what to write instead. Source:
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
func ParseSelector(text string) (Selector, error) {
	s := selectorScanner{rest: strings.TrimSpace(text)}
	var sel Selector
	sel.Name = s.name(true)
	s.blanks()
	if s.take("{") {
		for s.blanks(); !s.take("}"); s.blanks() {
			label, name, err := s.matcher()
			switch {
			case err != nil:
				return Selector{}, notSelector(text, err.Error())
			case name != "" && sel.Name == "":
				sel.Name = name
			case label != "" && label != "__name__":
				sel.Labels = append(sel.Labels, label)
			}
			if s.blanks(); !s.take(",") && !strings.HasPrefix(s.rest, "}") {
				return Selector{}, notSelector(text, "a comma or } is missing")
			}
		}
	} else if sel.Name == "" {
		return Selector{}, notSelector(text, "it does not begin with the name of a metric")
	}
	switch s.blanks(); {
	case strings.HasPrefix(s.rest, "("):
		return Selector{}, notSelector(text, sel.Name+"(…) is a function")
	case strings.HasPrefix(s.rest, "["):
		return Selector{}, notSelector(text, "the range in brackets is Headgate's to choose")
	case s.rest != "":
		return Selector{}, notSelector(text, "more follows behind it")
	}
	return sel, nil
}

func notSelector(text, why string) error {
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "…"
	}
	return fmt.Errorf("%s is not a selector of series (%s): write a counter without rate(), increase(), range or offset, such as http_requests_total{code=~\"5..\"}", text, why)
}

type selectorScanner struct{ rest string }

func (s *selectorScanner) blanks() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

func (s *selectorScanner) take(token string) bool {
	rest, ok := strings.CutPrefix(s.rest, token)
	if ok {
		s.rest = rest
	}
	return ok
}

// name reads an identifier, which of a metric may contain colons; empty where there is none.
func (s *selectorScanner) name(colons bool) string {
	n := 0
	for n < len(s.rest) {
		c := s.rest[n]
		if c != '_' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') &&
			!(n > 0 && '0' <= c && c <= '9') && !(colons && c == ':') {
			break
		}
		n++
	}
	name := s.rest[:n]
	s.rest = s.rest[n:]
	return name
}

// matcher reads label="value", or a metric's name in quotes.
func (s *selectorScanner) matcher() (label, name string, err error) {
	quotedName, isQuoted, err := s.quoted()
	if err != nil {
		return "", "", err
	}
	label = quotedName
	if !isQuoted {
		if label = s.name(false); label == "" {
			return "", "", fmt.Errorf("a label's name is missing")
		}
	}
	s.blanks()
	op := ""
	for _, o := range []string{"=~", "!~", "!=", "="} {
		if s.take(o) {
			op = o
			break
		}
	}
	if op == "" {
		if isQuoted {
			return "", quotedName, nil
		}
		return "", "", fmt.Errorf("behind %s one of = != =~ !~ is missing", label)
	}
	s.blanks()
	value, isQuoted, err := s.quoted()
	switch {
	case err != nil:
		return "", "", err
	case !isQuoted:
		return "", "", fmt.Errorf("the value of %s is not in quotes", label)
	case label == "__name__" && op == "=":
		return label, value, nil
	}
	return label, "", nil
}

// quoted reads a text in any of PromQL's quotes; false where there is none.
func (s *selectorScanner) quoted() (string, bool, error) {
	if s.rest == "" || strings.IndexByte("\"'`", s.rest[0]) < 0 {
		return "", false, nil
	}
	quote := s.rest[0]
	for i := 1; i < len(s.rest); i++ {
		switch {
		case s.rest[i] == '\\' && quote != '`':
			i++
		case s.rest[i] == quote:
			value := s.rest[1:i]
			s.rest = s.rest[i+1:]
			return value, true, nil
		}
	}
	return "", false, fmt.Errorf("a quote is not closed")
}
