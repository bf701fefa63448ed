// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package goldens

import (
	"maps"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/randfill"

	"headgate.dev/headgate/dataplane/graph"
)

// Arbitrary fills resources with anything the types can hold, and makes the
// objects refer to each other often enough to reach deep. Equal seeds give equal
// resources.
func Arbitrary(seed int64) graph.Resources {
	f := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 4).Funcs(
		func(n *gwv1.ObjectName, c randfill.Continue) { *n = gwv1.ObjectName(pick(c, "a", "b", "")) },
		func(n *gwv1.Namespace, c randfill.Continue) { *n = gwv1.Namespace(pick(c, "a", "b")) },
		func(n *gwv1.SectionName, c randfill.Continue) { *n = gwv1.SectionName(pick(c, "a", "b", "")) },
		func(n *gwv1.Kind, c randfill.Continue) {
			*n = gwv1.Kind(pick(c, "Gateway", "ListenerSet", "Service", "XBackend", "Secret", "ConfigMap", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", c.String(5)))
		},
		func(n *gwv1.Group, c randfill.Continue) {
			*n = gwv1.Group(pick(c, "", gwv1.GroupName, gwxv1alpha1.GroupName, c.String(5)))
		},
		func(n *gwv1.Hostname, c randfill.Continue) {
			*n = gwv1.Hostname(pick(c, "", "a.com", "*.a.com", "*.com", "*", "B.A.com", c.String(9)))
		},
		func(n *gwv1.ProtocolType, c randfill.Continue) {
			*n = gwv1.ProtocolType(pick(c, "HTTP", "HTTPS", "TLS", "TCP", "UDP", c.String(3)))
		},
		func(n *gwv1.FromNamespaces, c randfill.Continue) {
			*n = gwv1.FromNamespaces(pick(c, "All", "Same", "Selector", "None", c.String(3)))
		},
		func(n *gwv1.GatewayDefaultScope, c randfill.Continue) {
			*n = gwv1.GatewayDefaultScope(pick(c, "All", "None", ""))
		},
		func(n *corev1.Protocol, c randfill.Continue) { *n = corev1.Protocol(pick(c, "", "TCP", "UDP")) },
		func(n *gwv1.Duration, c randfill.Continue) {
			*n = gwv1.Duration(pick(c, "1s", "0s", "10h", c.String(4)))
		},
	)
	r := Empty()
	class := &gwv1.GatewayClass{}
	class.Name = "a"
	class.Spec.ControllerName = gwv1.GatewayController(r.ControllerName)
	r.GatewayClasses["a"] = class
	for _, ns := range []string{"a", "b"} {
		for _, name := range []string{"a", "b"} {
			key := types.NamespacedName{Namespace: ns, Name: name}
			gw, hr, gr, rg := &gwv1.Gateway{}, &gwv1.HTTPRoute{}, &gwv1.GRPCRoute{}, &gwv1beta1.ReferenceGrant{}
			svc, secret, set := &corev1.Service{}, &corev1.Secret{}, &gwv1.ListenerSet{}
			tls, tcp, udp := &gwv1.TLSRoute{}, &gwv1.TCPRoute{}, &gwv1.UDPRoute{}
			f.Fill(&tls.Spec)
			f.Fill(&tcp.Spec)
			f.Fill(&udp.Spec)
			configMap, policy := &corev1.ConfigMap{}, &gwv1.BackendTLSPolicy{}
			f.Fill(&gw.Spec)
			f.Fill(&hr.Spec)
			f.Fill(&gr.Spec)
			f.Fill(&rg.Spec)
			backend, traffic := &gwxv1alpha1.XBackend{}, &gwxv1alpha1.XBackendTrafficPolicy{}
			f.Fill(&backend.Spec)
			f.Fill(&traffic.Spec)
			f.Fill(&set.Spec)
			f.Fill(&svc.Spec)
			f.Fill(&secret.Data)
			f.Fill(&configMap.Data)
			f.Fill(&policy.Spec)
			gw.Spec.GatewayClassName = "a"
			for i := range gw.Spec.Listeners { // the API keeps names apart
				gw.Spec.Listeners[i].Name = gwv1.SectionName(rune('a' + i))
			}
			for i := range set.Spec.Listeners {
				set.Spec.Listeners[i].Name = gwv1.SectionName(rune('a' + i))
			}
			for _, o := range []client.Object{gw, hr, gr, tls, tcp, udp, rg, svc, secret, set, configMap, policy, backend, traffic} {
				o.SetNamespace(ns)
				o.SetName(name)
			}
			r.Gateways[key], r.HTTPRoutes[key], r.GRPCRoutes[key], r.ReferenceGrants[key] = gw, hr, gr, rg
			r.TLSRoutes[key], r.TCPRoutes[key], r.UDPRoutes[key] = tls, tcp, udp
			r.XBackends[key], r.XBackendTrafficPolicies[key] = backend, traffic
			r.Services[key], r.Secrets[key], r.ListenerSets[key] = svc, secret, set
			r.ConfigMaps[key], r.BackendTLSPolicies[key] = configMap, policy
		}
	}
	return r
}

func pick(c randfill.Continue, values ...string) string { return values[c.Intn(len(values))] }

// Shuffled puts the same objects into new maps, in another order.
func Shuffled(r graph.Resources) graph.Resources {
	var all []client.Object
	all = appendAll(all, r.GatewayClasses)
	all = appendAll(all, r.Gateways)
	all = appendAll(all, r.ListenerSets)
	all = appendAll(all, r.HTTPRoutes)
	all = appendAll(all, r.GRPCRoutes)
	all = appendAll(all, r.TLSRoutes)
	all = appendAll(all, r.TCPRoutes)
	all = appendAll(all, r.UDPRoutes)
	all = appendAll(all, r.ReferenceGrants)
	all = appendAll(all, r.Namespaces)
	all = appendAll(all, r.XBackends)
	all = appendAll(all, r.XBackendTrafficPolicies)
	all = appendAll(all, r.Services)
	all = appendAll(all, r.Secrets)
	all = appendAll(all, r.ConfigMaps)
	all = appendAll(all, r.BackendTLSPolicies)
	all = appendAll(all, r.ClusterTrustBundles)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	out := Empty()
	for _, o := range all {
		_ = Add(&out, o) // they are of kinds that Add knows
	}
	return out
}

func appendAll[K comparable, T client.Object](all []client.Object, m map[K]T) []client.Object {
	for o := range maps.Values(m) {
		all = append(all, o)
	}
	return all
}
