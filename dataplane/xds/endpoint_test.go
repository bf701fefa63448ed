// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// slice is an EndpointSlice with one port.
func slice(family discoveryv1.AddressType, portName string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   endpoints,
	}
}

type conditions struct{ ready, serving, terminating *bool }

func endpoint(address string, c conditions) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: c.ready, Serving: c.serving, Terminating: c.terminating},
	}
}

func service(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{Spec: corev1.ServiceSpec{Ports: ports, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
}

func TestEndpoints(t *testing.T) {
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	yes, no := new(true), new(false)
	web := service(corev1.ServicePort{Name: "web", Port: 80})
	tests := []struct {
		name    string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    []string // address, and health where it is not healthy
	}{
		{name: "no Service", slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{}))}},
		{name: "a Service without the port", service: service(corev1.ServicePort{Name: "web", Port: 81}), slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{}))}},
		{name: "a port of another protocol", service: service(corev1.ServicePort{Name: "web", Port: 80, Protocol: corev1.ProtocolUDP}), slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{}))}},
		{name: "unset conditions mean ready", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{}))}, want: []string{"10.0.0.1:8080"}},
		{name: "sorted by address, over several slices", service: web, slices: []*discoveryv1.EndpointSlice{
			slice(v4, "web", 8080, endpoint("10.0.0.10", conditions{ready: yes}), endpoint("10.0.0.9", conditions{ready: yes})),
			slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: yes})),
		}, want: []string{"10.0.0.1:8080", "10.0.0.9:8080", "10.0.0.10:8080"}},
		{name: "not ready and not serving is left out", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: no, serving: no}))}},
		{name: "not ready is left out though it serves", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: no, serving: yes, terminating: no}))}},
		{name: "terminating but serving drains", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: no, serving: yes, terminating: yes}))}, want: []string{"10.0.0.1:8080 DRAINING"}},
		{name: "terminating and no longer serving is left out", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: no, serving: no, terminating: yes}))}},
		{name: "published though not ready: marked ready by Kubernetes", service: web, slices: []*discoveryv1.EndpointSlice{slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: yes, serving: no}))}, want: []string{"10.0.0.1:8080"}},
		{name: "the same endpoint in two slices counts once, at its best", service: web, slices: []*discoveryv1.EndpointSlice{
			slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: no, serving: yes, terminating: yes})),
			slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{ready: yes})),
		}, want: []string{"10.0.0.1:8080"}},
		{name: "the port is found by its name, whatever number each pod has", service: service(corev1.ServicePort{Name: "web", Port: 80}, corev1.ServicePort{Name: "admin", Port: 81}), slices: []*discoveryv1.EndpointSlice{
			slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{})), slice(v4, "web", 9090, endpoint("10.0.0.2", conditions{})), slice(v4, "admin", 7070, endpoint("10.0.0.1", conditions{})),
		}, want: []string{"10.0.0.1:8080", "10.0.0.2:9090"}},
		{name: "an unnamed port", service: service(corev1.ServicePort{Port: 80}), slices: []*discoveryv1.EndpointSlice{slice(v4, "", 8080, endpoint("10.0.0.1", conditions{}))}, want: []string{"10.0.0.1:8080"}},
		{name: "IPv6", service: web, slices: []*discoveryv1.EndpointSlice{slice(v6, "web", 8080, endpoint("fd00::1", conditions{}))}, want: []string{"fd00::1:8080"}},
		{name: "of two families the Service's first", service: web, slices: []*discoveryv1.EndpointSlice{
			slice(v6, "web", 8080, endpoint("fd00::1", conditions{})), slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{})),
		}, want: []string{"10.0.0.1:8080"}},
		{name: "names are left out: Envoy would refuse all endpoints with them", service: web, slices: []*discoveryv1.EndpointSlice{
			slice(discoveryv1.AddressTypeFQDN, "web", 8080, endpoint("pod.example", conditions{})), slice(v4, "web", 8080, endpoint("10.0.0.1", conditions{})),
		}, want: []string{"10.0.0.1:8080"}},
		{name: "a slice without port numbers", service: web, slices: []*discoveryv1.EndpointSlice{{
			AddressType: v4, Ports: []discoveryv1.EndpointPort{{Name: new("web")}}, Endpoints: []discoveryv1.Endpoint{endpoint("10.0.0.1", conditions{})},
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cla := xds.Endpoints(graphtest.Key("web"), tt.service, tt.slices)
			validateAll(t, "endpoints", cla)
			if cla.ClusterName != "shop/web/80" {
				t.Errorf("it names the cluster %s", cla.ClusterName)
			}
			var got []string
			for _, locality := range cla.Endpoints {
				for _, e := range locality.LbEndpoints {
					at := e.GetEndpoint().Address.GetSocketAddress()
					text := fmt.Sprintf("%s:%d", at.Address, at.GetPortValue())
					if e.HealthStatus.String() != "HEALTHY" {
						text += " " + e.HealthStatus.String()
					}
					got = append(got, text)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
