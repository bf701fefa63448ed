// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package goldens

import (
	"strings"
	"testing"

	"headgate.dev/headgate/dataplane/graph"
)

func TestEveryCaseHasAGatewayOfOurs(t *testing.T) {
	for _, c := range Cases(t) {
		if g := graph.Build(c.Resources); len(g.Gateways) == 0 {
			t.Errorf("%s: the graph has no Gateway, so the case shows nothing", c.Name)
		}
	}
}

func TestParseRefusesMistakes(t *testing.T) {
	tests := []struct{ name, doc, want string }{
		{"a field that does not exist", "kind: Gateway\nspec: {listenrs: []}", "listenrs"},
		{"a kind that the graph does not read", "kind: Pod", `"Pod"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := Parse([]byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse() = %v, want an error that names %s", err, tt.want)
			}
		})
	}
}
