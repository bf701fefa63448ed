// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func shop(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "shop", Name: name}
}

// shift is a release of one route, as the API has it.
type shift struct {
	running, third, split bool
	canary                int32
	rules                 int
}

// shifts are routes under release: r0 sends to stable-0 and canary-0, and so on.
type shifts []shift

func (s shifts) graph() *graph.Graph {
	var routes []*graph.Route
	for i, r := range s {
		var rules []*graph.Rule
		for n := range r.rules + 1 {
			backends := []*graph.Backend{graphtest.Backend(fmt.Sprint("stable-", i), 100-r.canary), graphtest.Backend(fmt.Sprint("canary-", i), r.canary)}
			if r.third {
				backends = append(backends, graphtest.Backend("other", 50))
			}
			if r.split {
				backends[1].Filters.Rewrite = &graph.Rewrite{Path: &graph.PathModifier{Full: true, Value: "/v2"}}
			}
			rules = append(rules, graphtest.Rule(fmt.Sprint("/", n), backends...))
		}
		route := graphtest.Route(fmt.Sprint("r", i), []string{fmt.Sprintf("h%d.example", i)}, rules...)
		route.Running = r.running
		routes = append(routes, route)
	}
	return graphtest.Graph(graphtest.HTTP("http", 80, "", routes...))
}

func (s shifts) snapshot() xds.Snapshot { return xds.Translate(s.graph(), graphtest.GatewayKey) }

func (s shifts) mutate(r *rand.Rand) {
	at := &s[r.IntN(len(s))]
	switch r.IntN(8) {
	case 0:
		at.running = !at.running
	case 1:
		at.third = !at.third
	case 2:
		at.split = !at.split
	case 3:
		at.rules = r.IntN(3)
	default:
		at.canary = []int32{0, 5, 50, 100}[r.IntN(4)]
	}
}

func randomAway(r *rand.Rand) xds.Diversions {
	away := xds.Diversions{}
	for i := range 3 {
		if r.IntN(2) == 0 {
			away[shop(fmt.Sprint("canary-", i))] = shop(fmt.Sprint("stable-", i))
		}
	}
	return away
}

// TestADivertedServiceGetsNothingInEveryInterleaving publishes random releases and changes the diversions
// while the proxy hears and answers at random moments, refuses, and loses its stream. What is sent never
// has a weight for what is diverted at that moment, also not under the keys of former route tables; in the end the
// proxy has what is published, diverted, to the byte.
func TestADivertedServiceGetsNothingInEveryInterleaving(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		m := newModel(t, xds.RuntimeLayers()...)
		if seed%4 == 0 {
			m.refuses = func(res *resource) bool { return res.kind == kindRoute && res.version[0] < '4' }
		}
		if seed%3 == 0 {
			m.silent["shop/other/80"] = true // route tables that name it wait, with their old keys
		}
		p := &publisher{model: m}
		now := shifts{{running: true, canary: 50}, {running: true, canary: 5}, {}}
		d := &diversions{}
		m.taken = func(sent *response) {
			for _, res := range sent.resources {
				if sent.kind == kindRuntime && xds.Divert(res.message, d.away) != res.message {
					t.Fatalf("seed %d: %v is away and was sent %v", seed, d.away, res.message)
				}
			}
		}
		p.publish(messagesOf(now.snapshot()))
		for range 100 {
			switch n := r.IntN(20); {
			case n < 3:
				now.mutate(r)
				p.publish(messagesOf(now.snapshot()))
			case n < 5:
				before := d
				d = &diversions{generation: d.generation + 1, away: randomAway(r)}
				m.session.divert(d)
				m.session.divert(before) // comes late
				if r.IntN(2) == 0 {
					m.settle()
					checkAway(t, seed, m, d)
				}
			case n == 5 && r.IntN(4) == 0:
				m.connect()
				m.session.diversions = d
				m.session.publish(p.target, [kinds][]string{})
			case n < 12:
				m.hear()
			default:
				m.take()
			}
		}
		m.now = m.now.Add(warmWait)
		m.settle()
		if m.session.divertedTo() != d.generation {
			t.Fatalf("seed %d: the proxy keeps to %d, want %d", seed, m.session.divertedTo(), d.generation)
		}
		checkAway(t, seed, m, d)
		for name, have := range m.runtimes {
			if len(m.session.refusals()) > 0 {
				continue // it keeps former keys
			}
			if want := p.target.resources[kindRuntime].get(name).divertedBy(d); have.version != want.version {
				t.Fatalf("seed %d: %s is %v, want %v", seed, name, have.message, want.message)
			}
		}
		if acked, _ := m.session.acked(); len(m.silent)+len(m.session.refusals()) == 0 && acked != p.target.version {
			t.Fatalf("seed %d: acknowledged %d of %d", seed, acked, p.target.version)
		}
	}
}

