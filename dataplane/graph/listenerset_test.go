// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/dataplane/graph"
)

// set gives a ListenerSet of Gateway web in a namespace with these listeners.
func set(namespace, name, created, listeners string) string {
	return fmt.Sprintf("---\nkind: ListenerSet\nmetadata: {name: %s, namespace: %s, creationTimestamp: %q}\nspec:\n  parentRef: {name: web, namespace: default}\n  listeners:\n%s",
		name, namespace, created, indented([]string{listeners}))
}

const (
	early = "2026-01-01T00:00:00Z"
	late  = "2026-01-02T00:00:00Z"
)

// setProblems are the sets with their problems, and their listeners with theirs.
func setProblems(g *graph.Graph) []string {
	var out []string
	for _, s := range g.ListenerSets {
		line := fmt.Sprintf("%s valid=%v", s.Key, s.Valid)
		for _, p := range s.Problems {
			line += " " + p.Reason
		}
		out = append(out, line)
		for _, l := range s.Listeners {
			line := fmt.Sprintf("%s valid=%v", l.ID(), l.Valid)
			for _, p := range l.Problems {
				line += " " + p.Reason
			}
			out = append(out, line)
		}
	}
	return out
}

func TestListenerSets(t *testing.T) {
	const own = "- {name: a, port: 80, protocol: HTTP, hostname: own.com}"
	all := "allowedListeners: {namespaces: {from: All}}"
	one := "- {name: a, port: 80, protocol: HTTP, hostname: a.com}"
	tests := []struct {
		name string
		docs []string
		want []string
	}{
		{
			"a listener that yields to the Gateway takes nothing from those beside it",
			[]string{gateway(own, all), set("x", "a", early, one+"\n- {name: b, port: 80, protocol: TCP}")},
			[]string{"x/a valid=true ListenersNotValid", "x/a/a valid=true", "x/a/b valid=false ProtocolConflict"},
		},
		{"a Gateway that says nothing takes none", []string{gateway(own), set("default", "s", early, one)}, []string{"default/s valid=false NotAllowed"}},
		{
			"None takes none, also of its own namespace",
			[]string{gateway(own, "allowedListeners: {namespaces: {from: None}}"), set("default", "s", early, one)},
			[]string{"default/s valid=false NotAllowed"},
		},
		{
			"Same takes those of its namespace",
			[]string{gateway(own, "allowedListeners: {namespaces: {from: Same}}"), set("default", "s", early, one), set("x", "s", early, one)},
			[]string{"default/s valid=true", "default/s/a valid=true", "x/s valid=false NotAllowed"},
		},
		{
			"a selector that cannot be read takes none",
			[]string{gateway(own, "allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {'?': b}}}}"), set("default", "s", early, one)},
			[]string{"default/s valid=false NotAllowed"},
		},
		{
			"Selector without a selector takes none",
			[]string{gateway(own, "allowedListeners: {namespaces: {from: Selector}}"), set("default", "s", early, one)},
			[]string{"default/s valid=false NotAllowed"},
		},
		{
			"the Gateway's own listener wins whatever the age, and the older set",
			[]string{gateway(own, all), set("x", "b", late, one), set("z", "a", early, one+"\n- {name: b, port: 80, protocol: HTTP, hostname: own.com}")},
			[]string{"x/b valid=false ListenersNotValid", "x/b/a valid=false HostnameConflict", "z/a valid=true ListenersNotValid", "z/a/a valid=true", "z/a/b valid=false HostnameConflict"},
		},
		{
			"of two that are as old, the one whose name comes first",
			[]string{gateway(own, all), set("x", "b", early, one), set("x", "a", early, one)},
			[]string{"x/a valid=true", "x/a/a valid=true", "x/b valid=false ListenersNotValid", "x/b/a valid=false HostnameConflict"},
		},
		{
			"another protocol on a port that is taken",
			[]string{gateway(own, all), set("x", "a", early, "- {name: a, port: 80, protocol: HTTPS, hostname: a.com, tls: {certificateRefs: [{name: c}]}}")},
			[]string{"x/a valid=false ListenersNotValid", "x/a/a valid=false InvalidCertificateRef ProtocolConflict"},
		},
		{
			"a loser takes nothing from those after it",
			[]string{gateway(own, all), set("x", "a", early, "- {name: a, port: 80, protocol: HTTP, hostname: own.com}"), set("x", "b", late, one)},
			[]string{"x/a valid=false ListenersNotValid", "x/a/a valid=false HostnameConflict", "x/b valid=true", "x/b/a valid=true"},
		},
		{
			"a low port does not take the high one that an earlier listener has",
			[]string{gateway("- {name: a, port: 10443, protocol: HTTP}", all), set("x", "a", early, "- {name: a, port: 443, protocol: HTTP}")},
			[]string{"x/a valid=false ListenersNotValid", "x/a/a valid=false PortUnavailable"},
		},
		{
			"nor a high port what the proxy binds for an earlier low one",
			[]string{gateway("- {name: a, port: 443, protocol: HTTP}", all), set("x", "a", early, "- {name: a, port: 10443, protocol: HTTP}")},
			[]string{"x/a valid=false ListenersNotValid", "x/a/a valid=false PortUnavailable"},
		},
		{
			"a Gateway that is not accepted",
			[]string{gateway(own, all, "addresses: [{value: nonsense}]"), set("x", "a", early, one)},
			[]string{"x/a valid=false ParentNotAccepted", "x/a/a valid=true"},
		},
		{"a set of somebody else's Gateway is none of ours", []string{strings.Replace(gateway(own, all), "gatewayClassName: headgate", "gatewayClassName: other", 1), set("x", "a", early, one)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := build(t, tt.docs...)
			if diff := cmp.Diff(tt.want, setProblems(g)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, gw := range g.Gateways {
				for _, l := range gw.Own() {
					if !l.Valid {
						t.Errorf("the Gateway's own listener %s lost: %v", l.Name, l.Problems)
					}
				}
			}
		})
	}
}

// Certificates and grants are those of the set's namespace, not of the Gateway's.
func TestCertificatesOfAListenerSet(t *testing.T) {
	listeners := "- {name: own, port: 443, protocol: HTTPS, hostname: a.com, tls: {certificateRefs: [{name: c}]}}\n" +
		"- {name: other, port: 443, protocol: HTTPS, hostname: b.com, tls: {certificateRefs: [{name: c, namespace: vault}]}}"
	grant := func(kind, namespace string) string {
		return fmt.Sprintf("---\nkind: ReferenceGrant\nmetadata: {name: g, namespace: vault}\nspec: {from: [{group: gateway.networking.k8s.io, kind: %s, namespace: %s}], to: [{group: '', kind: Secret}]}", kind, namespace)
	}
	for _, tt := range []struct {
		name, grant string
		want        []string
	}{
		{"without a grant", "", []string{"x/c"}},
		{"a grant for Gateways is none for sets", grant("Gateway", "x"), []string{"x/c"}},
		{"a grant for sets of the Gateway's namespace", grant("ListenerSet", "default"), []string{"x/c"}},
		{"a grant for the set's namespace", grant("ListenerSet", "x"), []string{"vault/c", "x/c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := resources(t, gateway(http, "allowedListeners: {namespaces: {from: All}}"), set("x", "s", early, listeners), tt.grant)
			var got []string
			for _, ref := range graph.Wanted(r) {
				got = append(got, ref.NamespacedName.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Secrets that are read (-want +got):\n%s", diff)
			}
			refused := strings.Contains(fmt.Sprint(graph.Build(r).ListenerSets[0].Listeners[1].Problems), "RefNotPermitted")
			if allowed := len(tt.want) == 2; refused == allowed {
				t.Errorf("the reference is refused: %v, though the Secret is read: %v", refused, allowed)
			}
		})
	}
}

func TestDefaultGateways(t *testing.T) {
	defaulted := strings.NewReplacer("name: web", "name: default1").Replace(gateway(http, "defaultScope: All"))
	tests := []struct {
		name, route string
		// want names the parents in order.
		want []string
	}{
		{"who asks for default Gateways gets those, and no other", "useDefaultGateways: All", []string{"default/default1 default"}},
		{"also beside others", "useDefaultGateways: All, parentRefs: [{name: web}]", []string{"default/web", "default/default1 default"}},
		{"one that is named is no parent twice", "useDefaultGateways: All, parentRefs: [{name: default1}]", []string{"default/default1"}},
		{"who asks for none gets none", "useDefaultGateways: None, parentRefs: [{name: web}]", []string{"default/web"}},
		{"nor who does not ask", "parentRefs: [{name: web}]", []string{"default/web"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := build(t, gateway(http), defaulted, "---\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {rules: [{}], "+tt.route+"}")
			var got []string
			for _, p := range g.Routes[0].Parents {
				name := p.Gateway.Key.String()
				if p.Default {
					name += " default"
				}
				if !p.Accepted {
					name += " refused"
				}
				got = append(got, name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
