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
		b.Problems = append(b.Problems, mirrorOfOneBackend(field))
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

// resolve finds what a backendRef names, or the first reason why it cannot be used.
func (b *Backend) resolve(field string, kind RouteKind, namespace string, ref gwv1.BackendObjectReference, refs references) *Problem {
	p := b.find(field, kind, namespace, ref, refs)
	b.Budget = refs.budgets.of(b.Cluster)
	return p
}

func (b *Backend) find(field string, kind RouteKind, namespace string, ref gwv1.BackendObjectReference, refs references) *Problem {
	if key, ok := XBackendKey(namespace, ref); ok {
		return b.resolveXBackend(field, kind, namespace, key, ref, refs)
	}
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
		return b.resolveExternalName(field, kind, key, service, ref, refs)
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
		return b.speak(field, kind, key, port, refs)
	}
	p := backendPortNotFound(field, key, transport, *ref.Port)
	return &p
}

// speak decides on the protocol, and on TLS: a BackendTLSPolicy asks for it.
func (b *Backend) speak(field string, kind RouteKind, service types.NamespacedName, port corev1.ServicePort, refs references) *Problem {
	protocol, secure, ok := upstreamProtocol(kind, deref(port.AppProtocol, ""))
	policy := refs.policies.of(service, port.Name)
	if kind == KindUDPRoute {
		policy = nil // there is no TLS of datagrams
	}
	b.setProtocol(protocol, policy != nil)
	switch {
	case !ok:
		p := backendProtocolUnsupported(field, service, *port.AppProtocol, kind)
		return &p
	case policy == nil && secure: // plain requests to a TLS port would all fail
		p := backendWithoutTLS(field, service, *port.AppProtocol)
		return &p
	case policy != nil && policy.tls == nil:
		p := backendTLSInvalid(field, policy.Key, kind)
		return &p
	case policy != nil:
		b.TLS = policy.tls
	}
	return nil
}

// upstreamProtocol reads an appProtocol: the names of KEP-3726, and the plain
// names that Services have carried since before it. Secure ones need TLS.
func upstreamProtocol(kind RouteKind, appProtocol string) (protocol UpstreamProtocol, secure, ok bool) {
	switch kind {
	case KindTLSRoute, KindTCPRoute:
		return UpstreamTCP, false, true
	case KindUDPRoute:
		return UpstreamUDP, false, true
	}
	ok = true
	switch strings.ToLower(appProtocol) {
	case "", "http", "tcp", "http1", "http/1.1":
	case "kubernetes.io/h2c", "h2c", "http2", "grpc":
		protocol = UpstreamH2C
	case "kubernetes.io/ws", "ws":
		protocol, ok = UpstreamWebSocket, kind == KindHTTPRoute
	case "https":
		secure = true
	case "kubernetes.io/wss", "wss":
		protocol, secure, ok = UpstreamWebSocket, true, kind == KindHTTPRoute
	default:
		ok = false
	}
	if kind == KindGRPCRoute {
		protocol = UpstreamH2C // gRPC has no other form
	}
	return protocol, secure, ok
}
