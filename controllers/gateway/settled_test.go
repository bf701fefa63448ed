// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/status"
	"headgate.dev/headgate/dataplane/xds"
)

// moody is a server whose proxies come and go, answer late, and refuse.
type moody struct {
	*fakeServer
	away bool
}

func (m *moody) State(gateway types.NamespacedName) server.State {
	state := m.fakeServer.State(gateway)
	if m.away {
		return server.State{Published: state.Published}
	}
	return state
}

// TestStatusesSettleWhateverComesInBetween changes routes and what their proxies do at random, with passes
// over single routes where that is enough. Whenever all is quiet the statuses must be those that a look at everything gives.
func TestStatusesSettleWhateverComesInBetween(t *testing.T) {
	alone := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		c := &cached{resources: benchResources(6), version: 1}
		s := &moody{fakeServer: &fakeServer{
			changes: NewChanges(), versions: map[types.NamespacedName]uint64{}, acked: map[types.NamespacedName]uint64{},
			endpoints: map[graph.ClusterKey]int{}, withdrawn: map[types.NamespacedName]bool{}, last: map[types.NamespacedName]xds.Snapshot{},
		}}
		now := time.Unix(1e9, 0)
		rec := &reconciler{
			client: c, endpoints: newEndpoints(c, s, nil, 0), controller: "headgate.dev/bench", happened: newNews(), written: newWritten(),
			options:   Options{Server: s, Metrics: measure.New(time.Now), Now: func() time.Time { return now }, Changes: s.changes},
			published: map[types.NamespacedName]*published{}, proxies: map[types.NamespacedName]proxies{}, told: map[string]bool{}, events: noEvents{}, wrote: map[types.UID]time.Time{},
		}
		rec.kinds = &kinds{client: c, served: graphKinds(rec.written)}
		w := &settling{T: t, Rand: r, c: c, s: s, r: rec}
		w.everything()
		for range 60 {
			now = now.Add(time.Duration(r.IntN(80)) * time.Millisecond)
			if w.step() {
				alone++
			}
		}
		s.away = false
		s.isolated = nil
		s.release(false, nil)
		w.record()
		if seed%2 == 0 {
			name := types.NamespacedName{Namespace: "shop", Name: "r1"}
			s.refuse(server.Isolated{Rule: xds.Rule{Kind: graph.KindHTTPRoute, Route: name}, Message: "bad"})
		}
		for range 2 { // news of the proxies
			now = now.Add(time.Second)
			w.record()
		}
		fresh := graph.Build(c.resources)
		for key, p := range rec.published {
			want := since(fresh.Gateways[0], p.since, carried{}, 0)
			if len(fresh.Gateways) != 1 || !maps.Equal(p.since, want) {
				t.Fatalf("seed %d: the account of Gateway %s has %d objects, want %d", seed, key, len(p.since), len(want))
			}
		}
		if updates := status.Updates(fresh, rec.programmed(rec.graph), rec.controller, metav1.NewTime(now)); len(updates) > 0 {
			t.Fatalf("seed %d: %d statuses are not what they should be, that of %s among them", seed, len(updates), client.ObjectKeyFromObject(updates[0].New))
		}
	}
	if alone < 500 {
		t.Errorf("%d passes over single routes are too few to say anything", alone)
	}
}

// TestStatusesMakeRoomForEvents lets an event come with every status that is written: after the first few the pass
// ends, and the others are written after the next one.
func TestStatusesMakeRoomForEvents(t *testing.T) {
	c := &cached{resources: benchResources(50), version: 1}
	r := benchReconciler(t, c, server.New(server.Options{}))
	for i := range 50 { // each status has to be written again
		route := c.resources.HTTPRoutes[types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("r", i)}].DeepCopy()
		route.Status.Parents = nil
		r.happened.route(graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: c.put(route)})
	}
	c.wrote, c.statuses = nil, 0
	passes := 0
	for key := worldKey; c.statuses < 50; key = statusKey {
		if passes++; passes > 50 {
			t.Fatalf("after %d passes %d of 50 statuses are written", passes, c.statuses)
		}
		c.written = r.happened.wake
		before := c.statuses
		if _, err := r.Reconcile(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if n := c.statuses - before; n < min(statusWriters, 50-before) || n > 2*statusWriters {
			t.Fatalf("pass %d wrote %d statuses", passes, n)
		}
	}
	names := map[string]bool{}
	for _, o := range c.wrote {
		names[o.GetName()] = true
	}
	if len(names) != 50 || c.statuses != 50 {
		t.Errorf("%d statuses of %d routes were written", c.statuses, len(names))
	}
}

