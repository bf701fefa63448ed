// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func packed(m proto.Message) *anypb.Any {
	out := &anypb.Any{}
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return out
}

func filterOver(name string, clusters []string) proto.Message {
	weighted := &tcpproxyv3.TcpProxy_WeightedCluster{}
	for _, c := range clusters {
		weighted.Clusters = append(weighted.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: c, Weight: 1})
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: packed(&tcpproxyv3.TcpProxy{
		ClusterSpecifier: &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: weighted},
	})}
}

func mixOf(name string, upstreams []string, weight uint32) proto.Message {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for _, upstream := range upstreams {
		cla.Endpoints = append(cla.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality: &corev3.Locality{SubZone: upstream}, LoadBalancingWeight: wrapperspb.UInt32(weight),
		})
	}
	return cla
}

func datagramListener(name, cluster string) proto.Message {
	return &listenerv3.Listener{Name: name, ListenerFilters: []*listenerv3.ListenerFilter{{
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed(&udpproxyv3.UdpProxyConfig{
			RouteSpecifier: &udpproxyv3.UdpProxyConfig_Matcher{Matcher: &matcherv3.Matcher{
				OnNoMatch: &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{
					Action: &xdscorev3.TypedExtensionConfig{TypedConfig: packed(&udpproxyv3.Route{Cluster: cluster})},
				}},
			}},
		})},
	}}}
}

func endpointsAt(name, address string) *resource {
	return newResource(kindEndpoints, name, &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: address}}},
		}}}},
	}}}, 0)
}

func TestEndpointsOfAMixFollowThoseOfItsUpstreams(t *testing.T) {
	m := newModel(t)
	m.unknown["a"], m.unknown["b"] = true, true
	p := &publisher{model: m}
	p.publish(simple(map[string][]string{"d1": {"a", "b"}, "d2": {"c"}}).messages())
	m.settle()
	if got, _ := m.session.acked(); got == p.target.version {
		t.Error("the mix counts as served while nobody knows its endpoints")
	}
	// Only once both are known is the mix sent, and then whenever one changes.
	arrive := func(name, address string) []string {
		m.log = nil
		m.store[name] = endpointsAt(name, address)
		m.session.endpointsChanged(name)
		m.settle()
		return m.log
	}
	arrive("a", "10.0.0.1")
	if log := arrive("b", "10.0.0.2"); len(log) == 0 {
		t.Error("the endpoints of the mix were not sent")
	}
	if got, _ := m.session.acked(); got != p.target.version {
		t.Errorf("acknowledged %d, want %d", got, p.target.version)
	}
	if log := arrive("a", "10.0.0.3"); len(log) != 1 {
		t.Errorf("a new endpoint of one upstream was %v, want one response", log)
	}
	cla := m.endpoints["mix-d1"].body
	got := &endpointv3.ClusterLoadAssignment{}
	if err := cla.UnmarshalTo(got); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"10.0.0.3", "10.0.0.2"} {
		if a := got.Endpoints[i].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress().Address; a != want {
			t.Errorf("locality %d has the endpoint %s, want %s", i, a, want)
		}
	}
	if log := arrive("x", "10.0.0.9"); len(log) != 0 {
		t.Errorf("endpoints of somebody else led to %v", log)
	}
}

func TestNewWeightsOfAMixWaitForTheirAcknowledgement(t *testing.T) {
	w := simple(map[string][]string{"d1": {"a", "b"}})
	m, p := started(t, w)
	w.weight = 7
	p.publish(w.messages())
	if got, _ := m.session.acked(); got == p.target.version {
		t.Error("the new weights count before they were sent")
	}
	m.settle()
	checkComplete(t, 0, m, p.target)
}
