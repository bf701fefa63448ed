// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"cmp"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// Endpoints gives the endpoints of one upstream. A nil Service, or one that does
// not have the port, has none: the proxies then answer 503 for it.
//
// An endpoint that is ready is used. One that terminates but still serves is
// DRAINING: used only when no other is left, as kube-proxy does. Every other is
// left out. A Service that publishes not-ready addresses needs no case of its own:
// its endpoints are marked ready. Of a Service with two address families the first
// is used, so that no pod counts twice.
func Endpoints(key graph.ClusterKey, svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
	transport := transportOf(key)
	portName, ok := servicePortName(svc, transport, key.Port)
	if !ok {
		return cla
	}
	family := addressFamily(svc, endpointSlices)
	found := map[netip.AddrPort]endpoint{}
	for _, slice := range endpointSlices {
		if slice.AddressType != family {
			continue
		}
		for _, port := range slice.Ports {
			if port.Port == nil || deref(port.Name, "") != portName || deref(port.Protocol, corev1.ProtocolTCP) != transport {
				continue
			}
			for i := range slice.Endpoints {
				addEndpoint(found, &slice.Endpoints[i], uint16(*port.Port))
			}
		}
	}
	if len(found) > 0 {
		cla.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: sortedEndpoints(found, transport)}}
	}
	return cla
}

func transportOf(key graph.ClusterKey) corev1.Protocol {
	if key.Protocol == graph.UpstreamUDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

func servicePortName(svc *corev1.Service, transport corev1.Protocol, number int32) (string, bool) {
	if svc == nil {
		return "", false
	}
	for _, p := range svc.Spec.Ports {
		if p.Port == number && cmp.Or(p.Protocol, corev1.ProtocolTCP) == transport {
			return p.Name, true
		}
	}
	return "", false
}

// addressFamily is the Service's first family that has slices.
func addressFamily(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) discoveryv1.AddressType {
	families := append(slices.Clone(svc.Spec.IPFamilies), corev1.IPv4Protocol, corev1.IPv6Protocol)
	for _, family := range families {
		for _, slice := range endpointSlices {
			if string(slice.AddressType) == string(family) && len(slice.Endpoints) > 0 {
				return slice.AddressType
			}
		}
	}
	return discoveryv1.AddressTypeIPv4
}

// endpoint is what is known about an address: its health, and which pod it is, or nil.
type endpoint struct {
	health corev3.HealthStatus
	pod    *corev3.Metadata
}

// addEndpoint puts an endpoint into found. Slices may repeat an endpoint while
// Kubernetes moves it between them; the better health wins.
func addEndpoint(found map[netip.AddrPort]endpoint, e *discoveryv1.Endpoint, port uint16) {
	ready := deref(e.Conditions.Ready, true)
	serving := deref(e.Conditions.Serving, ready)
	terminating := deref(e.Conditions.Terminating, false)
	var health corev3.HealthStatus
	switch {
	case ready && !terminating:
		health = corev3.HealthStatus_HEALTHY
	case terminating && (serving || ready):
		health = corev3.HealthStatus_DRAINING
	default:
		return
	}
	for _, address := range e.Addresses {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			continue // Envoy refuses names here, and with them the whole assignment
		}
		at := netip.AddrPortFrom(ip, port)
		if was, ok := found[at]; !ok || was.health == corev3.HealthStatus_DRAINING {
			found[at] = endpoint{health: health, pod: podOf(e)}
		}
	}
}

func sortedEndpoints(found map[netip.AddrPort]endpoint, transport corev1.Protocol) []*endpointv3.LbEndpoint {
	out := make([]*endpointv3.LbEndpoint, 0, len(found))
	addresses := make([]netip.AddrPort, 0, len(found))
	for at := range found {
		addresses = append(addresses, at)
	}
	slices.SortFunc(addresses, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	protocol := corev3.SocketAddress_TCP
	if transport == corev1.ProtocolUDP {
		protocol = corev3.SocketAddress_UDP
	}
	for _, at := range addresses {
		out = append(out, &endpointv3.LbEndpoint{
			HealthStatus: found[at].health,
			Metadata:     found[at].pod,
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Protocol:      protocol,
					Address:       at.Addr().String(),
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())},
				}}},
			}},
		})
	}
	return out
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
