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
// graph, by the changes that it told of: only what carries those routes is made anew. It gives false, and
// remembers what it did, where Translate has to make the whole.
func (t *Translator) Update(gateway types.NamespacedName, changes []graph.Change) (Delta, bool) {
	m := t.former[gateway]
	if m == nil || slices.ContainsFunc(changes, func(c graph.Change) bool { return !m.simple(c) }) {
		return Delta{}, false
	}
	m.former = m // what is the same is found where it is
	defer func() { m.former = nil }()
	d := Delta{
		Gateway: gateway, Routes: map[string]proto.Message{}, Clusters: map[string]proto.Message{},
		Runtimes: map[string]proto.Message{}, ClusterKeys: map[string]graph.ClusterKey{},
	}
	hosts, layers := map[*hostTable]map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		m.file(c, hosts)
		key, is := c.Key(), m.serving(c.Is)
		if _, was := m.upstreams[key]; !was && is == nil {
			continue
		}
		m.renewClusters(&d, key, is)
		layers[m.renewLayer(c, is != nil)] = true
	}
	m.renewScopes(&d, hosts)
	for name := range layers {
		layer := runtimeLayer(name, m.layers[name], m.log)
		if !proto.Equal(m.runtimes[name], layer) { // else it stays the same message
			m.runtimes[name], d.Runtimes[name] = layer, layer
		}
	}
	m.renewFlush(&d)
	return d, true
}

// file moves a route to its present places in the tables, and collects the hosts that are concerned.
func (m *memory) file(c graph.Change, hosts map[*hostTable]map[string]bool) {
	concerned := func(t *hostTable, a *graph.Attachment) {
		if hosts[t] == nil {
			hosts[t] = map[string]bool{}
		}
		t.concerned(a, hosts[t])
	}
	if c.Moved() {
		for _, a := range c.Was.Attachments() {
			if t := m.tables[a.Listener]; t != nil {
				concerned(t, a) // as long as it is there
				t.remove(a)
			}
		}
	}
	for _, a := range c.Is.Attachments() {
		if t := m.tables[a.Listener]; t != nil {
			if c.Moved() {
				t.insert(a)
			}
			concerned(t, a)
		}
	}
}

// serving gives the route if a listener of the Gateway serves it, else nil.
func (m *memory) serving(route *graph.Route) *graph.Route {
	if slices.ContainsFunc(route.Attachments(), func(a *graph.Attachment) bool { return m.tables[a.Listener] != nil }) {
		return route
	}
	return nil
}

// renewLayer puts a route into the layer of its weights, or takes it out, and names the layer.
func (m *memory) renewLayer(c graph.Change, serving bool) string {
	if c.Was == nil {
		name := layerOf(c.Is)
		m.layers[name] = append(m.layers[name], c.Is)
		return name
	}
	name := layerOf(c.Was)
	if !c.Moved() {
		return name
	}
	m.layers[name] = slices.DeleteFunc(m.layers[name], func(route *graph.Route) bool { return route == c.Was })
	if serving {
		m.layers[name] = append(m.layers[name], c.Is)
	}
	return name
}

// simple tells whether the upstreams that a route comes to, or leaves, need nothing but a cluster each.
func (m *memory) simple(c graph.Change) bool {
	was, is := m.upstreams[c.Key()], []upstream(nil)
	if m.serving(c.Is) != nil {
		is = upstreams(c.Is)
	}
	plain := func(up upstream) bool { return up.tls == nil && up.key.Protocol != graph.UpstreamUDP }
	return reflect.DeepEqual(was, is) || !slices.ContainsFunc(slices.Concat(was, is), func(up upstream) bool { return !plain(up) })
}

// renewClusters adds the clusters that a route names now, and takes away those that
// nothing names any more. A route that is nil is served no more.
func (m *memory) renewClusters(d *Delta, key graph.RouteKey, route *graph.Route) {
	was, is := m.upstreams[key], []upstream(nil)
	delete(m.upstreams, key)
	if route != nil {
		is = upstreams(route)
		m.upstreams[key] = is
	}
	if reflect.DeepEqual(was, is) {
		return
	}
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

// renewScopes makes the scopes of virtual hosts anew that differ, and takes away those of which
// the last route has gone.
func (m *memory) renewScopes(d *Delta, hosts map[*hostTable]map[string]bool) {
	rests := map[string]map[string]*routev3.VirtualHost{} // by port: those of wildcards that may differ
	for t, of := range hosts {
		table := t.port.name()
		for host := range of {
			var vh *routev3.VirtualHost
			switch {
			case t.serves(host):
				vh = t.virtualHost(host, m)
			case !t.owns(host):
				continue // another listener's, which tells itself
			default:
				delete(m.hosts, scopeName(table, host))
			}
			if exact(host) {
				m.renewScope(d, scopeName(table, host), func() *routev3.ScopedRouteConfiguration {
					if vh == nil {
						return nil
					}
					return exactScope(table, vh, m)
				})
				continue
			}
			if rests[table] == nil {
				rests[table] = map[string]*routev3.VirtualHost{}
			}
			rests[table][host] = vh
		}
	}
	for table, changed := range rests {
		name := scopeName(table, anyHost)
		m.renewScope(d, name, func() *routev3.ScopedRouteConfiguration {
			return anyScope(table, replaced(m.scopes[name].RouteConfiguration.VirtualHosts, changed), m)
		})
	}
}

// renewScope makes one scope anew. A scope that is nil is one that goes.
func (m *memory) renewScope(d *Delta, name string, anew func() *routev3.ScopedRouteConfiguration) {
	was := m.scopes[name]
	switch is := anew(); {
	case is == was:
	case is == nil:
		delete(m.scopes, name)
		d.Routes[name] = nil
	default:
		d.Routes[name] = is
	}
}

// replaced gives virtual hosts with some put in place, or taken out where nil.
func replaced(hosts []*routev3.VirtualHost, changed map[string]*routev3.VirtualHost) []*routev3.VirtualHost {
	out := slices.DeleteFunc(slices.Clone(hosts), func(vh *routev3.VirtualHost) bool {
		_, ok := changed[vh.Name]
		return ok
	})
	for _, vh := range changed {
		if vh != nil {
			out = append(out, vh)
		}
	}
	sortHosts(out)
	return out
}
