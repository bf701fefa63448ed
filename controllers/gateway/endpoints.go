// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// endpoints brings the endpoints of the Services and XBackends in use to the proxies. It is
// a reconciler of its own, by name, so that a pod that comes or goes never
// waits for a pass over the routes.
type endpoints struct {
	client client.Reader
	server Server
	// pods are those that XBackends select.
	pods *pods

	// mu is held from reading the cache until the endpoints are published, so that
	// an older reading never replaces a newer one.
	mu sync.Mutex
	// used are the upstreams of each Gateway's latest configuration.
	used map[types.NamespacedName]map[string]graph.ClusterKey
	// left is true when there may be upstreams that no configuration uses any more.
	left bool
	// linger is how long the endpoints of those are brought to the proxies none the less: for them it may still
	// be as long until the cluster goes. leaving are those found to be unused at since.
	linger  time.Duration
	leaving map[graph.ClusterKey]bool
	since   time.Time
	// known are the upstreams whose endpoints are published, by owner.
	known map[owner]map[graph.ClusterKey]bool
}

// owner is the Service or XBackend that has endpoints.
type owner struct {
	kind graph.UpstreamKind
	types.NamespacedName
}

// endpointsLinger is longer than proxies keep a cluster that nothing names, which they learn a little later.
const endpointsLinger = 2 * server.ClusterLinger

// newEndpoints begins with nothing known. A linger of 0 is endpointsLinger.
func newEndpoints(c client.Reader, s Server, p *pods, linger time.Duration) *endpoints {
	if linger == 0 {
		linger = endpointsLinger
	}
	return &endpoints{
		client: c, server: s, pods: p, linger: linger,
		used:  map[types.NamespacedName]map[string]graph.ClusterKey{},
		known: map[owner]map[graph.ClusterKey]bool{},
	}
}

// Reconcile publishes the endpoints of a Service anew, and of an XBackend of that name.
func (e *endpoints) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, kind := range []graph.UpstreamKind{graph.UpstreamService, graph.UpstreamXBackend} {
		of := owner{kind, req.NamespacedName}
		if keys := e.known[of]; len(keys) > 0 {
			if err := e.publish(ctx, of, keys); err != nil {
				return reconcile.Result{}, err
			}
		}
	}
	return reconcile.Result{}, nil
}

// ensure makes the endpoints of a Gateway's upstreams known before the
// configuration that uses them: a proxy must never be told of a cluster whose
// pods are there but not yet published.
func (e *endpoints) ensure(ctx context.Context, gateway types.NamespacedName, keys map[string]graph.ClusterKey) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.know(ctx, gateway, keys); err != nil {
		return err
	}
	e.used[gateway], e.left = maps.Clone(keys), true
	return nil
}

// more is like ensure for a configuration that uses some upstreams more than the one before, and
// some no longer.
func (e *endpoints) more(ctx context.Context, gateway types.NamespacedName, keys map[string]graph.ClusterKey, gone []string) error {
	if len(keys)+len(gone) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.know(ctx, gateway, keys); err != nil {
		return err
	}
	maps.Copy(e.used[gateway], keys)
	for _, name := range gone {
		delete(e.used[gateway], name)
		e.left = true
	}
	return nil
}

// know publishes the endpoints of upstreams that are not in use yet. The lock is held.
func (e *endpoints) know(ctx context.Context, gateway types.NamespacedName, keys map[string]graph.ClusterKey) error {
	missing := map[owner]map[graph.ClusterKey]bool{}
	for name, key := range keys {
		delete(e.leaving, key)
		service := owner{key.Kind, types.NamespacedName{Namespace: key.Namespace, Name: key.Service}}
		// An XBackend may select other pods since the last pass, which nothing else tells. What the Gateway did not use until now is read anew, known or not: the
		// Service may have come back, and the event that says so may still be on its way.
		if _, used := e.used[gateway][name]; used && e.known[service][key] && key.Kind == graph.UpstreamService {
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
	return nil
}

// forget drops a Gateway that is gone.
func (e *endpoints) forget(gateway types.NamespacedName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.used, gateway)
	e.left = true
}

// collect removes upstreams that no configuration has used for the linger. It is called when every
// proxy has left the older configurations behind, and tells, once, in what time it should be called again; else 0.
func (e *endpoints) collect(now time.Time) (again time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leaving != nil {
		if now.Sub(e.since) < e.linger {
			return 0
		}
		e.remove(e.leaving)
		e.leaving = nil
	}
	if !e.left {
		return 0
	}
	e.left = false
	if unused := e.unused(); len(unused) > 0 {
		e.leaving, e.since = unused, now
		return e.linger
	}
	return 0
}

// unused are the upstreams that are known and in no configuration.
func (e *endpoints) unused() map[graph.ClusterKey]bool {
	inUse := map[graph.ClusterKey]bool{}
	for _, keys := range e.used {
		for _, key := range keys {
			inUse[key] = true
		}
	}
	unused := map[graph.ClusterKey]bool{}
	for _, keys := range e.known {
		for key := range keys {
			if !inUse[key] {
				unused[key] = true
			}
		}
	}
	return unused
}

func (e *endpoints) remove(leaving map[graph.ClusterKey]bool) {
	for key := range leaving {
		e.server.RemoveEndpoints(key)
		of := owner{key.Kind, types.NamespacedName{Namespace: key.Namespace, Name: key.Service}}
		delete(e.known[of], key)
		if len(e.known[of]) > 0 {
			continue
		}
		delete(e.known, of)
		if of.kind == graph.UpstreamXBackend {
			e.pods.forget(of.NamespacedName)
		}
	}
}

func (e *endpoints) publish(ctx context.Context, of owner, keys map[graph.ClusterKey]bool) error {
	if of.kind == graph.UpstreamXBackend {
		return e.publishXBackend(ctx, of.NamespacedName, keys)
	}
	return e.publishService(ctx, of.NamespacedName, keys)
}

// publishXBackend makes the endpoints of the pods known that an XBackend selects, once
// there is something to know. Of one that is gone the last ones stay.
func (e *endpoints) publishXBackend(ctx context.Context, name types.NamespacedName, keys map[graph.ClusterKey]bool) error {
	backend := &gwxv1alpha1.XBackend{}
	if err := e.client.Get(ctx, name, backend, client.UnsafeDisableDeepCopy); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("reading XBackend %s: %w", name, err)
	}
	if backend.Spec.EndpointSelector == nil {
		return nil
	}
	selector := map[string]string{}
	for k, v := range backend.Spec.EndpointSelector.MatchLabels {
		selector[string(k)] = string(v)
	}
	list, known := e.pods.of(ctx, name, selector)
	if !known {
		return nil
	}
	for key := range keys {
		e.server.PublishEndpoints(key, xds.PodEndpoints(key, list))
	}
	return nil
}

// publishService makes the endpoints of a Service known, once there is something to know. Of
// a Service that is gone the last ones stay: a configuration without it is on its way, and
// until it has arrived requests still come.
func (e *endpoints) publishService(ctx context.Context, service types.NamespacedName, keys map[graph.ClusterKey]bool) error {
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
