// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
)

// TestEveryReferenceHoldsInEveryInterleaving publishes random configurations while
// the proxy hears and answers at random moments, refuses at random, and loses its stream.
func TestEveryReferenceHoldsInEveryInterleaving(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newModel(t)
		p := &publisher{model: m}
		w := &world{tables: map[string][]string{"t1": {"a"}}, content: map[string]int{}, keys: map[string]string{}, weight: 1}
		p.publish(w.messages())
		if seed%3 == 0 {
			m.refuses = func(res *resource) bool { return res.kind == kindRoute && res.version[0] < '4' }
		}
		for range 120 {
			switch n := r.IntN(20); {
			case n < 4:
				w.mutate(r)
				p.publish(w.messages())
			case n == 5 && len(m.session.warming) == 0: // or what waits for a cluster would not wait for ever
				m.now = m.now.Add(time.Duration(r.Int64N(int64(ClusterLinger))))
			case n == 4 && r.IntN(4) == 0:
				m.connect()
				m.session.publish(p.target, [kinds][]string{})
			case n < 12:
				m.hear()
			default:
				m.take()
			}
			if m.session.routesArrived() && !m.session.eachRouteKnown(true) {
				t.Fatalf("seed %d: not every route table has arrived", seed)
			}
		}
		m.rest()
		if m.session.target.version != p.target.version {
			t.Fatalf("seed %d: the session lost a publication", seed)
		}
		if len(m.session.refusals()) == 0 {
			checkComplete(t, seed, m, p.target)
		}
	}
}

// checkComplete tells whether a proxy that refused nothing has exactly the target.
func checkComplete(t *testing.T, seed uint64, m *model, want *target) {
	t.Helper()
	if got, _ := m.session.acked(); got != want.version {
		t.Fatalf("seed %d: acknowledged %d, want %d; pending %v", seed, got, want.version, m.session.pending)
	}
	for k, have := range map[kind]map[string]*resource{
		kindCluster: m.clusters, kindRoute: ofKind(m.routes, kindRoute), kindFilter: ofKind(m.routes, kindFilter), kindListener: m.listeners, kindRuntime: m.runtimes,
	} {
		if len(have) != want.resources[k].len() {
			t.Fatalf("seed %d: the proxy has %d resources of kind %d, want %d\n%v", seed, len(have), k, want.resources[k].len(), m.log)
		}
		for name, res := range want.resources[k].all() {
			if have[name] == nil || have[name].version != res.version {
				t.Fatalf("seed %d: the proxy has not %s of kind %d", seed, name, k)
			}
		}
	}
	for name, mix := range want.resources[kindEndpoints].all() {
		if !m.endpoints[name].standsFor(mix) {
			t.Fatalf("seed %d: the proxy has not the endpoints of %s", seed, name)
		}
	}
}

func simple(tables map[string][]string) *world {
	return &world{tables: tables, content: map[string]int{}, keys: map[string]string{}, weight: 1}
}

// started is a proxy that has a first configuration.
func started(t *testing.T, w *world) (*model, *publisher) {
	m := newModel(t)
	p := &publisher{model: m}
	p.publish(w.messages())
	m.settle()
	checkComplete(t, 0, m, p.target)
	m.log = nil
	return m, p
}

