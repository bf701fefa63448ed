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
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/dataplane/graph"
)

// service leads each valid listener's port to the port that the proxies bind for it.
func service(gw *graph.Gateway) *corev1.Service {
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
	if len(gw.Addresses) > 0 {
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

// budget lets one proxy go at a time. It never blocks a node's drain, whatever
// the number of replicas.
func budget(gw *graph.Gateway) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta: typeMeta("policy/v1", "PodDisruptionBudget"), ObjectMeta: objectMeta(gw),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: selector(gw)},
		},
	}
}
