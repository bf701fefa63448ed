// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// service leads each valid listener's port to the port that the proxies bind for it.
func service(gw *graph.Gateway, p *v1beta1.ProxyService) *corev1.Service {
	protocols := map[servicePort]string{}
	for _, l := range gw.Listeners {
		if l.Valid {
			at := servicePort{l.Port, graph.Transport(l.Protocol)}
			// HTTPS and TLS may share a port; its name does not depend on their order.
			protocols[at] = min(cmp.Or(protocols[at], "~"), strings.ToLower(string(l.Protocol)))
		}
	}
	s := &corev1.Service{
		TypeMeta: typeMeta("v1", "Service"), ObjectMeta: objectMeta(gw),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: selector(gw)},
	}
	if gw.IPv6 { // a single family is what a Service gets otherwise
		s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	}
	if p != nil {
		s.Annotations = maps.Clone(s.Annotations)
		for k, v := range p.Annotations {
			metav1.SetMetaDataAnnotation(&s.ObjectMeta, k, v)
		}
		s.Spec.Type = cmp.Or(p.Type, s.Spec.Type)
		s.Spec.ExternalTrafficPolicy = p.ExternalTrafficPolicy
		s.Spec.LoadBalancerClass = p.LoadBalancerClass
		s.Spec.LoadBalancerSourceRanges = p.LoadBalancerSourceRanges
		s.Spec.AllocateLoadBalancerNodePorts = p.AllocateLoadBalancerNodePorts
	}
	if len(gw.Addresses) > 0 && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		// Deprecated but what load balancers of clusters understand; whether it was
		// heeded is checked against the Service's status.
		s.Spec.LoadBalancerIP = gw.Addresses[0]
	}
	for _, at := range slices.SortedFunc(maps.Keys(protocols), compareServicePorts) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("%s-%d", protocols[at], at.number), Protocol: at.transport,
			Port: at.number, TargetPort: intstr.FromInt32(graph.ProxyPort(at.number)),
		})
	}
	return s
}

// servicePort is what tells the ports of a Service apart: TCP and UDP may use one number.
type servicePort struct {
	number    int32
	transport corev1.Protocol
}

func compareServicePorts(a, b servicePort) int {
	return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.transport, b.transport))
}