func TestTheOrderOfAChange(t *testing.T) {
	tests := []struct {
		name   string
		before *world
		change func(*world)
		want   []kind // of the responses
	}{
		{
			name:   "a new backend: cluster, its endpoints, then the route table, then the old one goes",
			before: simple(map[string][]string{"t1": {"a"}}),
			change: func(w *world) { w.tables["t1"] = []string{"b"} },
			want:   []kind{kindCluster, kindEndpoints, kindRoute, kindCluster},
		},
		{
			name:   "another backend of a filter: as for a route table",
			before: simple(map[string][]string{"f1": {"a"}}),
			change: func(w *world) { w.tables["f1"] = []string{"b"} },
			want:   []kind{kindCluster, kindEndpoints, kindFilter, kindCluster},
		},
		{
			name:   "a first port for datagrams: its cluster is warm before it listens",
			before: simple(map[string][]string{"t1": {"a"}}),
			change: func(w *world) { w.tables["d1"] = []string{"b"} },
			want:   []kind{kindCluster, kindEndpoints, kindListener},
		},
		{
			name:   "another backend of a port for datagrams is other endpoints and nothing else",
			before: simple(map[string][]string{"d1": {"a"}}),
			change: func(w *world) { w.tables["d1"] = []string{"b"} },
			want:   []kind{kindEndpoints},
		},
		{
			name:   "a port for datagrams that goes takes its cluster with it, afterwards",
			before: simple(map[string][]string{"t1": {"a"}, "d1": {"b"}}),
			change: func(w *world) { delete(w.tables, "d1") },
			want:   []kind{kindListener, kindCluster},
		},
		{
			name:   "a changed cluster gets its endpoints again, because Envoy does not ask",
			before: simple(map[string][]string{"t1": {"a"}}),
			change: func(w *world) { w.content["a"] = 2 },
			want:   []kind{kindCluster, kindEndpoints},
		},
		{
			name: "a weight under release is one runtime resource and nothing else",
			before: &world{
				tables: map[string][]string{"t1": {"a", "b"}}, content: map[string]int{}, keys: map[string]string{"t1": "k"}, weight: 1,
			},
			change: func(w *world) { w.weight = 2 },
			want:   []kind{kindRuntime},
		},
		{
			name:   "a release that begins brings its keys before the table that reads them",
			before: simple(map[string][]string{"t1": {"a", "b"}}),
			change: func(w *world) { w.keys["t1"] = "k" },
			want:   []kind{kindRuntime, kindRoute},
		},
		{
			name: "a release that ends takes its keys away after the table that read them",
			before: &world{
				tables: map[string][]string{"t1": {"a", "b"}}, content: map[string]int{}, keys: map[string]string{"t1": "k"}, weight: 1,
			},
			change: func(w *world) { delete(w.keys, "t1") },
			want:   []kind{kindRoute, kindRuntime},
		},
		{
			name:   "a listener that goes takes its route table and its cluster with it, afterwards",
			before: simple(map[string][]string{"t1": {"a"}, "t2": {"b"}}),
			change: func(w *world) { delete(w.tables, "t2") },
			want:   []kind{kindListener, kindRoute, kindCluster},
		},
		{
			name:   "a table that names a missing cluster does not wait for it",
			before: simple(map[string][]string{"t1": {"a"}}),
			change: func(w *world) { w.tables["t1"] = []string{"a", "missing-1"} },
			want:   []kind{kindRoute},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, p := started(t, tt.before)
			tt.change(tt.before)
			p.publish(tt.before.messages())
			var got []kind
			m.taken = func(r *response) { got = append(got, r.kind) }
			m.rest()
			if !slices.Equal(got, tt.want) {
				t.Errorf("sent %v, want %v\n%v", got, tt.want, m.log)
			}
			checkComplete(t, 0, m, p.target)
		})
	}
}

func TestAClusterThatNeverWarmsDelaysABoundedTime(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	m.silent["b"] = true
	w.tables["t1"] = []string{"a", "b"}
	p.publish(w.messages())
	m.settle()
	if have := m.routes["t1"].version; have == p.target.resources[kindRoute].get("t1").version {
		t.Fatal("the route table did not wait")
	}
	_, wake := m.session.next(m.now)
	if want := m.now.Add(warmWait); !wake.Equal(want) {
		t.Fatalf("the session wants to be woken at %v, want %v", wake, want)
	}
	// Others are not held up meanwhile.
	w.tables["t2"] = []string{"c"}
	p.publish(w.messages())
	m.settle()
	if m.routes["t2"] == nil {
		t.Error("another route table waited too")
	}
	m.now = m.now.Add(warmWait)
	m.settle()
	if m.routes["t1"].version != p.target.resources[kindRoute].get("t1").version {
		t.Error("the route table waited longer than it should")
	}
}

func TestARefusedRouteTable(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}, "t2": {"a"}})
	m, p := started(t, w)
	good := m.routes["t1"].version
	m.refuses = func(res *resource) bool { return res.name == "t1" && res.kind == kindRoute && res.version != good }
	w.tables["t1"], w.tables["t2"] = []string{"b"}, []string{"c"}
	p.publish(w.messages())
	m.settle()
	if m.routes["t1"].version != good || m.clusters["a"] == nil {
		t.Error("the last good table, or what it needs, is gone")
	}
	if m.routes["t2"].version != p.target.resources[kindRoute].get("t2").version {
		t.Error("another table was held up")
	}
	want := []Nack{{TypeURL: typeURLs[kindRoute], Resource: "t1", Message: "no"}}
	if got := m.session.refusals(); !slices.Equal(got, want) {
		t.Errorf("recorded %+v", got)
	}
	acked, answered := m.session.acked()
	if acked >= p.target.version {
		t.Error("a refused version counts as acknowledged")
	}
	if answered != p.target.version {
		t.Errorf("a refused table keeps all others from being confirmed: answered %d of %d", answered, p.target.version)
	}
	if sent := len(m.log); func() bool { m.settle(); return len(m.log) != sent }() {
		t.Error("the refused table was sent again")
	}
	m.refuses = func(*resource) bool { return false }
	w.tables["t1"] = []string{"d"}
	p.publish(w.messages())
	m.rest()
	if len(m.session.refusals()) > 0 {
		t.Error("the refusal outlived its content")
	}
	checkComplete(t, 0, m, p.target)
}

func TestARefusedClusterIsFoundAmongOthers(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	m.refuses = func(res *resource) bool { return res.kind == kindCluster && res.name == "c" }
	w.tables["t1"] = []string{"a", "b"}
	w.tables["t2"] = []string{"c"}
	m.silent["c"] = true // nothing of the model asks for its endpoints
	p.publish(w.messages())
	m.settle()
	if m.clusters["b"] == nil || m.routes["t1"].version != p.target.resources[kindRoute].get("t1").version {
		t.Error("the good cluster was refused with the bad one")
	}
	if got := m.session.refusals(); len(got) != 1 || got[0].Resource != "c" {
		t.Errorf("recorded %+v", got)
	}
}