// checkAway looks at what the proxy has, under the keys of all its route tables.
func checkAway(t *testing.T, seed uint64, m *model, d *diversions) {
	t.Helper()
	for name, have := range m.runtimes {
		if xds.Divert(have.message, d.away) != have.message {
			t.Fatalf("seed %d: %s has a weight for what is away", seed, name)
		}
	}
}

// client is a proxy of a Server that acknowledges everything, when it is asked to.
type client struct {
	*stream
	// weights are the runtime layers it has; sent counts what it was sent, by kind.
	weights map[string]*resource
	sent    [kinds]int
	unheard []request
}

func connect(s *Server) *client {
	c := &client{stream: s.attach(graphtest.GatewayKey, "proxy"), weights: map[string]*resource{}}
	c.answer(request{kind: kindRuntime, subscribe: xds.RuntimeLayers()})
	for _, k := range []kind{kindCluster, kindListener, kindRoute} {
		c.answer(request{kind: k})
	}
	return c
}

func (c *client) answer(r request) { c.do(func(s *session) { s.receive(r) }) }

// take gives the next response and what was in force when it was made, or nil.
func (c *client) take() (*response, *diversions) {
	c.mu.Lock()
	r, _ := c.session.next(time.Now())
	d := c.session.diversions
	c.mu.Unlock()
	if r == nil {
		return nil, d
	}
	c.sent[r.kind]++
	if r.kind == kindRuntime {
		for _, res := range r.resources {
			c.weights[res.name] = res
		}
	}
	if r.kind == kindCluster {
		var names []string
		for _, res := range r.resources {
			names = append(names, res.name)
		}
		c.unheard = append(c.unheard, request{kind: kindEndpoints, subscribe: names})
	}
	c.unheard = append(c.unheard, request{kind: r.kind, nonce: nonceString(r.nonce)})
	return r, d
}

func (c *client) acknowledge() {
	for _, r := range c.unheard {
		c.answer(r)
	}
	c.unheard = nil
}

func (c *client) settle() {
	for {
		r, _ := c.take()
		if c.acknowledge(); r == nil {
			return
		}
	}
}

func newSent(s *Server) {
	for i := range 3 {
		s.endpointsKnown([]string{fmt.Sprintf("shop/stable-%d/80", i), fmt.Sprintf("shop/canary-%d/80", i), "shop/other/80"})
	}
}

