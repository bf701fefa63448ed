// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"

	"headgate.dev/headgate/dataplane/served"
)

// RouteTable is what the proxies of a Gateway serve, or should serve.
type RouteTable struct {
	Gateway string `json:"gateway"`
	// ServedBy is the proxy whose rows these are; empty for the expected ones.
	ServedBy string       `json:"servedBy,omitempty"`
	Rows     []served.Row `json:"rows"`
	// Proxies are all that were asked.
	Proxies []ServingProxy `json:"proxies,omitempty"`
}

// ServingProxy is a proxy and what it serves otherwise than expected.
type ServingProxy struct {
	Name        string              `json:"name"`
	Differences []served.Difference `json:"differences,omitempty"`
	// Notes are the proxy's own, Problem why it could not be read.
	Notes   []string `json:"notes,omitempty"`
	Problem string   `json:"problem,omitempty"`
}

// Differs tells whether any proxy serves something else than expected.
func (t RouteTable) Differs() bool {
	return slices.ContainsFunc(t.Proxies, func(p ServingProxy) bool { return len(p.Differences) > 0 })
}

// Routes shows a route table, and then each proxy that serves something else.
func Routes(t RouteTable, s Style) string {
	var b strings.Builder
	if t.ServedBy == "" {
		fmt.Fprintf(&b, "Gateway %s, as the API objects ask for it\n", t.Gateway)
	} else {
		fmt.Fprintf(&b, "Gateway %s, as served by %s\n", t.Gateway, t.ServedBy)
	}
	if len(t.Rows) == 0 {
		b.WriteString("\nNothing is served: the Gateway has no listener that can be.\n")
	}
	// Rows of one hostname of one listener stand together.
	for i := 0; i < len(t.Rows); {
		end := i + 1
		for end < len(t.Rows) && sameHost(t.Rows[i], t.Rows[end]) {
			end++
		}
		if i == 0 || t.Rows[i-1].Listener != t.Rows[i].Listener {
			b.WriteString("\n" + s.bold(t.Rows[i].Listener) + names(t.Rows[i].ServerNames) + "\n")
		}
		b.WriteString(hostTable(t.Rows[i:end], s))
		i = end
	}
	for _, p := range t.Proxies {
		b.WriteString(proxyText(p, s))
	}
	if len(t.Proxies) > 0 && !t.Differs() && !slices.ContainsFunc(t.Proxies, func(p ServingProxy) bool { return p.Problem != "" }) {
		b.WriteString("\n" + s.good(fmt.Sprintf("%s what the API objects ask for.", count(len(t.Proxies), "proxy serves", "proxies serve"))) + "\n")
	}
	return b.String()
}

func sameHost(a, b served.Row) bool { return a.Listener == b.Listener && a.Host == b.Host }

func names(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return " (TLS for " + strings.Join(list, ", ") + ")"
}

func hostTable(rows []served.Row, s Style) string {
	g := grid{}
	for _, r := range rows {
		of := r.Route
		if r.Rule != "" {
			of += " rule " + r.Rule
		}
		g.rows = append(g.rows, []string{"    " + r.Match, r.Destination(), of})
		for _, f := range r.Filters {
			g.rows = append(g.rows, []string{"", "  " + f})
		}
	}
	host := rows[0].Host
	switch host {
	case "":
		return g.String()
	case "*":
		host = "* (every other host)"
	}
	return "  " + s.bold(host) + "\n" + g.String()
}

func proxyText(p ServingProxy, s Style) string {
	var b strings.Builder
	if p.Problem != "" {
		b.WriteString("\n" + s.bad(p.Name+" cannot be read: "+p.Problem) + "\n")
	}
	if len(p.Differences) > 0 {
		b.WriteString("\n" + s.bad(fmt.Sprintf("%s serves something else than the API objects ask for:", p.Name)) + "\n")
	}
	for _, d := range p.Differences {
		fmt.Fprintf(&b, "  %s\n    served:   %s\n    expected: %s\n", d.Where, orNothing(d.Served), orNothing(d.Expected))
	}
	if len(p.Differences) > 0 {
		b.WriteString("  It may be a moment behind: ask again. When it stays so, see 'kubectl headgate gateway status'\n" +
			"  and the logs of Headgate: the proxy does not hear from it, or refuses what it hears.\n")
	}
	for _, note := range p.Notes {
		b.WriteString("\n" + s.wait(p.Name+": "+note) + "\n")
	}
	return b.String()
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// count is a number with the words for one and for several.
func count(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
