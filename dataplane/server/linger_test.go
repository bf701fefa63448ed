// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// moved is a proxy whose only route has just moved from cluster a to cluster b.
func moved(t *testing.T) (*model, *publisher, *world) {
	t.Helper()
	w := simple(map[string][]string{"t1": {"a"}})
	m, p := started(t, w)
	w.tables["t1"] = []string{"b"}
	p.publish(w.messages())
	m.settle()
	if acked, _ := m.session.acked(); acked != p.target.version {
		t.Fatal("a cluster that lingers keeps the publication from being acknowledged")
	}
	if m.clusters["a"] == nil {
		t.Fatal("the cluster went with its last route")
	}
	m.log = nil
	return m, p, w
}

// pass lets time pass, with a look of the session every quarter of a linger or when it wants one.
func (m *model) pass(d time.Duration) {
	for end := m.now.Add(d); ; {
		m.settle()
		if !m.now.Before(end) {
			return
		}
		_, wake := m.session.next(m.now)
		at := m.now.Add(ClusterLinger / 4)
		if !wake.IsZero() && wake.Before(at) {
			at = wake
		}
		if at.After(end) {
			at = end
		}
		m.now = at
	}
}

func TestAClusterOutlivesItsLastRoute(t *testing.T) {
	tests := []struct {
		name string
		// meanwhile happens half a linger after the route moved.
		meanwhile func(m *model, p *publisher, w *world)
		// kept says that it is still there one and a half lingers after the route moved.
		kept bool
		// sent are the responses in that time, but for a removal of the cluster.
		sent []kind
	}{
		{name: "it goes after the linger"},
		{
			name: "a route that comes back to it keeps it, and it is not sent again",
			meanwhile: func(_ *model, p *publisher, w *world) {
				w.tables["t1"] = []string{"a"}
				p.publish(w.messages())
			},
			kept: true, sent: []kind{kindRoute},
		},
		{
			name: "a route that came back for a moment makes it stay for a whole linger more",
			meanwhile: func(m *model, p *publisher, w *world) {
				w.tables["t2"] = []string{"a"}
				p.publish(w.messages())
				m.settle()
				m.now = m.now.Add(ClusterLinger / 4)
				delete(w.tables, "t2")
				p.publish(w.messages())
			},
			kept: true, sent: []kind{kindRoute, kindListener, kindListener, kindRoute},
		},
		{
			name: "a route that came back to it stays, because the proxy refuses the next one",
			meanwhile: func(m *model, p *publisher, w *world) {
				w.tables["t1"] = []string{"a"}
				p.publish(w.messages())
				m.settle()
				m.refuses = func(r *resource) bool { return r.kind == kindRoute }
				w.tables["t1"] = []string{"b", "a"}
				p.publish(w.messages())
				m.settle()
				w.tables["t1"] = []string{"b"}
				p.publish(w.messages())
				m.settle()
			},
			kept: true, sent: []kind{kindRoute, kindRoute, kindRoute},
		},
		{
			name: "what other routes do does not prolong it",
			meanwhile: func(_ *model, p *publisher, w *world) {
				w.tables["t1"] = []string{"c"}
				p.publish(w.messages())
			},
			sent: []kind{kindCluster, kindEndpoints, kindRoute},
		},
		{
			name: "another cluster of its name replaces it at once",
			meanwhile: func(_ *model, p *publisher, w *world) {
				w.content["a"] = 2
				w.tables["t2"] = []string{"a"}
				p.publish(w.messages())
			},
			kept: true, sent: []kind{kindCluster, kindEndpoints, kindRoute, kindListener},
		},
		{
			name: "its endpoints follow the pods until it goes",
			meanwhile: func(m *model, _ *publisher, _ *world) {
				m.store["a"] = endpointsAt("a", "10.0.0.9")
				m.session.endpointsChanged("a")
				m.settle()
				if m.endpoints["a"] != m.store["a"] {
					t.Error("its endpoints are those of before")
				}
			},
			sent: []kind{kindEndpoints},
		},
		{
			name: "a proxy that connects again begins a linger anew: nobody knows since when nothing names it",
			meanwhile: func(m *model, p *publisher, _ *world) {
				m.connect()
				m.session.publish(p.target, [kinds][]string{})
			},
			kept: true, sent: []kind{kindCluster, kindRoute, kindListener},
		},
		{
			name: "a Gateway that is forgotten and comes back",
			meanwhile: func(m *model, p *publisher, _ *world) {
				m.session.withdraw()
				m.session.publish(p.target, [kinds][]string{})
			},
			kept: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, p, w := moved(t)
			var sent []kind
			m.taken = func(r *response) {
				if !slices.Contains(r.removed, "a") {
					sent = append(sent, r.kind)
				}
			}
			m.pass(ClusterLinger / 2)
			if tt.meanwhile != nil {
				tt.meanwhile(m, p, w)
			}
			m.pass(ClusterLinger / 4)
			if m.clusters["a"] == nil {
				t.Fatal("it went before the linger was over")
			}
			m.pass(ClusterLinger / 2)
			if kept := m.clusters["a"] != nil; kept != tt.kept {
				t.Errorf("there one and a half lingers after its route moved: %v, want %v\n%v", kept, tt.kept, m.log)
			}
			if !slices.Equal(sent, tt.sent) {
				t.Errorf("sent %v, want %v\n%v", sent, tt.sent, m.log)
			}
			if len(m.session.refusals()) > 0 {
				return
			}
			m.rest()
			checkComplete(t, 0, m, p.target)
			if n := len(m.session.lingering.until); n > 0 || !m.session.lingering.next.IsZero() {
				t.Errorf("%d clusters are remembered for ever", n)
			}
		})
	}
}

