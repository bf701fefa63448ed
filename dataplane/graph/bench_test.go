// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

// BenchmarkBuild builds one Gateway with routes of two rules each over a fifth as
// many Services.
func BenchmarkBuild(b *testing.B) {
	for _, routes := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			r, _, err := goldens.Parse([]byte(class + gateway(http)))
			if err != nil {
				b.Fatal(err)
			}
			port := gwv1.PortNumber(80)
			for i := range routes {
				service := fmt.Sprintf("s%d", i/5)
				key := types.NamespacedName{Namespace: "default", Name: service}
				r.Services[key] = &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
				ref := gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{Name: gwv1.ObjectName(service), Port: &port}}}
				rule := gwv1.HTTPRouteRule{
					Matches:     []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: new(fmt.Sprintf("/p%d", i))}}},
					BackendRefs: []gwv1.HTTPBackendRef{ref, ref},
				}
				route := &gwv1.HTTPRoute{Spec: gwv1.HTTPRouteSpec{
					CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "web"}}},
					Hostnames:       []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", i/10))},
					Rules:           []gwv1.HTTPRouteRule{rule, rule},
				}}
				route.Namespace, route.Name = "default", fmt.Sprintf("r%d", i)
				r.HTTPRoutes[types.NamespacedName{Namespace: "default", Name: route.Name}] = route
			}
			b.ReportAllocs()
			for b.Loop() {
				graph.Build(r)
			}
		})
	}
}
