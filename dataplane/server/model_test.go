// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// model is a proxy as far as the order of things goes: it takes responses one by one,
// keeps what it took, asks for the endpoints of its clusters and for the route tables of
// its listeners, and acknowledges clusters only when all of them are warm. Every
// moment it checks that what it serves exists.
type model struct {
	t       *testing.T
	session *session
	store   map[string]*resource
	now     time.Time

	clusters, endpoints, listeners, routes, runtimes map[string]*resource
	// warm clusters can be used.
	warm map[string]bool
	// named is when something the proxy had last named a cluster, across all its streams.
	named map[string]time.Time
	// asked is what is subscribed by name.
	asked map[kind]map[string]bool
	// heldBack are cluster responses whose acknowledgement waits for warmth.
	heldBack []*response
	inbox    []request
	// refuses decides whether the proxy refuses a resource.
	refuses func(*resource) bool
	// silent clusters never get warm by endpoints, and their acknowledgement never comes.
	silent map[string]bool
	// unknown clusters have no published endpoints.
	unknown map[string]bool
	// excused are the route tables the proxy had when it connected again: a server that
	// did not see their runtime keys cannot keep them, and their baseline is safe.
	excused map[string]*resource
	taken   func(*response)
	// layers are the runtime layers it is started with.
	layers []string
	log    []string
}

func newModel(t *testing.T, layers ...string) *model {
	if len(layers) == 0 {
		layers = []string{"weights"}
	}
	m := &model{
		layers: layers,
		t:      t, store: map[string]*resource{}, now: time.Unix(1000, 0),
		clusters: map[string]*resource{}, endpoints: map[string]*resource{}, listeners: map[string]*resource{}, routes: map[string]*resource{}, runtimes: map[string]*resource{},
		warm: map[string]bool{}, named: map[string]time.Time{}, asked: map[kind]map[string]bool{},
		refuses: func(*resource) bool { return false }, silent: map[string]bool{}, unknown: map[string]bool{},
	}
	for _, k := range []kind{kindEndpoints, kindFilter, kindRuntime} {
		m.asked[k] = map[string]bool{}
	}
	m.connect()
	return m
}

// connect begins a stream. What the proxy has already it names with its versions.
func (m *model) connect() {
	m.session = newSession(func(name string) *resource {
		if r := m.store[name]; r != nil {
			return r
		}
		if m.unknown[name] {
			return unknownEndpoints(name)
		}
		return newResource(kindEndpoints, name, &endpointv3.ClusterLoadAssignment{ClusterName: name}, 0)
	}, 0)
	m.inbox, m.heldBack = nil, nil
	m.excused = maps.Clone(m.routes)
	initial := func(have map[string]*resource) map[string]string {
		versions := map[string]string{}
		for name, r := range have {
			versions[name] = r.version
		}
		if len(versions) == 0 {
			return nil
		}
		return versions
	}
	for _, name := range m.layers {
		m.asked[kindRuntime][name] = true
	}
	m.ask(request{kind: kindRuntime, subscribe: m.layers, initial: initial(m.runtimes)})
	m.ask(request{kind: kindCluster, initial: initial(m.clusters)})
	if len(m.asked[kindEndpoints]) > 0 {
		m.ask(request{
			kind: kindEndpoints, subscribe: slices.Sorted(maps.Keys(m.asked[kindEndpoints])), initial: initial(m.endpoints),
		})
	}
	m.ask(request{kind: kindListener, initial: initial(m.listeners)})
	if len(m.asked[kindFilter]) > 0 {
		m.ask(request{kind: kindFilter, subscribe: slices.Sorted(maps.Keys(m.asked[kindFilter])), initial: initial(ofKind(m.routes, kindFilter))})
	}
	if m.routed() {
		m.ask(request{kind: kindRoute, initial: initial(ofKind(m.routes, kindRoute))})
	}
}

func (m *model) ask(r request) { m.inbox = append(m.inbox, r) }

