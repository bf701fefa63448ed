// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"headgate.dev/headgate/cmd/kubectl-headgate/explain"
)

// WhyRoute shows each parent and listener of a route with the gates that it passes
// and those at which it fails.
func WhyRoute(a explain.Answer, s Style) string {
	var b strings.Builder
	b.WriteString(verdict(a) + "\n")
	for _, p := range a.Parents {
		state := s.bad("not attached")
		if p.Attached {
			state = s.good("attached")
		}
		fmt.Fprintf(&b, "\n%s: %s\n%s", s.bold("Parent "+p.Ref), state, gateLines(p.Gates, "  ", s))
		for _, l := range p.Listeners {
			switch {
			case !l.Meant:
				b.WriteString(s.dim("  listener "+l.Name+": the parentRef means another") + "\n")
				continue
			case l.Attached:
				fmt.Fprintf(&b, "  listener %s: %s\n", l.Name, s.good("attached"))
			default:
				fmt.Fprintf(&b, "  listener %s: %s\n", l.Name, s.bad("not attached"))
			}
			b.WriteString(gateLines(l.Gates, "    ", s))
		}
	}
	if len(a.Rules) > 0 {
		b.WriteString("\n" + s.bold("Rules") + "\n" + gateLines(a.Rules, "  ", s))
	}
	return b.String()
}

// verdict is the first sentence.
func verdict(a explain.Answer) string {
	attached, failed := 0, 0
	for _, p := range a.Parents {
		if p.Attached {
			attached++
		}
	}
	for _, g := range a.Rules {
		if !g.Passed {
			failed++
		}
	}
	text := fmt.Sprintf("%s is attached to %d of its %s", a.Route, attached, count(len(a.Parents), "parent", "parents"))
	switch {
	case len(a.Parents) == 0:
		return a.Route + " names no parent: name the Gateway that shall serve it in spec.parentRefs."
	case failed > 0:
		return text + fmt.Sprintf("; %s wrong in its rules.", count(failed, "thing is", "things are"))
	}
	return text + "."
}

func gateLines(list []explain.Gate, indentation string, s Style) string {
	var b strings.Builder
	for _, g := range list {
		mark := s.bad("✗")
		if g.Passed {
			mark = s.good("✓")
		}
		fmt.Fprintf(&b, "%s%s %s\n", indentation, mark, g.Text)
	}
	return b.String()
}
