// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/xds"
)

// endpoints brings the endpoints of the Services in use to the proxies. It is a
// reconciler of its own, by Service, so that a pod that comes or goes never
// waits for a pass over the routes.
type endpoints struct {
	client client.Reader
	server Server

	// mu is held from reading the cache until the endpoints are published, so that
	// an older reading never replaces a newer one.
	mu sync.Mutex
	// used are the upstreams of each Gateway's latest configuration.
	used map[types.NamespacedName]map[string]graph.ClusterKey
	// known are the upstreams whose endpoints are published, by Service.
	known map[types.NamespacedName]map[graph.ClusterKey]bool
}

func newEndpoints(c client.Reader, s Server) *endpoints {
	return &endpoints{
		client: c, server: s,
		used:  map[types.NamespacedName]map[string]graph.ClusterKey{},
		known: map[types.NamespacedName]map[graph.ClusterKey]bool{},
	}
}

// Reconcile publishes the endpoints of a Service anew.
func (e *endpoints) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := e.known[req.NamespacedName]
	if len(keys) == 0 {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, e.publish(ctx, req.NamespacedName, keys)
}

// ensure makes the endpoints of a Gateway's upstreams known before the
// configuration that uses them: a proxy must never be told of a cluster whose
// pods are there but not yet published.
func (e *endpoints) ensure(ctx context.Context, gateway types.NamespacedName, keys map[string]graph.ClusterKey) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	missing := map[types.NamespacedName]map[graph.ClusterKey]bool{}
	for name, key := range keys {
		service := types.NamespacedName{Namespace: key.Namespace, Name: key.Service}
		// What the Gateway did not use until now is read anew, known or not: the
		// Service may have come back, and the event that says so may still be on its way.
		if _, used := e.used[gateway][name]; used && e.known[service][key] {
			continue
		}
		if missing[service] == nil {
			missing[service] = map[graph.ClusterKey]bool{}
		}
		missing[service][key] = true
	}
	for service, keys := range missing {
		if err := e.publish(ctx, service, keys); err != nil {
			return err
		}
		if e.known[service] == nil {
			e.known[service] = map[graph.ClusterKey]bool{}
		}
		for key := range keys {
			e.known[service][key] = true
		}
	}
	e.used[gateway] = keys
	return nil
}

// forget drops a Gateway that is gone.
func (e *endpoints) forget(gateway types.NamespacedName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.used, gateway)
}

// collect removes upstreams that no configuration uses. It is called when every
// proxy has left the older configurations behind.
func (e *endpoints) collect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	inUse := map[graph.ClusterKey]bool{}
	for _, keys := range e.used {
		for _, key := range keys {
			inUse[key] = true
		}
	}
	for service, keys := range e.known {
		for key := range keys {
			if !inUse[key] {
				e.server.RemoveEndpoints(key)
				delete(keys, key)
			}
		}
		if len(keys) == 0 {
			delete(e.known, service)
		}
	}
}

// publish makes the endpoints of a Service known, once there is something to know. Of
// a Service that is gone the last ones stay: a configuration without it is on its way, and
// until it has arrived requests still come.
func (e *endpoints) publish(ctx context.Context, service types.NamespacedName, keys map[graph.ClusterKey]bool) error {
	svc := &corev1.Service{}
	if err := e.client.Get(ctx, service, svc, client.UnsafeDisableDeepCopy); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("reading Service %s: %w", service, err)
	}
	var list discoveryv1.EndpointSliceList
	err := e.client.List(ctx, &list, client.InNamespace(service.Namespace), client.MatchingFields{indexService: service.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing the EndpointSlices of Service %s: %w", service, err)
	}
	// Kubernetes makes a slice for every Service that selects pods, also when it selects
	// none. Without one the Service is so new that its pods are not known yet, or is just
	// being deleted: neither means that there are none.
	if len(list.Items) == 0 && len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName {
		return nil
	}
	slices := make([]*discoveryv1.EndpointSlice, 0, len(list.Items))
	for i := range list.Items {
		slices = append(slices, &list.Items[i])
	}
	for key := range keys {
		e.server.PublishEndpoints(key, xds.Endpoints(key, svc, slices))
	}
	return nil
}
