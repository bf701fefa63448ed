// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package goldens

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
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
			*n = gwv1.Kind(pick(c, "Gateway", "Service", "Secret", "HTTPRoute", "GRPCRoute", c.String(5)))
		},
		func(n *gwv1.Group, c randfill.Continue) { *n = gwv1.Group(pick(c, "", gwv1.GroupName, c.String(5))) },
		func(n *gwv1.Hostname, c randfill.Continue) {
			*n = gwv1.Hostname(pick(c, "", "a.com", "*.a.com", "*.com", "*", "B.A.com", c.String(9)))
		},
		func(n *gwv1.ProtocolType, c randfill.Continue) {
			*n = gwv1.ProtocolType(pick(c, "HTTP", "HTTPS", "TCP", c.String(3)))
		},
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
			svc, secret := &corev1.Service{}, &corev1.Secret{}
			f.Fill(&gw.Spec)
			f.Fill(&hr.Spec)
			f.Fill(&gr.Spec)
			f.Fill(&rg.Spec)
			f.Fill(&svc.Spec)
			f.Fill(&secret.Data)
			gw.Spec.GatewayClassName = "a"
			for i := range gw.Spec.Listeners { // the API keeps names apart
				gw.Spec.Listeners[i].Name = gwv1.SectionName(rune('a' + i))
			}
			for _, o := range []client.Object{gw, hr, gr, rg, svc, secret} {
				o.SetNamespace(ns)
				o.SetName(name)
			}
			r.Gateways[key], r.HTTPRoutes[key], r.GRPCRoutes[key], r.ReferenceGrants[key] = gw, hr, gr, rg
			r.Services[key], r.Secrets[key] = svc, secret
		}
	}
	return r
}

func pick(c randfill.Continue, values ...string) string { return values[c.Intn(len(values))] }
