// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"testing"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// inBothScopes runs a test of filters for routes of example.com and for routes of any host. For a
// host that has a scope of its own a proxy chooses the filters by the route; for the others it does not know the
// route yet.
func inBothScopes(t *testing.T, test func(t *testing.T, hosts []string)) {
	t.Run("a host of its own", func(t *testing.T) { test(t, []string{"example.com"}) })
	t.Run("any host", func(t *testing.T) { test(t, nil) })
}

// TestNoWayToWriteAHostPassesAFilter asks for a guarded rule and one beside it that is not, however the
// host is written: the filters of neither may depend on it.
func TestNoWayToWriteAHostPassesAFilter(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("web", NewBackend(t, "web"))
	r.endpoints("bouncer", NewBackendFunc(t, "bouncer", (&bouncer{}).ServeHTTP))
	guarded := graphtest.Rule("/guarded", graphtest.Backend("web", 1))
	guarded.Filters.Auth = &graph.ExternalAuth{Cluster: graphtest.Key("bouncer")}
	guarded.Filters.CORS = &graph.CORS{Origins: []graph.Origin{{}}, MaxAge: 5}
	r.publish(graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", []string{"example.com", "*.example.com"}, guarded, graphtest.Rule("/", graphtest.Backend("web", 1))))))
	for _, host := range []string{
		"example.com", "example.com:8080", "EXAMPLE.com", "Example.Com:80", "example.com.",
		"www.example.com", "www.example.com:8080", "WWW.example.com", "www.example.com.",
	} {
		for _, http2 := range []bool{false, true} {
			for _, tt := range []struct {
				path, password, origin string
				status                 int
			}{
				{"/guarded", "", "", 401},
				{"/guarded", "password", "https://a.example", 200},
				{"/open", "", "", 200},
			} {
				a := r.do(call{port: port, host: host, path: tt.path, http2: http2, header: map[string]string{"Authorization": tt.password, "Origin": tt.origin}})
				if a.status != tt.status {
					t.Errorf("%s%s, HTTP/2 %v: status %d, want %d", host, tt.path, http2, a.status, tt.status)
				}
				if tt.origin != "" && a.header.Get("Access-Control-Allow-Origin") != tt.origin {
					t.Errorf("%s%s, HTTP/2 %v: the origin is not allowed", host, tt.path, http2)
				}
			}
		}
	}
}
