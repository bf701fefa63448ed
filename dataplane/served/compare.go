// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"fmt"
	"slices"
	"strings"
)

// Difference is a row that a proxy serves otherwise than it should.
type Difference struct {
	// Where names the listener, host and match.
	Where string `json:"where"`
	// Served and Expected say what becomes of the request; one of them is empty
	// when only one side has the row.
	Served   string `json:"served,omitempty"`
	Expected string `json:"expected,omitempty"`
}

// Compare gives the differences of what a proxy serves from what it should serve,
// in the order of the tables; none when they are equal.
func Compare(served, expected []Row) []Difference {
	var out []Difference
	is, should := byKey(served), byKey(expected)
	for _, row := range expected {
		key := row.key()
		other, found := is[key]
		switch {
		case !found:
			out = append(out, Difference{Where: key, Expected: row.Outcome()})
		case other.Outcome() != row.Outcome():
			out = append(out, Difference{Where: key, Served: other.Outcome(), Expected: row.Outcome()})
		case other.config != row.config:
			out = append(out, Difference{Where: key, Served: "with other details (see gateway config, and with --expected)", Expected: row.Outcome()})
		}
	}
	for _, row := range served {
		if _, found := should[row.key()]; !found {
			out = append(out, Difference{Where: row.key(), Served: row.Outcome()})
		}
	}
	if len(out) == 0 && !slices.Equal(keys(served), keys(expected)) {
		out = append(out, Difference{Where: "the order of the rows", Served: strings.Join(keys(served), "; "), Expected: strings.Join(keys(expected), "; ")})
	}
	return out
}

func byKey(rows []Row) map[string]Row {
	out := map[string]Row{}
	for _, r := range rows {
		out[r.key()] = r
	}
	return out
}

func keys(rows []Row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.key())
	}
	return out
}

// key tells rows apart, in words.
func (r Row) key() string {
	parts := []string{r.Listener}
	if r.Host != "" {
		parts = append(parts, r.Host)
	}
	parts = append(parts, r.Match)
	if r.Route != "" {
		parts = append(parts, fmt.Sprintf("(%s rule %s)", r.Route, r.Rule))
	}
	return strings.Join(parts, " ")
}

// Outcome is what becomes of a request, on one line.
func (r Row) Outcome() string {
	parts := []string{r.Destination()}
	if len(r.Filters) > 0 {
		parts = append(parts, strings.Join(r.Filters, "; "))
	}
	return strings.Join(parts, "; ")
}

// Destination is where a request goes, on one line.
func (r Row) Destination() string {
	if r.Answer != "" {
		return "answers " + r.Answer
	}
	if len(r.Backends) == 0 {
		return "goes nowhere"
	}
	var shares []string
	for _, b := range r.Backends {
		shares = append(shares, b.String())
	}
	return strings.Join(shares, ", ")
}

// String is the cluster with its percentage; a share that no Service takes says so.
func (b Backend) String() string {
	name := b.Cluster
	if strings.HasPrefix(name, "invalid-") {
		name = "500 (backendRefs[" + strings.TrimPrefix(name, "invalid-") + "] is not valid)"
	}
	percent := fmt.Sprintf("%.4f", b.Percent())
	return name + " " + strings.TrimRight(strings.TrimRight(percent, "0"), ".") + "%"
}