func TestAReconnectSendsWhatChangedOnly(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}, "t2": {"b"}})
	m, p := started(t, w)
	m.connect()
	m.session.publish(p.target, [kinds][]string{})
	m.settle()
	for _, line := range m.log {
		t.Log(line)
	}
	m.log = nil
	checkComplete(t, 0, m, p.target)

	m.connect()
	w.tables["t1"] = []string{"c"}
	next, _ := advance(p.target, w.messages())
	p.target = next
	m.session.publish(next, [kinds][]string{})
	m.rest()
	checkComplete(t, 0, m, p.target)
}

func TestAProxyOfAnotherServersTimeKeepsItsClusters(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	// The new server never knew the table the proxy has.
	m.connect()
	w.tables["t1"] = []string{"b"}
	next, _ := advance(nil, w.messages())
	p.target = next
	m.session.publish(next, [kinds][]string{})
	m.rest() // check fails the test if cluster a goes before the table that names it
	checkComplete(t, 0, m, p.target)
}

func TestNothingIsSentBeforeTheFirstPublication(t *testing.T) {
	m := newModel(t)
	m.settle()
	if len(m.log) > 0 {
		t.Errorf("sent %v", m.log)
	}
}

func TestAckedIsTheNewestCompleteVersion(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	for range 3 {
		// Published faster than acknowledged: versions in between count once theirs is reached.
		w.content["a"]++
		p.publish(w.messages())
		m.take()
	}
	if got, _ := m.session.acked(); got != 1 {
		t.Errorf("acknowledged %d before any answer, want 1", got)
	}
	m.settle()
	if got, _ := m.session.acked(); got != 4 {
		t.Errorf("acknowledged %d, want 4", got)
	}
	// Back to what is still acknowledged, while another is under way: not acknowledged.
	w.content["a"]++
	p.publish(w.messages())
	m.take()
	w.content["a"]--
	p.publish(w.messages())
	if got, _ := m.session.acked(); got >= 6 {
		t.Errorf("acknowledged %d while another content is under way", got)
	}
	m.settle()
	if got, _ := m.session.acked(); got != 6 {
		t.Errorf("acknowledged %d, want 6", got)
	}
}

func TestPublishingTheSameKeepsTheVersion(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	first, _ := advance(nil, w.messages())
	again, _ := advance(first, w.messages())
	if again != first {
		t.Errorf("version %d became %d", first.version, again.version)
	}
	clone := w.messages()
	clone[kindCluster]["a"] = proto.Clone(clone[kindCluster]["a"])
	if again, _ = advance(first, clone); again != first {
		t.Error("an equal message made a new version")
	}
}

func TestEndpointsThatAreNotKnownYet(t *testing.T) {
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	m.unknown["b"] = true
	w.tables["t1"] = []string{"b"}
	p.publish(w.messages())
	m.settle()
	if acked, _ := m.session.acked(); acked >= p.target.version {
		t.Fatal("the route table went to a cluster whose endpoints nobody knows")
	}
	delete(m.unknown, "b")
	m.store["b"] = newResource(kindEndpoints, "b", &endpointv3.ClusterLoadAssignment{
		ClusterName: "b", Endpoints: []*endpointv3.LocalityLbEndpoints{{}},
	}, 0)
	m.session.endpointsChanged("b")
	m.rest()
	checkComplete(t, 0, m, p.target)

	// A new server that does not know them yet takes nothing away.
	m.unknown["b"] = true
	delete(m.store, "b")
	m.log = nil
	m.connect()
	m.session.publish(p.target, [kinds][]string{})
	m.settle()
	for _, line := range m.log {
		if strings.Contains(line, "endpoints") {
			t.Errorf("sent %s", line)
		}
	}
}

// TestAProxyIsToldOfItsOwnUpstreamsOnly asks for the endpoints of another Gateway's
// upstream, and pretends to have had its cluster before.
func TestAProxyIsToldOfItsOwnUpstreamsOnly(t *testing.T) {
	m, p := started(t, simple(map[string][]string{"t1": {"a"}}))
	m.store["theirs"] = newResource(kindEndpoints, "theirs", &endpointv3.ClusterLoadAssignment{
		ClusterName: "theirs", Endpoints: []*endpointv3.LocalityLbEndpoints{{}},
	}, 0)
	for _, claims := range []map[string]string{nil, {"theirs": "1"}} {
		m.connect()
		m.session.publish(p.target, [kinds][]string{})
		m.session.receive(request{kind: kindCluster, initial: claims})
		m.session.receive(request{kind: kindEndpoints, subscribe: []string{"theirs"}})
		for {
			r, _ := m.session.next(m.now)
			if r == nil {
				break
			}
			for _, res := range r.resources {
				if r.kind == kindEndpoints && res.name == "theirs" && res.version == m.store["theirs"].version {
					t.Errorf("with the claim %v it was told of another's endpoints", claims)
				}
			}
		}
	}
}
