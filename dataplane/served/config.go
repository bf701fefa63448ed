// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package served reads what a proxy serves, from its admin interface, or what it
// should serve, from a Snapshot, and makes of both the same route table, so that they
// can be shown and compared:
//
//	/config_dump, /runtime ──ReadDump──▶ Config ──Rows──▶ []Row
//	xds.Snapshot ────────FromSnapshot──▶ Config ──Rows──▶ []Row ──Compare──▶ differences
package served

import (
	"maps"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/xds"
)

// Config is the configuration of one proxy.
type Config struct {
	// Listeners are sorted by name.
	Listeners []*listenerv3.Listener
	// Tables are the route tables: those of the route discovery service by their name, and
	// the scopes, one for each host, by the Envoy listener that they belong to.
	Tables    map[string][]*routev3.RouteConfiguration
	Clusters  map[string]*clusterv3.Cluster
	Endpoints map[string]*endpointv3.ClusterLoadAssignment
	// Runtime has the values of runtime keys: numbers, and objects for fractions.
	Runtime map[string]any
	// Notes are what the proxy says of updates that it has not taken.
	Notes []string
}

func empty() Config {
	return Config{
		Tables: map[string][]*routev3.RouteConfiguration{}, Clusters: map[string]*clusterv3.Cluster{},
		Endpoints: map[string]*endpointv3.ClusterLoadAssignment{}, Runtime: map[string]any{},
	}
}

// FromSnapshot is the configuration that a proxy with this Snapshot and these
// endpoints has.
func FromSnapshot(snap xds.Snapshot, endpoints map[string]*endpointv3.ClusterLoadAssignment) Config {
	c := empty()
	for _, name := range slices.Sorted(maps.Keys(snap.Listeners)) {
		c.Listeners = append(c.Listeners, snap.Listeners[name].(*listenerv3.Listener))
	}
	for _, name := range slices.Sorted(maps.Keys(snap.Routes)) {
		c.addTable(name, snap.Routes[name])
	}
	for name, m := range snap.Clusters {
		c.Clusters[name] = m.(*clusterv3.Cluster)
	}
	maps.Copy(c.Endpoints, endpoints)
	for _, m := range snap.Runtimes {
		for key, value := range m.(*runtimev3.Runtime).GetLayer().GetFields() {
			c.Runtime[key] = value.AsInterface()
		}
	}
	return c
}

func (c *Config) addTable(name string, m proto.Message) {
	switch table := m.(type) {
	case *routev3.RouteConfiguration:
		c.Tables[name] = append(c.Tables[name], table)
	case *routev3.ScopedRouteConfiguration:
		c.addScope(table)
	}
}

// Of gives the part of the configuration that is made of one route, named
// Kind/namespace/name: its entries in the route tables, the clusters they lead to,
// their endpoints and their runtime keys.
func (c *Config) Of(route string) Config {
	out := empty()
	prefix := route + "/"
	clusters := map[string]bool{}
	for name, tables := range c.Tables {
		for _, table := range tables {
			if part := partOf(table, prefix, clusters); part != nil {
				out.Tables[name] = append(out.Tables[name], part)
			}
		}
	}
	for name := range clusters {
		if cluster := c.Clusters[name]; cluster != nil {
			out.Clusters[name] = cluster
		}
		if endpoints := c.Endpoints[name]; endpoints != nil {
			out.Endpoints[name] = endpoints
		}
	}
	for key, value := range c.Runtime {
		if strings.HasPrefix(key, prefix) {
			out.Runtime[key] = value
		}
	}
	return out
}

// Empty tells whether nothing is configured.
func (c *Config) Empty() bool {
	return len(c.Listeners) == 0 && len(c.Tables) == 0 && len(c.Clusters) == 0
}

func partOf(table *routev3.RouteConfiguration, prefix string, clusters map[string]bool) *routev3.RouteConfiguration {
	var hosts []*routev3.VirtualHost
	for _, host := range table.VirtualHosts {
		var own []*routev3.Route
		for _, r := range host.Routes {
			if strings.HasPrefix(r.Name, prefix) {
				own = append(own, r)
				for _, name := range clustersOf(r) {
					clusters[name] = true
				}
			}
		}
		if len(own) > 0 {
			part := proto.Clone(host).(*routev3.VirtualHost)
			part.Routes = own
			hosts = append(hosts, part)
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	part := proto.Clone(table).(*routev3.RouteConfiguration)
	part.VirtualHosts = hosts
	return part
}

func clustersOf(r *routev3.Route) []string {
	action := r.GetRoute()
	names := []string{action.GetCluster()}
	for _, c := range action.GetWeightedClusters().GetClusters() {
		names = append(names, c.Name)
	}
	for _, m := range action.GetRequestMirrorPolicies() {
		names = append(names, m.Cluster)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