func TestADiversionIsOneRuntimeResource(t *testing.T) {
	s := New(Options{})
	newSent(s)
	now := shifts{{running: true, canary: 20}, {running: true, canary: 20, split: true}, {running: true, canary: 100}}
	version := s.Publish(now.snapshot())
	c := connect(s)
	c.settle()
	step := func(name string, want int, change func()) {
		t.Helper()
		c.sent = [kinds]int{}
		change()
		c.settle()
		if c.sent[kindRuntime] != want || slices.Max(c.sent[1:]) > 0 {
			t.Errorf("%s: sent %v, want %d runtime resources and nothing else", name, c.sent, want)
		}
	}
	step("a diversion", 1, func() { s.Divert(shop("canary-0"), shop("stable-0")) })
	step("the same once more", 0, func() { s.Divert(shop("canary-0"), shop("stable-0")) })
	step("of a split", 1, func() { s.Divert(shop("canary-1"), shop("stable-1")) })
	step("of a Service that nothing names", 0, func() { s.Divert(shop("nobody"), shop("stable-1")) })
	if state := s.State(graphtest.GatewayKey); state.Published != version || state.Acked != version {
		t.Errorf("diversions show in the account of publications: %+v", state)
	}
	now[0].canary = 40
	step("a publication that gives it more", 0, func() { s.Publish(now.snapshot()) })
	if state := s.State(graphtest.GatewayKey); state.Acked != state.Published {
		t.Errorf("%d of %d is acknowledged", state.Acked, state.Published)
	}
	now[0].canary = 0
	step("one that gives it nothing", 0, func() { s.Publish(now.snapshot()) })
	step("the end of the diversion then", 0, func() { s.Restore(shop("canary-0")) })
	step("the end of another one", 1, func() { s.Restore(shop("canary-1")) })
	step("the end of one that is none", 0, func() { s.Restore(shop("canary-1")) })
	s.Divert(shop("canary-2"), shop("stable-2"))
	late := connect(s)
	late.settle()
	for name, r := range late.weights {
		if xds.Divert(r.message, xds.Diversions{shop("canary-2"): shop("stable-2")}) != r.message {
			t.Errorf("a proxy that came later has %s: %v", name, r.message)
		}
	}
	s.Restore(shop("canary-2"))
	c.settle()
	for name, m := range now.snapshot().Runtimes {
		if !proto.Equal(m, c.weights[name].message) {
			t.Errorf("%s is %v, want %v", name, c.weights[name].message, m)
		}
	}
}

// TestADiversionGoesAheadOfAllElse: the proxy is behind with everything else, and the next publication is
// being made.
func TestADiversionGoesAheadOfAllElse(t *testing.T) {
	s := New(Options{})
	newSent(s)
	now := shifts{{running: true, canary: 20}, {}, {}}
	s.Publish(now.snapshot())
	c := connect(s)
	c.settle()
	now[1].third, now[2].rules = true, 2
	s.Publish(now.snapshot())
	s.publishing.Lock()
	s.Divert(shop("canary-0"), shop("stable-0"))
	s.publishing.Unlock()
	r, _ := c.take()
	if r == nil || r.kind != kindRuntime || len(r.resources) != 1 {
		t.Fatalf("the next response is %+v", r)
	}
	c.acknowledge()
	c.settle()
	if c.sent[kindRoute] == 0 {
		t.Error("what was due before was forgotten")
	}
}

