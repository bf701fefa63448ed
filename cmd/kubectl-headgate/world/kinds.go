// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	kjson "sigs.k8s.io/json"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// Kinds is every kind that shapes a proxy's configuration. A new kind of
// graph.Resources is one more line here.
func Kinds() []Kind {
	const gateway, experimental = gwv1.GroupName, gwxv1alpha1.GroupName
	return []Kind{
		clusterWide(gateway, "GatewayClass", "gatewayclasses", func(r *graph.Resources) map[string]*gwv1.GatewayClass { return r.GatewayClasses }, "v1", "v1beta1"),
		namespaced(gateway, "Gateway", "gateways", func(r *graph.Resources) objects[gwv1.Gateway] { return r.Gateways }, "v1", "v1beta1"),
		namespaced(gateway, "HTTPRoute", "httproutes", func(r *graph.Resources) objects[gwv1.HTTPRoute] { return r.HTTPRoutes }, "v1", "v1beta1"),
		namespaced(gateway, "GRPCRoute", "grpcroutes", func(r *graph.Resources) objects[gwv1.GRPCRoute] { return r.GRPCRoutes }, "v1"),
		namespaced(gateway, "TLSRoute", "tlsroutes", func(r *graph.Resources) objects[gwv1.TLSRoute] { return r.TLSRoutes }, "v1"),
		namespaced(gateway, "TCPRoute", "tcproutes", func(r *graph.Resources) objects[gwv1.TCPRoute] { return r.TCPRoutes }, "v1"),
		namespaced(gateway, "UDPRoute", "udproutes", func(r *graph.Resources) objects[gwv1.UDPRoute] { return r.UDPRoutes }, "v1"),
		namespaced(gateway, "ListenerSet", "listenersets", func(r *graph.Resources) objects[gwv1.ListenerSet] { return r.ListenerSets }, "v1"),
		namespaced(gateway, "ReferenceGrant", "referencegrants", func(r *graph.Resources) objects[gwv1beta1.ReferenceGrant] { return r.ReferenceGrants }, "v1beta1", "v1"),
		namespaced(gateway, "BackendTLSPolicy", "backendtlspolicies", func(r *graph.Resources) objects[gwv1.BackendTLSPolicy] { return r.BackendTLSPolicies }, "v1"),
		namespaced(experimental, "XBackend", "xbackends", func(r *graph.Resources) objects[gwxv1alpha1.XBackend] { return r.XBackends }, "v1alpha1"),
		namespaced(experimental, "XBackendTrafficPolicy", "xbackendtrafficpolicies", func(r *graph.Resources) objects[gwxv1alpha1.XBackendTrafficPolicy] { return r.XBackendTrafficPolicies }, "v1alpha1"),
		namespaced(v1beta1.GroupVersion.Group, "ProxyConfig", "proxyconfigs", func(r *graph.Resources) objects[v1beta1.ProxyConfig] { return r.ProxyConfigs }, v1beta1.GroupVersion.Version),
		clusterWide("", "Namespace", "namespaces", func(r *graph.Resources) map[string]*corev1.Namespace { return r.Namespaces }, "v1"),
		namespaced("", "Service", "services", func(r *graph.Resources) objects[corev1.Service] { return r.Services }, "v1"),
		byNeed(namespaced("", "Secret", "secrets", func(r *graph.Resources) objects[corev1.Secret] { return r.Secrets }, "v1")),
		byNeed(namespaced("", "ConfigMap", "configmaps", func(r *graph.Resources) objects[corev1.ConfigMap] { return r.ConfigMaps }, "v1")),
		byNeed(clusterWide(certificatesv1.GroupName, "ClusterTrustBundle", "clustertrustbundles", func(r *graph.Resources) map[string]*certificatesv1.ClusterTrustBundle { return r.ClusterTrustBundles }, "v1", "v1beta1")),
		endpointSlices(),
	}
}

type objects[T any] = map[types.NamespacedName]*T

// Kind is one kind of objects and where they go.
type Kind struct {
	Group, Name, Plural string
	// Versions are those whose objects can be read; the first is asked for.
	Versions   []string
	Namespaced bool
	// ByNeed says that only objects that others refer to are read from a cluster.
	ByNeed bool

	decode func(data []byte, strict bool) (object client.Object, faults []error, err error)
	put    func(*World, client.Object)
}

// pointer is *T, and an object.
type pointer[T any] interface {
	*T
	client.Object
}

func decoder[T any, P pointer[T]](data []byte, strict bool) (client.Object, []error, error) {
	object := P(new(T))
	if !strict {
		return object, nil, json.Unmarshal(data, object)
	}
	faults, err := kjson.UnmarshalStrict(data, object)
	return object, faults, err
}

func namespaced[T any, P pointer[T]](group, name, plural string, into func(*graph.Resources) objects[T], versions ...string) Kind {
	return Kind{
		Group: group, Name: name, Plural: plural, Versions: versions, Namespaced: true, decode: decoder[T, P],
		put: func(w *World, o client.Object) { into(&w.Resources)[client.ObjectKeyFromObject(o)] = (*T)(o.(P)) },
	}
}

func clusterWide[T any, P pointer[T]](group, name, plural string, into func(*graph.Resources) map[string]*T, versions ...string) Kind {
	return Kind{
		Group: group, Name: name, Plural: plural, Versions: versions, decode: decoder[T, P],
		put: func(w *World, o client.Object) { into(&w.Resources)[o.GetName()] = (*T)(o.(P)) },
	}
}

func byNeed(k Kind) Kind {
	k.ByNeed = true
	return k
}

// endpointSlices do not stand in the graph: endpoints have a path of their own.
func endpointSlices() Kind {
	return Kind{
		Group: discoveryv1.GroupName, Name: "EndpointSlice", Plural: "endpointslices", Versions: []string{"v1"}, Namespaced: true,
		decode: decoder[discoveryv1.EndpointSlice],
		put:    func(w *World, o client.Object) { w.slices = append(w.slices, o.(*discoveryv1.EndpointSlice)) },
	}
}

// IsRoute tells whether the kind is one of routes.
func (k Kind) IsRoute() bool {
	return k.Group == gwv1.GroupName && strings.HasSuffix(k.Name, "Route")
}
