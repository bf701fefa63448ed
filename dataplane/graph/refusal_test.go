// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each listener says why it does not take a route, and what to write instead.
func TestEveryListenerSaysWhyItRefuses(t *testing.T) {
	const listeners = `
- {name: grpc, port: 80, protocol: HTTP, hostname: grpc.example.com, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}
- {name: odd, port: 81, protocol: SMTP}
- {name: same, port: 82, protocol: HTTP}
- {name: none, port: 83, protocol: HTTP, allowedRoutes: {namespaces: {from: None}}}
- {name: some, port: 84, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: blue}}}}}
- {name: host, port: 85, protocol: HTTP, hostname: b.example.com, allowedRoutes: {namespaces: {from: All}}}
`
	g := build(t, gateway(listeners), `---
kind: HTTPRoute
metadata: {name: r, namespace: team}
spec:
  parentRefs: [{name: web, namespace: default}, {name: web, namespace: default, port: 82}]
  hostnames: [a.example.com]
`)
	all, one := g.Routes[0].Parents[0], g.Routes[0].Parents[1]
	var got []string
	for _, c := range all.Candidates {
		if !c.Named || c.Refusal == nil {
			t.Fatalf("listener %s: %+v, want a refusal", c.Listener.Name, c)
		}
		got = append(got, c.Refusal.Reason+": "+c.Refusal.Message)
	}
	want := []string{
		`NotAllowedByListeners: listener "grpc" takes GRPCRoute only: add HTTPRoute to its allowedRoutes.kinds, or name another listener`,
		`NotAllowedByListeners: listener "odd" takes no route of any kind: see its conditions`,
		`NotAllowedByListeners: listener "same" takes routes of its own namespace "default" only, not of "team": write All or Selector as its allowedRoutes.namespaces.from, or move the route there`,
		`NotAllowedByListeners: listener "none" takes routes of no namespace, not of "team": write Same, All or Selector as its allowedRoutes.namespaces.from`,
		`NotAllowedByListeners: listener "some" takes routes of namespaces with the labels "team=blue", not of "team": give the namespace of the route those labels, or change its allowedRoutes.namespaces.selector`,
		`NoMatchingListenerHostname: listener "host" serves host b.example.com, which none of spec.hostnames (a.example.com) is: write one that it serves, or change its hostname`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if p := all.Problems[0]; len(all.Problems) != 1 || p.Reason != "NoMatchingListenerHostname" ||
		!strings.HasPrefix(p.Message, `no listener of Gateway default/web takes the route: listener "grpc" takes GRPCRoute only`) || !strings.Contains(p.Message, `; listener "host" serves`) {
		t.Errorf("the condition says %v, want what every listener says, with the reason of the last gate", all.Problems)
	}
	if p := one.Problems[0]; p.Reason != "NotAllowedByListeners" || strings.Contains(p.Message, `"grpc"`) {
		t.Errorf("the second parentRef says %v, want what its own listener says", one.Problems)
	}
}

func TestALongListOfListenersIsCutShort(t *testing.T) {
	var listeners strings.Builder
	for i := range 12 {
		fmt.Fprintf(&listeners, "- {name: l%d, port: %d, protocol: HTTP}\n", i, 8000+i)
	}
	g := build(t, gateway(listeners.String()), "---\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: web, sectionName: gone}]}")
	message := g.Routes[0].Parents[0].Problems[0].Message
	if want := `Gateway default/web has no listener "gone": write one that it has: "l0" (port 8000), `; !strings.HasPrefix(message, want) || !strings.HasSuffix(message, `"l7" (port 8007), and 4 more`) {
		t.Errorf("the condition says %q", message)
	}
}