type settling struct {
	*testing.T
	*rand.Rand
	c *cached
	s *moody
	r *reconciler
}

func (w *settling) step() bool {
	name := types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("r", w.IntN(6))}
	route := w.c.resources.HTTPRoutes[name].DeepCopy()
	if route == nil { // it comes back
		route = benchRoute(w.IntN(6))
		route.Name, route.UID = name.Name, types.UID(fmt.Sprint("made ", w.c.version))
		w.put(name, route)
		return w.pass()
	}
	switch w.IntN(11) {
	case 0:
		w.s.away = !w.s.away
		w.record()
		return false
	case 1:
		w.s.release(!w.s.hold, nil)
		w.record()
		return false
	case 2:
		w.s.isolated = nil
		if w.IntN(2) == 0 {
			w.s.isolated = []server.Isolated{{Rule: xds.Rule{Kind: graph.KindHTTPRoute, Route: name}, Message: "bad", Searching: w.IntN(2) == 0}}
		}
		w.record()
		return false
	case 3: // somebody else takes our entries away
		route.Status.Parents = nil
	case 4:
		route.Annotations = map[string]string{v1beta1.AnnotationRelease: "shop/web"}
	case 5:
		w.record()
		return false
	case 6: // it goes
		w.put(name, nil)
		return w.pass()
	case 7: // it attaches elsewhere, or nowhere
		route.Generation++
		route.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", w.IntN(6)))}
		route.Spec.ParentRefs[0].Name = []gwv1.ObjectName{"edge", "edge", "nobody's"}[w.IntN(3)]
	default:
		route.Generation++
		route.Spec.Rules[0].BackendRefs[0].Name = gwv1.ObjectName(fmt.Sprint("s", w.IntN(9)))
	}
	w.put(name, route)
	return w.pass()
}

// put writes a route, or takes it away, and lets the watches tell.
func (w *settling) put(name types.NamespacedName, route *gwv1.HTTPRoute) {
	w.c.version++
	if delete(w.c.resources.HTTPRoutes, name); route != nil {
		route.ResourceVersion = fmt.Sprint(w.c.version)
		w.c.resources.HTTPRoutes[name] = route
	}
	w.r.happened.route(graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: name})
}

// pass is what Reconcile does with news of routes, and tells whether they were enough.
func (w *settling) pass() bool {
	w.arrived()
	differ, only := w.r.happened.take()
	if !only {
		w.everything()
		return false
	}
	changes, ok, err := w.r.renew(w.Context(), differ)
	if err != nil {
		w.Fatal(err)
	}
	if !ok {
		w.everything()
		return false
	}
	if _, err := w.r.bring(w.Context(), differ, changes, time.Time{}); err != nil {
		w.Fatal(err)
	}
	return true
}

// arrived lets the cache have what was written, and the watches tell of it.
func (w *settling) arrived() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for _, o := range w.c.wrote {
		switch key := client.ObjectKeyFromObject(o); o.(type) {
		case *gwv1.Gateway:
			w.r.happened.parent(graph.ParentKey{Kind: graph.KindGateway, NamespacedName: key})
		case *gwv1.HTTPRoute:
			w.r.happened.route(graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key})
		default:
			w.r.happened.anything()
		}
	}
	w.c.wrote = nil
}

// everything is a pass over everything.
func (w *settling) everything() {
	w.r.resources = w.c.resources
	w.r.resources.HTTPRoutes = maps.Clone(w.c.resources.HTTPRoutes)
	w.r.graph, w.r.unsettled = w.r.builder.Build(w.r.resources), nil
	if err := w.r.publish(w.Context(), w.r.graph, time.Time{}); err != nil {
		w.Fatal(err)
	}
	w.r.beginPatience()
	w.record()
}

func (w *settling) record() {
	if _, err := w.r.record(w.Context()); err != nil {
		w.Fatal(err)
	}
}

type noEvents struct{ events.EventRecorder }

func (noEvents) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}
