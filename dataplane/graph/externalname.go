// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// resolveExternalName finds what a Service of type ExternalName stands for, or the reason why
// it is not served. Its name is found by DNS as that of an XBackend is, and is held to
// the same: it leads out of the cluster.
func (b *Backend) resolveExternalName(field string, kind RouteKind, key types.NamespacedName, service *corev1.Service, ref gwv1.BackendObjectReference, refs references) *Problem {
	var p Problem
	port, known := externalPort(service, deref(ref.Port, 0))
	host, why := externalHost(service.Spec.ExternalName, port.Port)
	switch {
	case !refs.externalNames:
		p = backendExternalName(field, key)
	case kind == KindUDPRoute:
		p = backendExternalNameOfDatagrams(field, key)
	case ref.Port == nil:
		p = backendPortMissing(field)
	case !known:
		p = backendPortNotFound(field, key, corev1.ProtocolTCP, *ref.Port)
	case why != "":
		p = backendExternalNameRefused(field, key, why)
	default:
		if p := b.speak(field, kind, key, port, refs); p != nil {
			return p
		}
		b.Host = host
		return nil
	}
	return &p
}

// externalPort is a port of a Service of type ExternalName. Such a Service need not list
// its ports; one that does has those only. DNS knows no ports: a targetPort has no effect.
func externalPort(service *corev1.Service, number int32) (corev1.ServicePort, bool) {
	for _, port := range service.Spec.Ports {
		if port.Port == number && cmp.Or(port.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP {
			return port, true
		}
	}
	return corev1.ServicePort{Port: number}, len(service.Spec.Ports) == 0
}
