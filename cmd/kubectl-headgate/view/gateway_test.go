// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/dataplane/served"
)

func TestTheRouteTableAndAStaleProxy(t *testing.T) {
	rows := []served.Row{
		{
			Listener: "https-443/shop", ServerNames: []string{"shop.example"}, Host: "shop.example", Match: "GET /cart/*", Route: "HTTPRoute/shop/cart", Rule: "0/0",
			Backends: []served.Backend{{Cluster: "shop/cart/80", Weight: 95, Total: 100}, {Cluster: "shop/cart-canary/80", Weight: 5, Total: 100}}, Filters: []string{"timeout 10s"},
		},
		{Listener: "https-443/shop", ServerNames: []string{"shop.example"}, Host: "shop.example", Match: "/*", Route: "HTTPRoute/shop/web", Rule: "0/0", Answer: "500"},
		{Listener: "https-443/shop", ServerNames: []string{"shop.example"}, Host: "*", Match: "every request", Answer: "404"},
		{Listener: "tcp-5432", Match: "every connection", Backends: []served.Backend{{Cluster: "shop/db/5432", Weight: 1, Total: 1}}},
	}
	table := RouteTable{Gateway: "shop/front", ServedBy: "front-1", Rows: rows, Proxies: []ServingProxy{
		{Name: "front-1"},
		{Name: "front-2", Differences: []served.Difference{{Where: "https-443/shop shop.example /new", Expected: "shop/new/80 100%"}}, Notes: []string{"the proxy refused an update"}},
	}}
	want := strings.TrimPrefix(`
Gateway shop/front, as served by front-1

https-443/shop (TLS for shop.example)
  shop.example
    GET /cart/*  shop/cart/80 95%, shop/cart-canary/80 5%  HTTPRoute/shop/cart rule 0/0
                   timeout 10s
    /*           answers 500                               HTTPRoute/shop/web rule 0/0
  * (every other host)
    every request  answers 404

tcp-5432
    every connection  shop/db/5432 100%

front-2 serves something else than the API objects ask for:
  https-443/shop shop.example /new
    served:   nothing
    expected: shop/new/80 100%
  It may be a moment behind: ask again. When it stays so, see 'kubectl headgate gateway status'
  and the logs of Headgate: the proxy does not hear from it, or refuses what it hears.

front-2: the proxy refused an update
`, "\n")
	if diff := cmp.Diff(want, Routes(table, Style{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !table.Differs() {
		t.Error("the table does not differ")
	}
	table.Proxies = table.Proxies[:1]
	if got := Routes(table, Style{}); !strings.HasSuffix(got, "\n1 proxy serves what the API objects ask for.\n") {
		t.Errorf("got %s", got)
	}
}
