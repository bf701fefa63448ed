// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"reflect"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// place is a virtual host and what it is made from, beside the contents of its routes.
type place struct {
	port     port
	listener *graph.Listener
	host     string
	byHost   map[string][]ranked
	part     listenerPart
}

// place remembers that the routes of some parts are in a virtual host.
func (m *memory) place(at place, parts []routePart) {
	if m.places == nil {
		m.places = map[graph.RouteKey][]place{}
	}
	for i, part := range parts {
		if i > 0 && parts[i-1].kind == part.kind && parts[i-1].key == part.key {
			continue
		}
		key := graph.RouteKey{Kind: part.kind, NamespacedName: part.key}
		m.places[key] = append(m.places[key], at)
	}
}

// Delta is how the Snapshot of a Gateway differs from the one before. A message that is nil is
// one that is there no more.
type Delta struct {
	Gateway                    types.NamespacedName
	Routes, Clusters, Runtimes map[string]proto.Message
	// ClusterKeys are the upstreams that are new, Gone those of which the endpoints are needed no more.
	ClusterKeys map[string]graph.ClusterKey
	Gone        []string
}

// Empty tells whether nothing differs.
func (d Delta) Empty() bool {
	return len(d.Routes)+len(d.Clusters)+len(d.Runtimes)+len(d.ClusterKeys)+len(d.Gone) == 0
}

// Apply gives the Snapshot after the one that the Delta is meant for.
func (d Delta) Apply(before Snapshot) Snapshot {
	before.Routes = applied(before.Routes, d.Routes)
	before.Clusters = applied(before.Clusters, d.Clusters)
	before.Runtimes = applied(before.Runtimes, d.Runtimes)
	if len(d.ClusterKeys)+len(d.Gone) > 0 {
		before.ClusterKeys = maps.Clone(before.ClusterKeys)
		maps.Copy(before.ClusterKeys, d.ClusterKeys)
		for _, name := range d.Gone {
			delete(before.ClusterKeys, name)
		}
	}
	return before
}

func applied(before, changes map[string]proto.Message) map[string]proto.Message {
	if len(changes) == 0 {
		return before
	}
	after := maps.Clone(before)
	for name, m := range changes {
		if m == nil {
			delete(after, name)
		} else {
			after[name] = m
		}
	}
	return after
}

// Update tells how the configuration of a Gateway differs after a graph.Builder has renewed its
// graph, by the routes that it named: only what carries those is made anew. It gives false, and
// remembers what it did, where Translate has to make the whole.
func (t *Translator) Update(gateway types.NamespacedName, changed []*graph.Route) (Delta, bool) {
	m := t.former[gateway]
	if m == nil || slices.ContainsFunc(changed, func(r *graph.Route) bool { return !m.simple(r) }) {
		return Delta{}, false
	}
	m.former = m // what is the same is found where it is
	defer func() { m.former = nil }()
	d := Delta{
		Gateway: gateway, Routes: map[string]proto.Message{}, Clusters: map[string]proto.Message{},
		Runtimes: map[string]proto.Message{}, ClusterKeys: map[string]graph.ClusterKey{},
	}
	layers := map[string]bool{}
	for _, route := range changed {
		key := graph.RouteKey{Kind: route.Kind, NamespacedName: route.Key}
		if _, here := m.upstreams[key]; !here {
			continue
		}
		m.renewClusters(&d, key, upstreams(route))
		for _, at := range m.places[key] {
			m.renewScope(&d, at)
		}
		layers[layerOf(route)] = true
	}
	for name := range layers {
		layer := runtimeLayer(name, m.layers[name], m.log)
		if !proto.Equal(m.runtimes[name], layer) { // else it stays the same message
			m.runtimes[name], d.Runtimes[name] = layer, layer
		}
	}
	return d, true
}

// simple tells whether a route's upstreams need nothing but a cluster each.
func (m *memory) simple(route *graph.Route) bool {
	plain := func(up upstream) bool { return up.tls == nil && up.key.Protocol != graph.UpstreamUDP }
	key := graph.RouteKey{Kind: route.Kind, NamespacedName: route.Key}
	for _, ups := range [][]upstream{m.upstreams[key], upstreams(route)} {
		if slices.ContainsFunc(ups, func(up upstream) bool { return !plain(up) }) {
			return false
		}
	}
	return route.Kind == graph.KindHTTPRoute || route.Kind == graph.KindGRPCRoute
}

// renewClusters adds the clusters that a route names now, and takes away those that
// nothing names any more.
func (m *memory) renewClusters(d *Delta, key graph.RouteKey, is []upstream) {
	was := m.upstreams[key]
	if reflect.DeepEqual(was, is) {
		return
	}
	m.upstreams[key] = is
	for _, up := range is {
		name := up.key.Name()
		if m.uses[name]++; m.uses[name] > 1 {
			continue
		}
		d.Clusters[name] = m.cluster(up, m.client)
		d.Gone = slices.DeleteFunc(d.Gone, func(gone string) bool { return gone == name })
		if up.host == "" {
			d.ClusterKeys[name] = up.key
		}
	}
	for _, up := range was {
		name := up.key.Name()
		if m.uses[name]--; m.uses[name] > 0 {
			continue
		}
		delete(m.uses, name)
		delete(m.clusters, name)
		delete(d.ClusterKeys, name)
		d.Clusters[name] = nil
		d.Gone = append(d.Gone, name)
	}
}

// renewScope makes the scope of a virtual host anew, if it differs.
func (m *memory) renewScope(d *Delta, at place) {
	tableName := at.port.name()
	vh := m.host(scopeName(tableName, at.host), at.part, partsFor(at.host, at.byHost), func() *routev3.VirtualHost {
		return virtualHost(at.port, at.listener, at.host, at.byHost, retryUnsent())
	})
	name := scopeName(tableName, at.host)
	if !exact(at.host) {
		name = scopeName(tableName, anyHost)
	}
	was := m.scopes[name]
	var renewed *routev3.ScopedRouteConfiguration
	if exact(at.host) {
		renewed = exactScope(tableName, vh, m)
	} else {
		hosts := slices.Clone(was.RouteConfiguration.VirtualHosts)
		hosts[slices.IndexFunc(hosts, func(h *routev3.VirtualHost) bool { return h.Name == vh.Name })] = vh
		renewed = anyScope(tableName, hosts, m)
	}
	if renewed != was {
		d.Routes[name] = renewed
	}
}
