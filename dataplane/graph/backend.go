// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// BackendKey is the Service that a backendRef of a route in the namespace names,
// and whether it names a Service at all.
func BackendKey(namespace string, ref gwv1.BackendObjectReference) (types.NamespacedName, bool) {
	key := types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}
	return key, deref(ref.Group, "") == "" && deref(ref.Kind, "Service") == "Service"
}

func buildBackend(field string, kind RouteKind, namespace string, src gwv1.BackendRef, filters []gwv1.HTTPRouteFilter, refs references) *Backend {
	b := &Backend{Weight: deref(src.Weight, 1)}
	if b.Weight < 0 {
		b.Problems = append(b.Problems, valueUnsupported(field+".weight", "%d is below 0", b.Weight))
		b.Weight = 0
	}
	var problems []Problem
	b.Filters, problems = readFilters(field, filters)
	b.Problems = append(b.Problems, problems...)
	b.Filters.Auth, problems = readExternalAuth(field, namespace, filters, refs)
	b.Problems = append(b.Problems, problems...)
	if slices.ContainsFunc(filters, func(f gwv1.HTTPRouteFilter) bool { return f.Type == gwv1.HTTPRouteFilterRequestMirror }) {
		b.Problems = append(b.Problems, filterUnsupported(field, "RequestMirror of a single backend"))
	}
	if b.Filters.Redirect != nil {
		b.Filters.Redirect = nil
		b.Problems = append(b.Problems, filterUnsupported(field, "RequestRedirect of a single backend"))
	}
	if b.Filters.CORS != nil {
		b.Filters.CORS = nil
		b.Problems = append(b.Problems, filterUnfit(field, "CORS"))
	}
	if p := b.resolve(field, kind, namespace, src.BackendObjectReference, refs); p != nil {
		b.Problems = append(b.Problems, *p)
	}
	b.Valid = len(b.Problems) == 0
	return b
}

// resolve finds the Service, or the first reason why it cannot be used.
func (b *Backend) resolve(field string, kind RouteKind, namespace string, ref gwv1.BackendObjectReference, refs references) *Problem {
	key, isService := BackendKey(namespace, ref)
	if !isService {
		p := backendKindInvalid(field, string(deref(ref.Group, "")), string(deref(ref.Kind, "Service")))
		return &p
	}
	b.Cluster = ClusterKey{Namespace: key.Namespace, Service: key.Name, Port: deref(ref.Port, 0)}
	if !refs.permitted(string(kind), namespace, "Service", key) {
		p := backendNotPermitted(field, kind, namespace, key)
		return &p
	}
	service := refs.services[key]
	switch {
	case service == nil:
		p := backendNotFound(field, key)
		return &p
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		p := backendExternalName(field, key)
		return &p
	case ref.Port == nil:
		p := backendPortMissing(field)
		return &p
	}
	transport := corev1.ProtocolTCP
	if kind == KindUDPRoute {
		transport = corev1.ProtocolUDP
	}
	for _, port := range service.Spec.Ports {
		if port.Port != *ref.Port || cmp.Or(port.Protocol, corev1.ProtocolTCP) != transport {
			continue
		}
		protocol, ok := upstreamProtocol(kind, deref(port.AppProtocol, ""))
		if !ok {
			p := backendProtocolUnsupported(field, key, *port.AppProtocol, kind)
			return &p
		}
		b.Cluster.Protocol = protocol
		return nil
	}
	p := backendPortNotFound(field, key, transport, *ref.Port)
	return &p
}

// upstreamProtocol reads an appProtocol: the names of KEP-3726, and the plain
// names that Services have carried since before it.
func upstreamProtocol(kind RouteKind, appProtocol string) (UpstreamProtocol, bool) {
	switch kind {
	case KindTLSRoute, KindTCPRoute:
		return UpstreamTCP, true
	case KindUDPRoute:
		return UpstreamUDP, true
	}
	protocol, ok := UpstreamHTTP, true
	switch strings.ToLower(appProtocol) {
	case "", "http", "tcp", "http1", "http/1.1":
	case "kubernetes.io/h2c", "h2c", "http2", "grpc":
		protocol = UpstreamH2C
	case "kubernetes.io/ws", "ws":
		protocol, ok = UpstreamWebSocket, kind == KindHTTPRoute
	default: // https and kubernetes.io/wss too: plain requests to a TLS port all fail
		ok = false
	}
	if kind == KindGRPCRoute {
		protocol = UpstreamH2C // gRPC has no other form
	}
	return protocol, ok
}
