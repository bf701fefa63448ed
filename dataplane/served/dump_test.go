// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dump is as Envoy prints one, with two scopes of a route table, an extension that
// this program does not know, and updates that were refused.
const dump = `{"configs": [
{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {}},
{"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump",
 "dynamic_scoped_route_configs": [{"name": "headgate", "scoped_route_configs": [
  {"@type": "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration", "name": "http-80/b.example.com", "route_configuration":
   {"name": "http-80/b.example.com", "virtual_hosts": [{"name": "b", "domains": ["b.example.com"], "routes": [
    {"name": "HTTPRoute/shop/b/0/0", "match": {"prefix": "/"}, "route": {"cluster": "shop/b/80"},
     "typed_per_filter_config": {"envoy.filters.http.novel": {"@type": "type.googleapis.com/example.Novel", "answer": 42}}}]}]}},
  {"@type": "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration", "name": "http-80/*", "route_configuration":
   {"name": "http-80/*", "virtual_hosts": [
    {"name": "c", "domains": ["*"], "routes": [{"name": "HTTPRoute/shop/c/1/2", "match": {"path": "/c"}, "direct_response": {"status": 500}}]}]}}]}]},
{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
 {"name": "http-80", "error_state": {"details": "no such filter"}, "active_state": {"listener": {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "http-80",
  "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
   "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
   "scoped_routes": {"name": "headgate", "scoped_rds": {}}}}]}]}}},
 {"name": "tcp-5432", "active_state": {"listener": {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "tcp-5432",
  "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
   "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
   "weighted_clusters": {"clusters": [{"name": "shop/db/5432", "weight": 3}, {"name": "shop/db2/5432", "weight": 1}]}}}]}]}}},
 {"name": "https-443", "warming_state": {}}]}
]}`

func TestScopedRouteTablesAreRead(t *testing.T) {
	c, err := ReadDump([]byte(dump), []byte(`{"entries": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Rows() {
		got = append(got, strings.Join([]string{r.Listener, r.Host, r.Match, r.Route, r.Rule, r.Outcome()}, " | "))
	}
	want := []string{
		"http-80 | b.example.com | /* | HTTPRoute/shop/b | 0/0 | shop/b/80 100%; filter novel",
		"http-80 | * | /c | HTTPRoute/shop/c | 1/2 | answers 500",
		"tcp-5432 |  | every connection |  |  | shop/db/5432 75%, shop/db2/5432 25%",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	notes := []string{
		"the proxy refused an update of listener http-80: no such filter",
		"listener https-443 is not served yet: it waits for what it refers to",
	}
	if diff := cmp.Diff(notes, c.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	part := c.Of("HTTPRoute/shop/b")
	document, err := part.Document()
	if err != nil || len(document["routes"].([]any)) != 1 {
		t.Errorf("a route with an extension that is not known: %v, %v", document, err)
	}
}

func TestWhatIsNoDumpIsAnError(t *testing.T) {
	for _, row := range []struct{ dump, runtime string }{
		{"<html>", "{}"},
		{`{"configs": [{"@type": "x/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": 3}]}`, "{}"},
		{"{}", "<html>"},
	} {
		if _, err := ReadDump([]byte(row.dump), []byte(row.runtime)); err == nil || !strings.Contains(err.Error(), "reading") {
			t.Errorf("%s, %s: error %v", row.dump, row.runtime, err)
		}
	}
}
