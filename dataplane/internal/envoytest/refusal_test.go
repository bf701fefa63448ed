// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/prometheus/client_golang/prometheus"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// TestARefusalHarmsOnlyItself publishes a route table that Envoy refuses beside a good one.
func TestARefusalHarmsOnlyItself(t *testing.T) {
	r := newRig(t)
	bad, good := FreePort(t), FreePort(t)
	backends := map[string]*Backend{"old": NewBackend(t, "old"), "new": NewBackend(t, "new")}
	for name, b := range backends {
		r.endpoints(name, b)
	}
	two := func(service string) *graph.Graph {
		return graphtest.Graph(
			graphtest.HTTP("bad", bad, "", graphtest.Route("bad", nil, graphtest.Rule("/", graphtest.Backend(service, 1)))),
			graphtest.HTTP("good", good, "", graphtest.Route("good", nil, graphtest.Rule("/", graphtest.Backend(service, 1)))),
		)
	}
	r.publish(two("old"))
	snap := xds.Translate(two("new"), graphtest.GatewayKey)
	name := fmt.Sprintf("http-%d/*", bad)
	hosts := snap.Routes[name].(*routev3.ScopedRouteConfiguration).RouteConfiguration.VirtualHosts
	hosts[0].Domains = append(hosts[0].Domains, hosts[0].Domains[0])
	version := r.Server.Publish(snap)
	r.Eventually("the refusal is known", func() error {
		nack := r.Server.State(graphtest.GatewayKey).Nack
		if nack == nil {
			return errors.New("none")
		}
		if nack.Resource != name || !strings.HasSuffix(nack.TypeURL, "RouteConfiguration") || !strings.Contains(nack.Message, "omain") {
			t.Fatalf("recorded %+v", nack)
		}
		return nil
	})
	if state := r.Server.State(graphtest.GatewayKey); state.Acked >= version {
		t.Errorf("a refused version counts as acknowledged: %+v", state)
	}
	if n := nacks(t, r.Server); n < 1 {
		t.Errorf("%v refusals are counted", n)
	}
	r.Eventually("all that was not refused is confirmed", func() error {
		if state := r.Server.State(graphtest.GatewayKey); state.Answered < version {
			return fmt.Errorf("%+v", state)
		}
		return nil
	})
	r.Eventually("the good route table has moved on", func() error {
		if a := r.do(call{port: good, path: "/"}); a.seen.Backend != "new" {
			return errors.New(a.seen.Backend)
		}
		return nil
	})
	if a := r.do(call{port: bad, path: "/"}); a.status != 200 || a.seen.Backend != "old" {
		t.Errorf("the last good route table answers %d from %q", a.status, a.seen.Backend)
	}
	r.publish(two("new"))
	if state := r.Server.State(graphtest.GatewayKey); state.Nack != nil {
		t.Errorf("the refusal outlives its cause: %+v", state.Nack)
	}
	if a := r.do(call{port: bad, path: "/"}); a.seen.Backend != "new" {
		t.Errorf("the mended route table answers from %q", a.seen.Backend)
	}
}

// nacks is headgate_gateway_nacks_total of all Gateways.
func nacks(t *testing.T, s *server.Server) float64 {
	t.Helper()
	sum, _ := measured(t, s, "headgate_gateway_nacks_total")
	return sum
}

// measured is the sum of a counter or a histogram over all Gateways, and how often a histogram was added to.
func measured(t testing.TB, s *server.Server, name string) (sum float64, count uint64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(server.NewCollector(s))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.Counter.GetValue() + m.Histogram.GetSampleSum()
				count += m.Histogram.GetSampleCount()
			}
		}
	}
	return sum, count
}