// hear lets the session hear the proxy's oldest message.
func (m *model) hear() bool {
	if len(m.inbox) == 0 {
		return false
	}
	r := m.inbox[0]
	m.inbox = m.inbox[1:]
	m.session.receive(r)
	return true
}

// take lets the proxy take the session's next response.
func (m *model) take() bool {
	r, _ := m.session.next(m.now)
	if r == nil {
		return false
	}
	m.log = append(m.log, describe(r))
	m.markNamed() // it served what it has until now
	if m.taken != nil {
		m.taken(r)
	}
	switch {
	case r.kind == kindCluster:
		m.takeClusters(r)
	case r.kind == kindRoute:
		m.takeRoutes(r)
	case len(r.resources) == 1 && m.refuses(r.resources[0]):
		m.refuse(r)
	case r.kind == kindListener:
		m.takeListeners(r)
	default:
		m.takeNamed(r)
	}
	m.check()
	return true
}

func (m *model) takeClusters(r *response) {
	if slices.ContainsFunc(r.resources, m.refuses) {
		m.refuse(r)
		return
	}
	for _, res := range r.resources {
		if m.clusters[res.name] == nil {
			m.subscribe(kindEndpoints, res.name)
		}
		m.clusters[res.name] = res
	}
	for _, name := range r.removed {
		if since := m.now.Sub(m.named[name]); since < ClusterLinger {
			m.t.Fatalf("cluster %s goes %s after something last named it: requests that came by then may be tried again\n%s",
				name, since, strings.Join(m.log, "\n"))
		}
		delete(m.clusters, name)
		delete(m.warm, name)
		delete(m.endpoints, name)
		m.unsubscribe(kindEndpoints, name)
	}
	m.heldBack = append(m.heldBack, r)
	m.acknowledgeWarm()
}

func (m *model) acknowledgeWarm() {
	for len(m.heldBack) > 0 {
		for _, res := range m.heldBack[0].resources {
			if m.clusters[res.name] != nil && !m.warm[res.name] {
				return
			}
		}
		m.acknowledge(m.heldBack[0])
		m.heldBack = m.heldBack[1:]
	}
}

func (m *model) takeListeners(r *response) {
	before := m.routed()
	for _, res := range r.resources {
		m.listeners[res.name] = res
		for _, filter := range res.refs {
			if filter.kind == kindFilter && !m.asked[kindFilter][filter.name] {
				m.subscribe(kindFilter, filter.name)
			}
		}
	}
	for _, name := range r.removed {
		for _, filter := range m.listeners[name].refs {
			if filter.kind == kindFilter {
				delete(m.routes, filter.name)
				m.unsubscribe(kindFilter, filter.name)
			}
		}
		delete(m.listeners, name)
	}
	switch {
	case m.routed() && !before:
		m.ask(request{kind: kindRoute, subscribe: []string{"*"}})
	case before && !m.routed():
		maps.DeleteFunc(m.routes, func(_ string, r *resource) bool { return r.kind == kindRoute })
		m.ask(request{kind: kindRoute, unsubscribe: []string{"*"}})
	}
	m.acknowledge(r)
}

// routed tells whether any listener has route tables, which then come all at once.
func (m *model) routed() bool {
	for _, listener := range m.listeners {
		if listener.routed {
			return true
		}
	}
	return false
}

// takeRoutes takes all that it does not refuse, and says so if there is any.
func (m *model) takeRoutes(r *response) {
	refused := false
	for _, res := range r.resources {
		switch {
		case m.refuses(res):
			refused = true
		case m.routed():
			m.routes[res.name] = res
		}
	}
	for _, name := range r.removed {
		delete(m.routes, name)
	}
	if refused {
		m.refuse(r)
		return
	}
	m.acknowledge(r)
}

func (m *model) takeNamed(r *response) {
	for _, res := range r.resources {
		if !m.asked[r.kind][res.name] {
			continue
		}
		switch r.kind {
		case kindEndpoints:
			m.endpoints[res.name] = res
			if m.clusters[res.name] != nil && !m.silent[res.name] {
				m.warm[res.name] = true
			}
		case kindFilter:
			m.routes[res.name] = res
		case kindRuntime:
			m.runtimes[res.name] = res
		}
	}
	if r.kind == kindEndpoints && m.silent[r.resources[0].name] {
		return
	}
	m.acknowledge(r)
	m.acknowledgeWarm()
}

