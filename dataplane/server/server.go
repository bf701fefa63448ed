// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server is the control plane's end of the proxies' configuration
// streams: delta ADS over gRPC with mutual TLS. It takes Snapshots and
// endpoints, brings them to each proxy in an order in which every reference holds
// (make before break), and keeps account of what each proxy acknowledged.
//
//	Publish ─▶ target ─┐
//	                   ├─▶ session (one per proxy, pure) ─▶ stream ─▶ Envoy
//	endpoints ─────────┘          ▲ requests, ACK, NACK ────────────────┘
package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/xds"
)

// Options configure a Server.
type Options struct {
	Log logr.Logger
	// Identity gives the server's key pair and the authority that signs the
	// proxies' certificates. It is asked on every handshake, so rotation needs no restart.
	Identity func() pki.Identity
	// Notify is called, never concurrently, after State of a gateway changed. It
	// must not block. Nil means nobody asks.
	Notify func(gateway types.NamespacedName)
	// Measurements takes what the proxies measure; nil refuses it.
	Measurements Measurements
	// Loads takes what they report of single endpoints; nil refuses it.
	Loads Loads
	// Linger is how long a proxy keeps a cluster that nothing names any more; 0 is ClusterLinger.
	Linger time.Duration
}

// Nack is a refusal of a proxy that is still in force.
type Nack struct {
	// TypeURL is the type of the refused resource, Resource its name, Message
	// Envoy's sentence.
	TypeURL, Resource, Message string
}

// State is how far the proxies of a gateway are.
type State struct {
	// Connected counts the proxies with a stream.
	Connected int
	// Published is the version of the last Publish, 0 before the first.
	Published uint64
	// Acked is the newest version that every connected proxy has acknowledged
	// completely; 0 when none is connected.
	Acked uint64
	// Answered is the newest version of which every connected proxy has
	// acknowledged all that no proxy refused; at least Acked. What is in Refused and
	// in nothing else that an object needs does not keep the object from being served.
	Answered uint64
	// Nack is the first of Refused, nil when nothing is refused.
	Nack *Nack
	// Refused is every refusal in force, in order and once each.
	Refused []Nack
	// Isolated are the rules that had to be kept away from the proxies so that the
	// others could go on, in order.
	Isolated []Isolated
}

// Server serves the configuration of any number of gateways.
type Server struct {
	options Options

	// publishing orders the publications; mu guards the maps below and is never
	// held while a message is packed or sent.
	publishing sync.Mutex
	mu         sync.Mutex
	targets    map[types.NamespacedName]*target
	streams    map[types.NamespacedName]map[*stream]bool
	// away is State.Isolated; searching has the gateways where a refused rule is
	// looked for.
	away      map[types.NamespacedName][]Isolated
	searching map[types.NamespacedName]bool
	heldBack  map[types.NamespacedName]heldBack
	// isolations is guarded by publishing.
	isolations map[types.NamespacedName]isolations
	// diversions are guarded by mu. Streams begin with them.
	diversions *diversions

	endpoints endpointStore
	notifying sync.Mutex
	pace      *pace
}

// New makes a Server with nothing published.
func New(options Options) *Server {
	return &Server{
		options:    options,
		targets:    map[types.NamespacedName]*target{},
		streams:    map[types.NamespacedName]map[*stream]bool{},
		away:       map[types.NamespacedName][]Isolated{},
		searching:  map[types.NamespacedName]bool{},
		heldBack:   map[types.NamespacedName]heldBack{},
		isolations: map[types.NamespacedName]isolations{},
		diversions: &diversions{},
		endpoints:  endpointStore{byCluster: map[string]*resource{}},
		pace:       newPace(),
	}
}

// Publish makes snap the configuration of its gateway and returns its version,
// which counts up from 1 (some numbers may be left out). Publishing what is already
// there keeps the version. New weights go out before the rest is even looked at. The
// messages must not be changed afterwards; one that is the same as in the publication
// before, by pointer, is not looked at again.
func (s *Server) Publish(snap xds.Snapshot) (version uint64) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	present := s.targets[snap.Gateway]
	s.mu.Unlock()
	messages := messagesOf(snap)
	if ahead, ok := weightsAhead(present, messages); ok {
		present = s.replace(snap.Gateway, present, ahead)
	}
	messages[kindRoute] = s.isolated(snap.Gateway, present, messages[kindRoute])
	messages, invalid := valid(present, messages)
	version = s.replace(snap.Gateway, present, messages).version
	s.holdBack(snap.Gateway, version, invalid)
	return version
}

// replace makes the messages the target after old, and gives it, or old when nothing differs.
func (s *Server) replace(gateway types.NamespacedName, old *target, messages [kinds]map[string]proto.Message) *target {
	next, changed := advance(old, messages)
	if next == old {
		return old
	}
	s.bring(gateway, next, changed)
	return next
}

// bring makes next the target of a gateway's proxies, which differs from the one before as changed says.
func (s *Server) bring(gateway types.NamespacedName, next *target, changed [kinds][]string) {
	s.mu.Lock()
	s.targets[gateway] = next
	streams := slices.Collect(maps.Keys(s.streams[gateway]))
	if len(streams) > 0 {
		s.pace.published(gateway, next.version, time.Now())
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.do(func(session *session) { session.publish(next, changed) })
	}
}

