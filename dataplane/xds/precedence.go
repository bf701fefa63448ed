// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"cmp"

	"headgate.dev/headgate/dataplane/graph"
)

// entry is one match of one rule in one virtual host, with all that decides its
// place among the others.
type entry struct {
	route *graph.Route
	rule  *graph.Rule
	match graph.Match
	// width is 0 when the route names the host itself and grows with wider
	// wildcards; a route without hostnames is the widest.
	width int
	// order is the route's place by age and name among those of its width, index the match's in its rule.
	order, index int
}

// entriesFor collects what may serve a host: the routes that name it, and those
// whose wildcards cover it, because a request that no rule of the more specific
// route matches falls through to the wider one.
func entriesFor(host string, byHost map[string][]*graph.Attachment) []entry {
	var entries []entry
	seen := map[*graph.Route]bool{}
	for width, wider := range widening(host) {
		for order, a := range byHost[wider] {
			if seen[a.Route] {
				continue
			}
			seen[a.Route] = true
			for _, rule := range a.Route.Rules {
				for i, m := range matchesOf(rule) {
					entries = append(entries, entry{
						route: a.Route, rule: rule, match: m, width: width, order: order, index: i,
					})
				}
			}
		}
	}
	return entries
}

// matchesOf gives the matches of a rule; a rule without any matches every request.
func matchesOf(rule *graph.Rule) []graph.Match {
	if len(rule.Matches) == 0 {
		return []graph.Match{{}}
	}
	return rule.Matches
}

// compareEntries is the Gateway API's order of precedence, most specific first. It
// leaves regular expressions to the implementation: here they come after exact paths
// and before prefixes, because otherwise a catch-all prefix would hide them.
func compareEntries(a, b entry) int {
	return cmp.Or(
		cmp.Compare(a.width, b.width),
		cmp.Compare(pathRank(a.match), pathRank(b.match)),
		-cmp.Compare(len(pathOf(a.match)), len(pathOf(b.match))),
		-compareBool(a.match.Method != "", b.match.Method != ""),
		-cmp.Compare(len(a.match.Headers), len(b.match.Headers)),
		-cmp.Compare(len(a.match.Query), len(b.match.Query)),
		cmp.Compare(a.order, b.order),
		cmp.Compare(a.rule.Index, b.rule.Index),
		cmp.Compare(a.index, b.index),
	)
}

func pathRank(m graph.Match) int {
	switch m.Path.Type {
	case graph.MatchExact:
		return 0
	case graph.MatchRegex:
		return 1
	}
	return 2
}

// pathOf is the part of a path match that counts for its length. Exact paths are
// all equal in rank: only one can match.
func pathOf(m graph.Match) string {
	switch m.Path.Type {
	case graph.MatchExact:
		return ""
	case graph.MatchRegex:
		return m.Path.Value
	}
	return trimPrefix(m.Path.Value)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
