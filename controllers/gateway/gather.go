// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"

	"headgate.dev/headgate/dataplane/graph"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gatewayclasses;gateways;httproutes;grpcroutes;tlsroutes;tcproutes;udproutes;listenersets;backendtlspolicies;referencegrants,verbs=get;list;watch
// +kubebuilder:rbac:groups=gateway.networking.x-k8s.io,resources=xbackends;xbackendtrafficpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces;services,verbs=get;list;watch
// +kubebuilder:rbac:groups=headgate.dev,resources=proxyconfigs,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch

// gather reads what the graph is built from. The objects are the cache's own and
// must not be changed; the pure packages do not.
func (r *reconciler) gather(ctx context.Context) (graph.Resources, error) {
	res := graph.NewResources(r.controller)
	if err := r.kinds.gather(ctx, &res); err != nil {
		return graph.Resources{}, err
	}
	var err error
	if res.Definitions, err = r.kinds.definitions(ctx); err != nil {
		return graph.Resources{}, err
	}
	if res.Secrets, err = r.secrets.read(ctx, graph.WantedSecrets(res)); err != nil {
		return graph.Resources{}, err
	}
	return res, nil
}
