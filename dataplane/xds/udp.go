// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Datagrams. Envoy's udp_proxy leads to one cluster and knows no weights, so a UDP port has
// one cluster of its own, in which each backend is a locality with the backend's weight. The
// listener and the cluster are the same whatever the routes are: a new weight, another backend or
// another route changes the endpoints alone, and open sessions stay where they are.

// maxDatagram is the longest datagram that is forwarded, in bytes: a jumbo frame's. Envoy
// drops longer ones; its own bound of 1,500 is less than DNS over UDP may send.
const maxDatagram = 9000

func udpName(port int32) string { return "udp-" + strconv.Itoa(int(port)) }

// udpCluster names the cluster of a Gateway's UDP port. Endpoints of all Gateways have one
// namespace, so the Gateway is part of it.
func udpCluster(gateway types.NamespacedName, port int32) string {
	return gateway.Namespace + "/" + gateway.Name + "/" + udpName(port)
}

func udpListener(gateway types.NamespacedName, p port) *listenerv3.Listener {
	l := listenerOn(p, udpName(p.number))
	l.PerConnectionBufferLimitBytes = nil
	l.GetAddress().GetSocketAddress().Protocol = corev3.SocketAddress_UDP
	l.UdpListenerConfig = &listenerv3.UdpListenerConfig{
		DownstreamSocketConfig: &corev3.UdpSocketConfig{MaxRxDatagramSize: wide(maxDatagram)},
	}
	l.ListenerFilters = []*listenerv3.ListenerFilter{{
		Name: "envoy.filters.udp_listener.udp_proxy",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&udpproxyv3.UdpProxyConfig{
			StatPrefix: udpName(p.number),
			AccessLog:  sessionLogs(p.listeners[0]),
			RouteSpecifier: &udpproxyv3.UdpProxyConfig_Matcher{Matcher: &matcherv3.Matcher{
				OnNoMatch: &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{
					Action: &xdscorev3.TypedExtensionConfig{
						Name:        "route",
						TypedConfig: toAny(&udpproxyv3.Route{Cluster: udpCluster(gateway, p.number)}),
					},
				}},
			}},
			UpstreamSocketConfig: &corev3.UdpSocketConfig{MaxRxDatagramSize: wide(maxDatagram)},
		})},
	}}
	return l
}

// datagramCluster chooses a backend for each new session by the localities' weights.
func datagramCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(seconds(endpointsTimeout))},
		ConnectTimeout:       seconds(5),
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			LocalityConfigSpecifier: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
				LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
			},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: number(maxUpstream),
		}}},
	}
}

// datagramRoute is the oldest UDPRoute of a port, which gets its datagrams; nil for none.
func datagramRoute(p port) *graph.Route {
	for _, a := range p.listeners[0].Attachments {
		if a.Route.Kind == graph.KindUDPRoute {
			return a.Route
		}
	}
	return nil
}

// lostZone marks a share of a Mix whose datagrams are lost, because its backend is not valid.
const lostZone = "lost"

// mix says which upstreams make up a cluster, each a locality with its weight and, as
// sub-zone, the upstream's name. See Mixed for what becomes of it.
func mix(name string, route *graph.Route) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if route == nil {
		return cla
	}
	for _, s := range connectionShares(route, false) {
		locality := &corev3.Locality{SubZone: s.cluster}
		if !s.valid {
			locality.Zone = lostZone
		}
		cla.Endpoints = append(cla.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality: locality, LoadBalancingWeight: number(uint32(s.weight)),
		})
	}
	return cla
}

// Upstreams are the names of the upstreams in one of a Snapshot's Mixes.
func Upstreams(mix *endpointv3.ClusterLoadAssignment) []string {
	var names []string
	for _, l := range mix.GetEndpoints() {
		if l.GetLocality().GetZone() != lostZone {
			names = append(names, l.GetLocality().GetSubZone())
		}
	}
	return names
}

// Mixed puts the endpoints of the upstreams into one of a Snapshot's Mixes. An upstream that
// has none keeps its share, and its datagrams are lost there: the others must not get
// more than their weights say. Endpoints that terminate are used only where no other is left.
func Mixed(mix *endpointv3.ClusterLoadAssignment, endpoints func(upstream string) *endpointv3.ClusterLoadAssignment) *endpointv3.ClusterLoadAssignment {
	out := proto.Clone(mix).(*endpointv3.ClusterLoadAssignment)
	for _, l := range out.Endpoints {
		if l.Locality.Zone != lostZone {
			l.LbEndpoints = best(endpoints(l.Locality.SubZone))
		}
		if len(l.LbEndpoints) == 0 {
			l.LbEndpoints = []*endpointv3.LbEndpoint{discard()}
		}
	}
	return out
}

func best(cla *endpointv3.ClusterLoadAssignment) []*endpointv3.LbEndpoint {
	var all []*endpointv3.LbEndpoint
	for _, l := range cla.GetEndpoints() {
		all = append(all, l.LbEndpoints...)
	}
	draining := func(e *endpointv3.LbEndpoint) bool { return e.HealthStatus == corev3.HealthStatus_DRAINING }
	if kept := slices.DeleteFunc(slices.Clone(all), draining); len(kept) > 0 {
		return kept
	}
	out := make([]*endpointv3.LbEndpoint, len(all))
	for i, e := range all {
		out[i] = proto.Clone(e).(*endpointv3.LbEndpoint)
		out[i].HealthStatus = corev3.HealthStatus_HEALTHY
	}
	return out
}

// discard is where datagrams are lost: the discard port of the proxy itself, where nobody listens.
func discard() *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Protocol: corev3.SocketAddress_UDP, Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 9},
		}}},
	}}}
}