// TestDivertMeetsPublish lets everybody at a server at once: whatever a session sends keeps to the diversions that
// it has then, and once all have come to rest every proxy has what was published last, diverted by
// what was in force last.
func TestDivertMeetsPublish(t *testing.T) {
	s := New(Options{})
	newSent(s)
	start := shifts{{running: true, canary: 50}, {running: true, canary: 5}, {running: true, canary: 100}}
	s.Publish(start.snapshot())
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	writers.Add(1)
	var last xds.Snapshot
	go func() { // publications come from one place
		defer writers.Done()
		r := rand.New(rand.NewPCG(1, 1))
		now := slices.Clone(start)
		last = now.snapshot()
		for range 200 {
			at := &now[r.IntN(3)]
			if at.canary = r.Int32N(101); r.IntN(2) == 0 {
				now.mutate(r)
				last = now.snapshot()
				s.Publish(last)
				continue
			}
			d := xds.Delta{Gateway: graphtest.GatewayKey, Runtimes: now.snapshot().Runtimes}
			if _, ok := s.Update(d); !ok {
				t.Error("a difference was not taken")
			}
			last = d.Apply(last)
		}
	}()
	for i := range 3 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for range 300 {
				n := r.IntN(3)
				s.Divert(shop(fmt.Sprint("canary-", n)), shop(fmt.Sprint("stable-", n)))
				s.Restore(shop(fmt.Sprint("canary-", r.IntN(3))))
			}
		}()
	}
	clients := make([]*client, 3)
	for i := range clients {
		clients[i] = connect(s)
		readers.Add(1)
		go func() {
			defer readers.Done()
			r := rand.New(rand.NewPCG(3, uint64(i)))
			for {
				sent, d := clients[i].take()
				if sent != nil && sent.kind == kindRuntime {
					for _, res := range sent.resources {
						if xds.Divert(res.message, d.away) != res.message {
							t.Errorf("%v is away and was sent %v", d.away, res.message)
						}
					}
				}
				if r.IntN(3) == 0 || sent == nil {
					clients[i].acknowledge()
				}
				if sent == nil && r.IntN(30) == 0 {
					s.detach(graphtest.GatewayKey, clients[i].stream)
					clients[i] = connect(s)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		}()
	}
	writers.Wait()
	s.Divert(shop("canary-0"), shop("stable-0"))
	close(done)
	readers.Wait()
	for i, c := range clients {
		c.settle()
		for name, m := range last.Runtimes {
			if want := newResource(kindRuntime, name, m, 0).divertedBy(s.diversions); c.weights[name].version != want.version {
				t.Errorf("proxy %d: %s is %v, want %v", i, name, c.weights[name].message, want.message)
			}
		}
	}
}

func TestTheTimeOfADiversionIsMeasured(t *testing.T) {
	count := func(s *Server, gateway types.NamespacedName) uint64 {
		var m dto.Metric
		if err := s.pace.diverted.seconds.WithLabelValues(gateway.Namespace, gateway.Name).(prometheus.Metric).Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.Histogram.GetSampleCount()
	}
	s := New(Options{})
	newSent(s)
	now := shifts{{running: true, canary: 20}, {}, {}}
	s.Publish(now.snapshot())
	other := now.snapshot()
	other.Gateway = shop("other")
	other.Runtimes = maps.Clone(shifts{{}, {}, {}}.snapshot().Runtimes)
	s.Publish(other)
	first, second := connect(s), connect(s)
	first.settle()
	second.settle()
	s.Divert(shop("canary-0"), shop("stable-0"))
	first.settle()
	if n := count(s, graphtest.GatewayKey); n != 0 {
		t.Errorf("measured %d before every proxy had it", n)
	}
	if n := s.diversionsOf(graphtest.GatewayKey); n != 1 {
		t.Errorf("%d Services are away, want 1", n)
	}
	second.settle()
	if n := count(s, graphtest.GatewayKey); n != 1 {
		t.Errorf("measured %d, want 1", n)
	}
	s.Divert(shop("canary-1"), shop("stable-1"))
	if n := count(s, graphtest.GatewayKey) + count(s, other.Gateway); n != 1 {
		t.Errorf("measured %d, want 1: nothing had to be sent", n)
	}
	s.Restore(shop("canary-0"))
	s.detach(graphtest.GatewayKey, second.stream)
	first.settle()
	if n := count(s, graphtest.GatewayKey); n != 2 {
		t.Errorf("measured %d, want 2: who left is not waited for", n)
	}
	if n := s.diversionsOf(graphtest.GatewayKey); n != 0 {
		t.Errorf("%d Services are away, want none", n)
	}
}

// BenchmarkDivertDuringPublish measures from Divert until the message for a proxy is ready, while routes are published
// over and over, all of them new.
func BenchmarkDivertDuringPublish(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(fmt.Sprint("routes=", n), func(b *testing.B) {
			s := New(Options{})
			now := make(shifts, n)
			now[0] = shift{running: true, canary: 20}
			snap := now.snapshot()
			s.Publish(snap)
			c := connect(s)
			c.settle()
			done := make(chan struct{})
			var publishing sync.WaitGroup
			publishing.Add(1)
			go func() {
				defer publishing.Done()
				for i := 0; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					again := snap
					again.Routes = make(map[string]proto.Message, len(snap.Routes))
					for name, m := range snap.Routes {
						again.Routes[name] = proto.Clone(m)
					}
					s.Publish(again)
				}
			}()
			var times []time.Duration
			for b.Loop() {
				time.Sleep(time.Millisecond)
				start := time.Now()
				s.Divert(shop("canary-0"), shop("stable-0"))
				r, _ := c.take()
				times = append(times, time.Since(start))
				if r == nil || r.kind != kindRuntime {
					b.Fatalf("the next response is %+v", r)
				}
				c.acknowledge()
				s.Restore(shop("canary-0"))
				c.settle()
			}
			close(done)
			publishing.Wait()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