// Nothing is to be done for them in between, however many there are.
func TestClustersReleasedTogetherGoTogether(t *testing.T) {
	const clusters = 2000
	w := simple(map[string][]string{"t1": {"a"}})
	for i := range clusters {
		w.tables["t1"] = append(w.tables["t1"], fmt.Sprintf("c%04d", i))
	}
	m, p := started(t, w)
	for _, some := range []int{clusters / 2, 0} { // in two steps, a twentieth of a linger apart
		w.tables["t1"] = w.tables["t1"][:some+1]
		p.publish(w.messages())
		m.settle()
		m.now = m.now.Add(ClusterLinger / 20)
	}
	if n := len(m.session.types[kindCluster].dirty.order); n > 0 {
		t.Errorf("%d clusters that only wait are looked at for each response", n)
	}
	m.log = nil
	looks := 0
	for len(m.clusters) > 1 {
		looks++
		_, wake := m.session.next(m.now)
		if !wake.After(m.now) || wake.After(m.now.Add(2*ClusterLinger)) {
			t.Fatalf("at %v the session wants to be woken at %v", m.now, wake)
		}
		m.now = wake
		m.settle()
	}
	if looks != 1 || len(m.log) != 1 {
		t.Errorf("the clusters went with %d responses in %d looks, want one", len(m.log), looks)
	}
	if _, wake := m.session.next(m.now); !wake.IsZero() {
		t.Errorf("afterwards the session wants to be woken at %v", wake)
	}
	checkComplete(t, 0, m, p.target)
}

// A look comes too late, or while it is not known what the proxy has: nothing goes, and the
// sender is not kept spinning by a moment that lies in the past.
func TestAWakeOfAClusterThatMayNotGoIsNotInThePast(t *testing.T) {
	m, _, _ := moved(t)
	m.now = m.now.Add(2 * ClusterLinger)
	held := m.session.types[kindRoute].held
	m.session.types[kindRoute].held = maps.Clone(held)
	m.session.types[kindRoute].held["t9"] = &resource{kind: kindRoute, name: "t9", opaque: true}
	if r, wake := m.session.next(m.now); r != nil || !wake.IsZero() {
		t.Errorf("gave %v, and wants to be woken at %v", r, wake)
	}
	m.session.types[kindRoute].held = held
	if r, _ := m.session.next(m.now); r == nil || !slices.Equal(r.removed, []string{"a"}) {
		t.Errorf("gave %v once it is known", r)
	}
}

// A proxy that is connected again names what it has kind by kind, and may have route tables although none of its
// listeners has any, while one drains.
func TestWhatAProxyBringsAlongLateMayNameACluster(t *testing.T) {
	w := simple(map[string][]string{"d1": {"b"}})
	m, p := started(t, w)
	m.clusters["a"] = newResource(kindCluster, "a", clusterVariant("a", 0), 1)
	m.connect()
	m.session.publish(p.target, [kinds][]string{})
	m.settle()
	if !m.session.lingering.has("a") {
		t.Fatal("the cluster does not linger: the test shows nothing")
	}
	m.session.receive(request{kind: kindRoute, initial: map[string]string{"t1": "of before"}})
	if m.session.lingering.has("a") {
		t.Error("a cluster lingers that an unknown route table may name")
	}
	if !m.session.types[kindCluster].dirty.has["a"] {
		t.Error("nobody will look at the cluster again")
	}
}

func TestTheLingerOfOptions(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: ClusterLinger, time.Second: time.Second} {
		if got := newLingering(given).linger; got != want {
			t.Errorf("with %s it is %s, want %s", given, got, want)
		}
	}
}