func (m *model) acknowledge(r *response) { m.ask(request{kind: r.kind, nonce: nonceString(r.nonce)}) }

func (m *model) refuse(r *response) {
	m.ask(request{kind: r.kind, nonce: nonceString(r.nonce), refused: true, message: "no"})
}

func (m *model) subscribe(k kind, name string) {
	m.asked[k][name] = true
	m.ask(request{kind: k, subscribe: []string{name}})
}

func (m *model) unsubscribe(k kind, name string) {
	delete(m.asked[k], name)
	m.ask(request{kind: k, unsubscribe: []string{name}})
}

// markNamed takes note of the clusters that something in the proxy names now.
func (m *model) markNamed() {
	for _, table := range slices.AppendSeq(slices.Collect(maps.Values(m.routes)), maps.Values(m.listeners)) {
		for _, r := range table.refs {
			if r.kind == kindCluster {
				m.named[r.name] = m.now
			}
		}
	}
}

// check is the promise: every route table, filter and listener in the proxy names clusters
// that are there and warm, and reads runtime keys that are there.
func (m *model) check() {
	m.t.Helper()
	for _, table := range slices.AppendSeq(slices.Collect(maps.Values(m.routes)), maps.Values(m.listeners)) {
		for _, r := range table.refs {
			name := r.name
			if r.kind != kindCluster {
				continue
			}
			if strings.HasPrefix(name, "missing") || m.silent[name] {
				continue
			}
			if m.clusters[name] == nil || !m.warm[name] {
				m.t.Fatalf("route table %s names cluster %s, which the proxy has not (warm: %v)\n%s",
					table.name, name, m.warm[name], strings.Join(m.log, "\n"))
			}
		}
		if m.excused[table.name] == table {
			continue
		}
		for _, key := range keysOf(table) {
			if !m.reads(key) {
				m.t.Fatalf("route table %s reads the runtime key %s, which the proxy has not\n%s",
					table.name, key, strings.Join(m.log, "\n"))
			}
		}
	}
}

// reads tells whether the proxy has a runtime key.
func (m *model) reads(key string) bool {
	for _, layer := range m.runtimes {
		if layer.message.GetLayer().GetFields()[key] != nil {
			return true
		}
	}
	return false
}

// settle lets everything under way arrive.
func (m *model) settle() {
	for m.hear() || m.take() {
	}
}

// rest is settle, and lets the clusters go that nothing names any more.
func (m *model) rest() {
	m.settle()
	m.now = m.now.Add(2 * ClusterLinger)
	m.settle()
}

func describe(r *response) string {
	var names []string
	for _, res := range r.resources {
		names = append(names, res.name+"@"+res.version[:4])
	}
	kinds := [...]string{"runtime", "endpoints", "cluster", "secret", "route", "filter", "listener"}
	return fmt.Sprintf("%d %s %v removed %v", r.nonce, kinds[r.kind], names, r.removed)
}

// keysOf lists the runtime keys that a route table of the tests reads.
func keysOf(table *resource) []string {
	var keys []string
	scope, _ := table.source.(*routev3.ScopedRouteConfiguration)
	for _, host := range scope.GetRouteConfiguration().GetVirtualHosts() {
		for _, route := range host.Routes {
			weighted := route.GetRoute().GetWeightedClusters()
			if prefix := weighted.GetRuntimeKeyPrefix(); prefix != "" {
				for _, c := range weighted.Clusters {
					keys = append(keys, prefix+"."+c.Name)
				}
			}
		}
	}
	return keys
}

func ofKind(all map[string]*resource, k kind) map[string]*resource {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(_ string, r *resource) bool { return r.kind != k })
	return out
}

