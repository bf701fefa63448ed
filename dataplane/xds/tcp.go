// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
)

// Connections, with TLS or without. A filter chain names its tcp_proxy filter and does
// not contain it: the filter is a resource of its own, as a route table is for HTTP.
//
//	Listener ─ FilterChain (server name, certificates) ─ name ─▶ filter: clusters and weights
//
// So a new weight or another route changes the filter alone. New connections follow it, and
// open ones stay: a changed filter chain would end all of its connections.

// nowhere is a cluster that never exists: its connections are closed at once.
const nowhere = bootstrap.Nowhere

func tcpName(port int32) string { return "tcp-" + strconv.Itoa(int(port)) }

// tcpListener serves a port whose connections nothing tells apart.
func tcpListener(p port) *listenerv3.Listener {
	l := listenerOn(p, tcpName(p.number))
	l.FilterChains = []*listenerv3.FilterChain{{
		Name:    tcpName(p.number),
		Filters: []*listenerv3.Filter{namedFilter(tcpName(p.number))},
	}}
	return l
}

// tcpFilter serves the oldest route of a TCP port.
func tcpFilter(p port) proto.Message {
	for _, a := range p.listeners[0].Attachments {
		if a.Route.Kind == graph.KindTCPRoute {
			return connectionFilter(tcpName(p.number), p.listeners[0], a.Route, false)
		}
	}
	return connectionFilter(tcpName(p.number), p.listeners[0], nil, false)
}

// namedFilter is a filter that comes as a resource of that name.
func namedFilter(name string) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: name,
		ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
			ConfigSource: adsSource(nil),
			TypeUrls:     []string{toAny(&tcpproxyv3.TcpProxy{}).TypeUrl},
		}},
	}
}

// connectionFilter brings connections of a listener to the backends of a route, with their TLS
// passed through or without; without a route it closes them.
func connectionFilter(name string, l *graph.Listener, route *graph.Route, through bool) *corev3.TypedExtensionConfig {
	filter := &tcpproxyv3.TcpProxy{
		StatPrefix: "none", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: nowhere},
		AccessLog: connectionLogs(l, route),
	}
	if route != nil {
		filter.StatPrefix = routeName(route)
		toShares(filter, connectionShares(route, through))
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(filter)}
}

// connectionShares are the shares of a route that get anything. One that is not valid
// names a cluster that does not exist, so that its connections are closed.
func connectionShares(route *graph.Route, through bool) []share {
	var shares []share
	for _, rule := range route.Rules {
		if rule.Valid && through {
			rule = passedThrough(rule)
		}
		if rule.Valid {
			shares = append(shares, sharesOf(rule)...)
		}
	}
	return slices.DeleteFunc(shares, func(s share) bool { return s.weight == 0 })
}

// passedThrough is a rule as it is for connections whose TLS is not ended.
func passedThrough(rule *graph.Rule) *graph.Rule {
	out := *rule
	out.Backends = slices.Clone(rule.Backends)
	for i, b := range out.Backends {
		if b.Through != nil {
			out.Backends[i] = &graph.Backend{Weight: b.Weight, Cluster: *b.Through, Valid: true}
		}
	}
	return &out
}

func toShares(filter *tcpproxyv3.TcpProxy, shares []share) {
	switch len(shares) {
	case 0:
		return
	case 1:
		filter.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: shares[0].cluster}
		return
	}
	weighted := &tcpproxyv3.TcpProxy_WeightedCluster{}
	for _, s := range shares {
		weighted.Clusters = append(weighted.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{
			Name: s.cluster, Weight: uint32(s.weight),
		})
	}
	filter.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: weighted}
}
