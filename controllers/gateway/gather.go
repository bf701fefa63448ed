// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gatewayclasses;gateways;httproutes;grpcroutes;tlsroutes;tcproutes;udproutes;listenersets;backendtlspolicies;referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups=gateway.networking.x-k8s.io,resources=xbackends;xbackendtrafficpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces;services,verbs=get;list;watch
// +kubebuilder:rbac:groups=headgate.dev,resources=proxyconfigs,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=clustertrustbundles,verbs=get;list;watch

// gather reads what the graph is built from. The objects are the cache's own and
// must not be changed; the pure packages do not.
func (r *reconciler) gather(ctx context.Context) (graph.Resources, error) {
	res := graph.NewResources(r.controller)
	res.IPv6 = r.options.IPv6
	if err := r.kinds.gather(ctx, &res); err != nil {
		return graph.Resources{}, err
	}
	var err error
	if res.Definitions, err = r.kinds.definitions(ctx); err != nil {
		return graph.Resources{}, err
	}
	wanted := graph.Wanted(res)
	if err := r.needed.want(ctx, append(r.ownSecrets(res), wanted...)); err != nil {
		return graph.Resources{}, err
	}
	r.needed.fill(&res, wanted)
	res.SystemAuthorities = r.options.SystemAuthorities
	res.ExternalNames = r.options.ExternalNames
	return res, nil
}

// ownSecrets are those with the certificates of our Gateways' proxies.
func (r *reconciler) ownSecrets(res graph.Resources) []graph.Reference {
	var own []graph.Reference
	for key, gw := range res.Gateways {
		class := res.GatewayClasses[string(gw.Spec.GatewayClassName)]
		if class != nil && string(class.Spec.ControllerName) == r.controller {
			own = append(own, ownSecret(types.NamespacedName{Namespace: key.Namespace, Name: infra.Name(key, class.Name)}))
		}
	}
	return own
}

func ownSecret(key types.NamespacedName) graph.Reference {
	return graph.Reference{Kind: graph.KindSecret, NamespacedName: key}
}
