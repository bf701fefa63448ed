// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"encoding/base64"
	"testing"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestASessionChoosesAmongTheEndpointsOnly: the address stands in what the client sends, so a
// client can write another one.
func TestASessionChoosesAmongTheEndpointsOnly(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	secret := NewBackend(t, "secret")
	r.endpoints("web", NewBackend(t, "web"), NewBackend(t, "web"))
	r.endpoints("other", NewBackend(t, "other"))
	r.endpoints("secret", secret)
	kept := func(path, service string) *graph.Rule {
		rule := graphtest.Rule(path, graphtest.Backend(service, 1))
		rule.Backends[0].Filters.Session = &graph.Session{Header: "X-Session"}
		return rule
	}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, kept("/web", "web"), kept("/other", "other")))))
	of := r.do(call{port: port, path: "/other"}).header.Get("X-Session")
	if of == "" {
		t.Fatal("there is no session")
	}
	for _, tt := range []struct{ name, session string }{
		{"an endpoint of another backend", of},
		{"an endpoint of nothing that is routed to", base64.StdEncoding.EncodeToString([]byte(secret.address.String()))},
		{"the proxy's admin interface", base64.StdEncoding.EncodeToString([]byte(Address(r.proxy.AdminPort)))},
		{"the node's credentials", base64.StdEncoding.EncodeToString([]byte("169.254.169.254:80"))},
		{"no address", base64.StdEncoding.EncodeToString([]byte("::::"))},
		{"no base64", "%"},
	} {
		if a := r.do(call{port: port, path: "/web", header: map[string]string{"X-Session": tt.session}}); a.status != 200 || a.seen.Backend != "web" {
			t.Errorf("%s: answered %d by %q, want 200 by web", tt.name, a.status, a.seen.Backend)
		}
	}
	if n := secret.Requests.Load(); n > 0 {
		t.Errorf("the secret backend saw %d requests", n)
	}
}
