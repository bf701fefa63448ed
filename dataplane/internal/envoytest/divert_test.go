// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

var (
	canaryService = types.NamespacedName{Namespace: "shop", Name: "canary"}
	stableService = types.NamespacedName{Namespace: "shop", Name: "stable"}
)

// diverted changes the diversions and gives the time until the proxies acknowledged the change.
func (r *rig) diverted(change func()) time.Duration {
	r.TB.Helper()
	before, n := measured(r.TB, r.Server, "headgate_gateway_divert_seconds")
	change()
	var took time.Duration
	r.Eventually("the diversion is acknowledged", func() error {
		sum, count := measured(r.TB, r.Server, "headgate_gateway_divert_seconds")
		if took = time.Duration((sum - before) * float64(time.Second)); count != n+1 {
			return fmt.Errorf("%d acknowledgements, want %d", count, n+1)
		}
		return nil
	})
	return took
}

// TestADivertedCanaryGetsNoRequest has the canary at different shares, in both forms of a rule, and beside others.
func TestADivertedCanaryGetsNoRequest(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	for _, name := range []string{"stable", "canary", "other"} {
		r.endpoints(name, NewBackend(t, name))
	}
	share := func(name string) float64 {
		n := 0
		for range 400 {
			if r.do(call{port: port, path: "/"}).seen.Backend == name {
				n++
			}
		}
		return float64(n) / 400
	}
	for _, tt := range []struct {
		name                  string
		stable, canary, other int32
		split                 bool
	}{
		{"at a fifth", 80, 20, 0, false},
		{"with everything", 0, 100, 0, false},
		{"beside another backend", 30, 20, 50, false},
		{"of a split", 80, 20, 0, true},
		{"of a split, with everything", 0, 100, 0, true},
		{"of a split, beside another backend", 30, 20, 50, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			split := func(stable, canary int32) *graph.Graph {
				g := release(port, true, stable, canary)
				rule := g.Routes[0].Rules[0]
				if tt.other > 0 {
					rule.Backends = append(rule.Backends, graphtest.Backend("other", tt.other))
				}
				if tt.split {
					rule.Backends[1].Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Full: true, Value: "/v2"}}
				}
				return g
			}
			r.publish(split(tt.stable, tt.canary))
			if share("canary") == 0 {
				t.Fatal("the canary gets nothing anyway")
			}
			r.diverted(func() { r.Server.Divert(canaryService, stableService) })
			if got := share("canary"); got > 0 {
				t.Errorf("the canary has %v", got)
			}
			// Half of the requests, with six standard deviations.
			if got := share("other"); tt.other > 0 && (got < .35 || got > .65) {
				t.Errorf("the other backend has %v, want .5", got)
			}
			r.publish(split(tt.stable/2, 100-tt.stable/2))
			if got := share("canary"); got > 0 {
				t.Errorf("a publication gave it %v again", got)
			}
			r.publish(split(100, 0))
			r.Server.Restore(canaryService)
			r.publish(split(50, 50))
			if share("canary") == 0 {
				t.Error("the canary gets nothing after the diversion")
			}
		})
	}
}

// TestADiversionIsFast measures, among 500 routes that are published over and over, from Divert until the last
// request that reached the canary, and until the acknowledgement. It loses no request.
func TestADiversionIsFast(t *testing.T) {
	r := newRig(t)
	port := FreePort(t)
	var last atomic.Int64
	r.endpoints("stable", NewBackend(t, "stable"))
	r.endpoints("canary", NewBackendFunc(t, "canary", func(w http.ResponseWriter, _ *http.Request) {
		last.Store(time.Now().UnixNano())
		w.Header().Set("X-Backend", "canary")
	}))
	crowd := func(version int) *graph.Graph {
		g := release(port, true, 50, 50)
		listener := g.Gateways[0].Listeners[0]
		for i := range 500 {
			route := graphtest.Route(fmt.Sprint("crowd-", i), []string{fmt.Sprintf("h%d.example", i)},
				graphtest.Rule(fmt.Sprint("/", version), graphtest.Backend("stable", 1)))
			listener.Attachments = append(listener.Attachments, &graph.Attachment{Route: route, Listener: listener, Hostnames: route.Hostnames})
		}
		return g
	}
	r.publish(crowd(0))
	done := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for version := 1; ; version++ {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
				r.Server.Publish(xds.Translate(crowd(version), graphtest.GatewayKey))
			}
		}
	})
	l := startLoad(t, port)
	var ends, acks []time.Duration
	for range 20 {
		reached := last.Load()
		r.Eventually("the canary has traffic", func() error {
			if last.Load() == reached {
				return errors.New("no request")
			}
			return nil
		})
		start := time.Now()
		acks = append(acks, r.diverted(func() { r.Server.Divert(canaryService, stableService) }))
		time.Sleep(100 * time.Millisecond) // what was on its way arrives
		end := last.Load()
		ends = append(ends, max(0, time.Duration(end-start.UnixNano())))
		time.Sleep(30 * time.Millisecond)
		if last.Load() != end {
			t.Error("a request reached the canary long after the acknowledgement")
		}
		r.diverted(func() { r.Server.Restore(canaryService) })
	}
	close(done)
	publishing.Wait()
	sent, by := l.stop()
	slices.Sort(ends)
	slices.Sort(acks)
	t.Logf("%d requests, %v; last request to the canary after %v at the median, %v at most; acknowledged after %v, %v",
		sent, by, ends[10], ends[19], acks[10], acks[19])
	if ends[10] > 50*time.Millisecond || acks[10] > 50*time.Millisecond {
		t.Errorf("half of the diversions take longer than %v, half of the acknowledgements longer than %v", ends[10], acks[10])
	}
}
