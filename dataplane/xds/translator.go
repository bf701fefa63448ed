// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"reflect"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// Translator translates one graph of a graph.Builder after the other, and takes over the
// messages of what did not change, by pointer. Its Snapshots equal those of Translate; they
// must not be modified.
type Translator struct {
	former map[types.NamespacedName]*memory
}

// Translate is like the function of that name.
func (t *Translator) Translate(g *graph.Graph, gateway types.NamespacedName) Snapshot {
	m := &memory{}
	if former := t.former[gateway]; former != nil {
		m.former = former
	}
	snap := translate(g, gateway, m)
	if m.former = nil; t.former == nil {
		t.former = map[types.NamespacedName]*memory{}
	}
	t.former[gateway] = m
	return snap
}

// Forget drops what is remembered of a Gateway that is gone.
func (t *Translator) Forget(gateway types.NamespacedName) { delete(t.former, gateway) }

// memory is what was made for one Gateway, and the memory of the time before. The zero
// memory remembers nothing.
type memory struct {
	hosts    map[string]madeHost
	scopes   map[string]*routev3.ScopedRouteConfiguration
	clusters map[string]madeCluster
	former   *memory

	// What an Update needs: the served routes by the layer of their weights, those layers, the upstreams
	// of each route, how often each upstream is named, and what each listener serves.
	layers    map[string][]*graph.Route
	runtimes  map[string]*runtimev3.Runtime
	upstreams map[graph.RouteKey][]upstream
	uses      map[string]int
	tables    map[*graph.Listener]*hostTable
	client    *graph.Certificate
	log       *v1beta1.AccessLog
	// flush is flushCluster while a release runs on any of the routes, else nil.
	flush *clusterv3.Cluster
}

// madeHost is a virtual host and all that it was made from.
type madeHost struct {
	listener listenerPart
	routes   []routePart
	host     *routev3.VirtualHost
}

// listenerPart is what a virtual host has of its listener.
type listenerPart struct {
	id, hostname string
	port         int32
	protocol     gwv1.ProtocolType
	// others are the listeners of the port that a request may be meant for.
	others string
}

// routePart is what a virtual host has of a route. A Builder makes a new first rule
// whenever any rule of the route changes.
type routePart struct {
	kind    graph.RouteKind
	key     types.NamespacedName
	first   *graph.Rule
	running bool
	width   int
}

// host gives the virtual host of a name, made anew if anything in it changed.
func (m *memory) host(name string, l listenerPart, routes []routePart, build func() *routev3.VirtualHost) *routev3.VirtualHost {
	var made madeHost
	if m.former != nil {
		made = m.former.hosts[name]
	}
	if made.host == nil || made.listener != l || !slices.Equal(made.routes, routes) {
		made = madeHost{l, routes, build()}
	}
	if m.hosts == nil {
		m.hosts = map[string]madeHost{}
	}
	m.hosts[name] = made
	return made.host
}

func (m *memory) remember(t *hostTable) {
	if m.tables == nil {
		m.tables = map[*graph.Listener]*hostTable{}
	}
	m.tables[t.listener] = t
}

// scope gives the scope of some virtual hosts, made anew if any of them was.
func (m *memory) scope(name string, hosts []*routev3.VirtualHost, build func() *routev3.ScopedRouteConfiguration) *routev3.ScopedRouteConfiguration {
	var made *routev3.ScopedRouteConfiguration
	if m.former != nil {
		made = m.former.scopes[name]
	}
	if made == nil || !slices.Equal(made.RouteConfiguration.VirtualHosts, hosts) {
		made = build()
		made.RouteConfiguration.VirtualHosts = hosts
	}
	if m.scopes == nil {
		m.scopes = map[string]*routev3.ScopedRouteConfiguration{}
	}
	m.scopes[name] = made
	return made
}

// madeCluster is a cluster and all that it was made from.
type madeCluster struct {
	of      upstream
	client  *graph.Certificate
	cluster *clusterv3.Cluster
}

func (m *memory) cluster(up upstream, client *graph.Certificate) *clusterv3.Cluster {
	name := up.key.Name()
	var made madeCluster
	if m.former != nil {
		made = m.former.clusters[name]
	}
	if made.cluster == nil || !reflect.DeepEqual(made.of, up) || !reflect.DeepEqual(made.client, client) {
		made = madeCluster{up, client, cluster(up, client)}
	}
	if m.clusters == nil {
		m.clusters = map[string]madeCluster{}
	}
	m.clusters[name] = made
	return made.cluster
}

// partsFor lists the routes that may serve a host, as entriesFor takes them.
func partsFor(host string, byHost map[string][]*graph.Attachment) []routePart {
	var parts []routePart
	for width, wider := range widening(host) {
		for _, a := range byHost[wider] {
			part := routePart{kind: a.Route.Kind, key: a.Route.Key, running: a.Route.Running, width: width}
			if len(a.Route.Rules) > 0 {
				part.first = a.Route.Rules[0]
			}
			parts = append(parts, part)
		}
	}
	return parts
}