// world is what the random tests publish: route tables over clusters, behind listeners. One
// whose name begins with f is a filter, with d a listener for datagrams whose cluster mixes the upstreams.
type world struct {
	tables  map[string][]string // table → clusters
	content map[string]int      // cluster → variant
	keys    map[string]string   // table → prefix of its runtime keys, or none
	weight  int
}

func (w *world) messages() [kinds]map[string]proto.Message {
	var out [kinds]map[string]proto.Message
	for k := range out {
		out[k] = map[string]proto.Message{}
	}
	runtime := &runtimev3.Runtime{Name: "weights", Layer: &structpb.Struct{Fields: map[string]*structpb.Value{}}}
	out[kindRuntime]["weights"] = runtime
	for table, clusters := range w.tables {
		out[kindListener]["on-"+table] = listenerFor(table)
		switch table[0] {
		case 'd':
			mix := "mix-" + table
			out[kindCluster][mix] = clusterVariant(mix, 0)
			out[kindEndpoints][mix] = mixOf(mix, clusters, uint32(w.weight+1))
			continue
		case 'f':
			out[kindFilter][table] = filterOver(table, clusters)
		default:
			out[kindRoute][table] = tableOver(table, clusters, w.keys[table])
		}
		for _, name := range clusters {
			if w.keys[table] != "" && table[0] == 't' {
				runtime.Layer.Fields[w.keys[table]+"."+name] = structpb.NewNumberValue(float64(w.weight))
			}
			if !strings.HasPrefix(name, "missing") {
				out[kindCluster][name] = clusterVariant(name, w.content[name])
			}
		}
	}
	return out
}

func clusterVariant(name string, variant int) proto.Message {
	return &clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(time.Duration(variant+1) * time.Second)}
}

func tableOver(name string, clusters []string, keys string) proto.Message {
	weighted := &routev3.WeightedCluster{RuntimeKeyPrefix: keys}
	for _, c := range clusters {
		weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: c})
	}
	routes := []*routev3.Route{{Action: &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted},
	}}}}
	return &routev3.ScopedRouteConfiguration{Name: name, RouteConfiguration: &routev3.RouteConfiguration{
		Name: name, VirtualHosts: []*routev3.VirtualHost{{Routes: routes}},
	}}
}

// publisher publishes to a model as the Server does.
type publisher struct {
	model  *model
	target *target
}

func (p *publisher) publish(messages [kinds]map[string]proto.Message) {
	next, changed := advance(p.target, messages)
	if next == p.target {
		return
	}
	p.target = next
	p.model.session.publish(next, changed)
}

func (w *world) mutate(r *rand.Rand) {
	tables := []string{"t1", "t2", "t3", "f1", "f2", "d1"}
	clusters := []string{"a", "b", "c", "d", "e", "missing-1"}
	table := tables[r.IntN(len(tables))]
	switch r.IntN(6) {
	case 0:
		delete(w.tables, table)
	case 1:
		w.content[clusters[r.IntN(5)]] = r.IntN(3)
	case 2:
		w.weight = r.IntN(100)
	case 3:
		w.keys[table] = [...]string{"", "x", "y"}[r.IntN(3)]
	default:
		r.Shuffle(len(clusters), func(i, j int) { clusters[i], clusters[j] = clusters[j], clusters[i] })
		w.tables[table] = clusters[:1+r.IntN(3)]
		// The shape of a route is in the name of its keys, see xds.
		if w.keys[table] != "" {
			w.keys[table] = strings.Join(w.tables[table], "")
		}
	}
}

// listenerFor is a listener that serves one route table.
func listenerFor(table string) proto.Message {
	switch table[0] {
	case 'd':
		return datagramListener("on-"+table, "mix-"+table)
	case 'f':
		return &listenerv3.Listener{Name: "on-" + table, FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{Name: table, ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{}}}},
		}}}
	}
	manager := &anypb.Any{}
	if err := anypb.MarshalFrom(manager, &hcmv3.HttpConnectionManager{
		StatPrefix: table,
	}, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return &listenerv3.Listener{Name: "on-" + table, FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}}},
	}}}
}