// weightsAhead gives the messages behind old with the new runtime keys, when that is
// all that has to be compared for them to be sent: no key may be missing that old route tables
// read. Packing the route tables of thousands of routes to find them unchanged takes
// a hundred times as long as the proxies take for a weight.
func weightsAhead(old *target, messages [kinds]map[string]proto.Message) (ahead [kinds]map[string]proto.Message, ok bool) {
	if old == nil || !slices.ContainsFunc(slices.Collect(maps.Keys(messages[kindRuntime])), func(name string) bool {
		was := old.resources[kindRuntime].get(name)
		return was == nil || was.source != messages[kindRuntime][name]
	}) {
		return ahead, false // nothing to send ahead
	}
	for name, was := range old.resources[kindRuntime].all() {
		is, ok := messages[kindRuntime][name].(*runtimev3.Runtime)
		if !ok {
			return ahead, false
		}
		for key := range was.message.GetLayer().GetFields() {
			if is.GetLayer().GetFields()[key] == nil {
				return ahead, false
			}
		}
	}
	for k, resources := range old.resources {
		ahead[k] = resources.sources()
	}
	ahead[kindRuntime] = messages[kindRuntime]
	return ahead, true
}

// advance gives the target after old, and what differs. It gives old itself when
// nothing does.
func advance(old *target, messages [kinds]map[string]proto.Message) (*target, [kinds][]string) {
	next, differs := &target{version: 1}, old == nil
	if old != nil {
		next.version = old.version + 1
	}
	var changed [kinds][]string
	for k := range messages {
		var before shelf
		if old != nil {
			before = old.resources[k]
		}
		for name, message := range messages[k] {
			was := before.get(name)
			if was != nil && was.source == message {
				next.resources[k].put(was)
				continue
			}
			is := newResource(kind(k), name, message, next.version)
			if was != nil && was.version == is.version {
				is = was
			} else {
				changed[k] = append(changed[k], name)
			}
			next.resources[k].put(is)
		}
		for name := range before.names() {
			if next.resources[k].get(name) == nil {
				changed[k] = append(changed[k], name)
			}
		}
		slices.Sort(changed[k])
		differs = differs || len(changed[k]) > 0
	}
	if !differs {
		return old, changed
	}
	return next, changed
}

// Withdraw forgets a gateway; its proxies keep what they have.
func (s *Server) Withdraw(gateway types.NamespacedName) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	delete(s.targets, gateway)
	delete(s.away, gateway)
	delete(s.searching, gateway)
	delete(s.heldBack, gateway)
	delete(s.isolations, gateway)
	streams := slices.Collect(maps.Keys(s.streams[gateway]))
	s.mu.Unlock()
	for _, st := range streams {
		st.do((*session).withdraw)
	}
	s.pace.forget(gateway)
}

// PublishEndpoints sets the endpoints of an upstream for all gateways, at once.
func (s *Server) PublishEndpoints(key graph.ClusterKey, cla *endpointv3.ClusterLoadAssignment) {
	if s.endpoints.set(newResource(kindEndpoints, key.Name(), cla, 0)) {
		s.endpointsChanged(key.Name())
	}
}

// RemoveEndpoints forgets an upstream that no Snapshot names any more. Proxies keep
// the endpoints until they drop the cluster itself, because until then they may
// still send requests to it; so it should be known for as long (see Options.Linger).
func (s *Server) RemoveEndpoints(key graph.ClusterKey) { s.endpoints.remove(key.Name()) }

func (s *Server) endpointsChanged(cluster string) {
	s.mu.Lock()
	var streams []*stream
	for _, of := range s.streams {
		streams = slices.AppendSeq(streams, maps.Keys(of))
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.do(func(session *session) { session.endpointsChanged(cluster) })
	}
}

// State tells how far the proxies of a gateway are.
func (s *Server) State(gateway types.NamespacedName) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var state State
	if t := s.targets[gateway]; t != nil {
		state.Published, state.Acked, state.Answered = t.version, t.version, t.version
	}
	if held := s.heldBack[gateway]; len(held.refused) > 0 {
		state.Refused = slices.Clone(held.refused)
		state.Acked = held.since - 1
	}
	state.Isolated = slices.Clone(s.away[gateway])
	for st := range s.streams[gateway] {
		state.Connected++
		progress := st.progress.Load()
		state.Acked = min(state.Acked, progress.acked)
		state.Answered = min(state.Answered, progress.answered)
		state.Refused = append(state.Refused, progress.refused...)
	}
	if state.Connected == 0 {
		state.Acked, state.Answered = 0, 0
	}
	slices.SortFunc(state.Refused, compareNacks)
	if state.Refused = slices.Compact(state.Refused); len(state.Refused) > 0 {
		state.Nack = &state.Refused[0]
	}
	return state
}

func (s *Server) notify(gateway types.NamespacedName) {
	if s.options.Notify == nil {
		return
	}
	s.notifying.Lock()
	defer s.notifying.Unlock()
	s.options.Notify(gateway)
}

// endpointStore holds the endpoints of every upstream.
type endpointStore struct {
	mu        sync.RWMutex
	byCluster map[string]*resource
}

// set tells whether the endpoints differ from those before.
func (e *endpointStore) set(r *resource) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if was := e.byCluster[r.name]; was != nil && was.version == r.version {
		return false
	}
	e.byCluster[r.name] = r
	return true
}

func (e *endpointStore) remove(cluster string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.byCluster, cluster)
}

func unknownEndpoints(cluster string) *resource {
	r := newResource(kindEndpoints, cluster, &endpointv3.ClusterLoadAssignment{ClusterName: cluster}, 0)
	r.unknown = true
	return r
}

// get never gives nil: endpoints that nobody published are unknown, which is not the
// same as none.
func (e *endpointStore) get(cluster string) *resource {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if r := e.byCluster[cluster]; r != nil {
		return r
	}
	return unknownEndpoints(cluster)
}
