// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// release is a listener with one route that splits between stable and canary.
func release(port uint32, running bool, stable, canary int32) *graph.Graph {
	route := graphtest.Route("checkout", nil,
		graphtest.Rule("/", graphtest.Backend("stable", stable), graphtest.Backend("canary", canary)))
	route.Running = running
	return graphtest.Graph(graphtest.HTTP("http", port, "", route))
}

func TestWeightsAreExact(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("stable", NewBackend(t, "stable"))
	r.endpoints("canary", NewBackend(t, "canary"))
	const n = 2000
	for _, tt := range []struct {
		name           string
		running        bool
		stable, canary int32
	}{
		{"at rest, from the route table", false, 80, 20},
		{"under release, from runtime keys", true, 80, 20},
		{"under release, another weight", true, 50, 50},
		{"under release, nothing to the canary", true, 100, 0},
		{"under release, everything to the canary", true, 0, 100},
		{"under release, weights of any sum", true, 30, 10},
		{"at rest again", false, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.publish(release(port, tt.running, tt.stable, tt.canary))
			canary := 0
			for range n {
				a, err := send(call{port: port, path: "/", http2: false})
				if err != nil || a.status != 200 {
					t.Fatalf("%+v, %v", a, err)
				}
				if a.seen.Backend == "canary" {
					canary++
				}
			}
			p := float64(tt.canary) / float64(tt.canary+tt.stable)
			// Four standard deviations of the binomial distribution: one run in 16,000 fails by chance.
			if bound := 4 * math.Sqrt(n*p*(1-p)); math.Abs(float64(canary)-n*p) > bound {
				t.Errorf("%d of %d requests reached the canary, want %.0f ± %.0f", canary, n, n*p, bound)
			}
		})
	}
}

func TestSplitByPathRewriteIsExact(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("stable", NewBackend(t, "stable"))
	r.endpoints("canary", NewBackend(t, "canary"))
	const n = 2000
	for _, running := range []bool{false, true} {
		for _, canaryWeight := range []int32{25, 0, 100} {
			g := release(port, running, 100-canaryWeight, canaryWeight)
			rule := g.Routes[0].Rules[0]
			rule.Backends[1].Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Full: true, Value: "/v2"}}
			r.publish(g)
			canary := 0
			for range n {
				a := r.do(call{port: port, path: "/v1"})
				if want := map[string]string{"stable": "/v1", "canary": "/v2"}[a.seen.Backend]; a.seen.Path != want {
					t.Fatalf("%s saw %q, want %q", a.seen.Backend, a.seen.Path, want)
				}
				if a.seen.Backend == "canary" {
					canary++
				}
			}
			p := float64(canaryWeight) / 100
			if bound := 4 * math.Sqrt(n*p*(1-p)); math.Abs(float64(canary)-n*p) > bound {
				t.Errorf("running %v: %d of %d requests reached the canary, want %.0f ± %.0f", running, canary, n, n*p, bound)
			}
		}
	}
}

func TestAHundredWeightChangesUnderLoadLoseNothing(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	r.endpoints("stable", NewBackend(t, "stable"))
	r.endpoints("canary", NewBackend(t, "canary"))
	r.publish(release(port, false, 1, 0))
	l := startLoad(t, port)
	for i := range 100 {
		// A release of twenty changes, and its end, five times.
		running := i%20 != 19
		weight := int32(i*5%100 + 5)
		r.publish(release(port, running, 100-weight, weight))
		time.Sleep(10 * time.Millisecond)
	}
	sent, by := l.stop()
	t.Logf("%d requests, %v", sent, by)
	if by["stable"] == 0 || by["canary"] == 0 {
		t.Errorf("not both versions were reached: %v", by)
	}
}

func TestBackendsReplacedUnderLoadLoseNothing(t *testing.T) {
	r := newRigWithLinger(t, 100*time.Millisecond) // so that clusters come and go while requests do
	port := FreePort(t)
	backend := NewBackend(t, "backend")
	graphFor := func(service string, running bool) *graph.Graph {
		route := graphtest.Route("checkout", nil, graphtest.Rule("/", graphtest.Backend(service, 1)))
		route.Running = running
		return graphtest.Graph(graphtest.HTTP("http", port, "", route))
	}
	r.endpoints("version-0", backend)
	r.publish(graphFor("version-0", false))
	l := startLoad(t, port)
	for i := 1; i <= 50; i++ {
		service := fmt.Sprintf("version-%d", i)
		// The configuration comes first, its endpoints a little later: it has to wait for them.
		version := r.Server.Publish(xds.Translate(graphFor(service, i%2 == 0), graphtest.GatewayKey))
		time.Sleep(5 * time.Millisecond)
		r.endpoints(service, backend)
		r.AwaitAck(graphtest.GatewayKey, version)
		time.Sleep(10 * time.Millisecond)
	}
	sent, _ := l.stop()
	t.Logf("%d requests", sent)
	// What is no longer referred to is gone.
	r.Eventually("old clusters are gone", func() error {
		page, err := r.proxy.Admin("/clusters")
		if err == nil && strings.Contains(page, "shop/version-49/80") {
			err = fmt.Errorf("version-49 is still there")
		}
		return err
	})
}

func TestControlPlaneRestartLosesNothing(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	stable, canary := NewBackend(t, "stable"), NewBackend(t, "canary")
	endpoints := func() {
		r.endpoints("stable", stable)
		r.endpoints("canary", canary)
	}
	endpoints()
	r.publish(release(port, true, 50, 50))
	updates := func() string {
		page, err := r.proxy.Admin("/stats?filter=cluster_manager.cluster_(added|modified|removed)|listener_manager.listener_(modified|removed)")
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	before := updates()
	l := startLoad(t, port)
	r.StopServer()
	time.Sleep(200 * time.Millisecond)
	r.StartServer()
	// Proxies come back before the endpoints are known, and keep the ones they have.
	r.publish(release(port, true, 50, 50))
	endpoints()
	if after := updates(); after != before {
		t.Errorf("the proxy was sent again what it had; before:\n%safter:\n%s", before, after)
	}
	r.publish(release(port, true, 0, 100))
	reached := canary.Requests.Load()
	r.Eventually("the new server's weights reach the proxy", func() error {
		if canary.Requests.Load() < reached+50 {
			return fmt.Errorf("%d requests", canary.Requests.Load())
		}
		return nil
	})
	sent, by := l.stop()
	t.Logf("%d requests, %v", sent, by)
}

func TestEndpointsMoveUnderLoadWithoutLoss(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	a, b := NewBackend(t, "a"), NewBackend(t, "b")
	r.endpoints("stable", a)
	r.endpoints("canary", a)
	r.publish(release(port, false, 1, 0))
	l := startLoad(t, port)
	for i := range 40 {
		r.endpoints("stable", []*Backend{a, b}[i%2])
		time.Sleep(20 * time.Millisecond)
	}
	_, by := l.stop()
	if by["a"] == 0 || by["b"] == 0 {
		t.Errorf("not both backends were reached: %v", by)
	}
}
