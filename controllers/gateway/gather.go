// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"headgate.dev/headgate/dataplane/graph"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gatewayclasses;gateways;httproutes;grpcroutes;referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces;services,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch

// gather reads what the graph is built from. The objects are the cache's own and
// must not be changed; the pure packages do not.
func (r *reconciler) gather(ctx context.Context) (graph.Resources, error) {
	res := graph.Resources{ControllerName: r.controller}
	var err error
	list := func(kind string, into client.ObjectList) {
		if err == nil {
			if err = r.client.List(ctx, into, client.UnsafeDisableDeepCopy); err != nil {
				err = fmt.Errorf("listing %s: %w", kind, err)
			}
		}
	}
	var (
		classes    gwv1.GatewayClassList
		gateways   gwv1.GatewayList
		httpRoutes gwv1.HTTPRouteList
		grpcRoutes gwv1.GRPCRouteList
		grants     gwv1beta1.ReferenceGrantList
		namespaces corev1.NamespaceList
		services   corev1.ServiceList
	)
	list("GatewayClasses", &classes)
	list("Gateways", &gateways)
	list("HTTPRoutes", &httpRoutes)
	list("GRPCRoutes", &grpcRoutes)
	list("ReferenceGrants", &grants)
	list("Namespaces", &namespaces)
	list("Services", &services)
	if err != nil {
		return graph.Resources{}, err
	}
	res.GatewayClasses = byName(classes.Items, func(o *gwv1.GatewayClass) string { return o.Name })
	res.Namespaces = byName(namespaces.Items, func(o *corev1.Namespace) string { return o.Name })
	res.Gateways = byKey(gateways.Items, func(o *gwv1.Gateway) client.Object { return o })
	res.HTTPRoutes = byKey(httpRoutes.Items, func(o *gwv1.HTTPRoute) client.Object { return o })
	res.GRPCRoutes = byKey(grpcRoutes.Items, func(o *gwv1.GRPCRoute) client.Object { return o })
	res.ReferenceGrants = byKey(grants.Items, func(o *gwv1beta1.ReferenceGrant) client.Object { return o })
	res.Services = byKey(services.Items, func(o *corev1.Service) client.Object { return o })
	if res.Secrets, err = r.secrets.read(ctx, graph.WantedSecrets(res)); err != nil {
		return graph.Resources{}, err
	}
	return res, nil
}

func byName[T any](items []T, name func(*T) string) map[string]*T {
	m := make(map[string]*T, len(items))
	for i := range items {
		m[name(&items[i])] = &items[i]
	}
	return m
}

func byKey[T any](items []T, object func(*T) client.Object) map[types.NamespacedName]*T {
	m := make(map[types.NamespacedName]*T, len(items))
	for i := range items {
		m[client.ObjectKeyFromObject(object(&items[i]))] = &items[i]
	}
	return m
}
