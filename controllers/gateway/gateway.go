// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the reconciler of the gateway half: it gathers what stands in
// the cache, lets the pure packages of the data plane think, and applies what
// they say.
//
//	watches ─▶ world ── gather ─▶ graph.Build ─┬▶ xds.Translate ─▶ server (proxies)
//	                                           ├▶ infra.For     ─▶ Deployment, Service, …
//	acknowledgements ─▶ status ────────────────┴▶ status.Updates ─▶ status patches
//	EndpointSlices ─▶ endpoints ─▶ xds.Endpoints ─▶ server, waiting for nobody
//
// "world" and "status" are the only two keys of one queue with one worker, so that
// a burst of events is one pass and passes never overlap.
package gateway

import (
	"context"
	"fmt"
	"io"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// Server takes configurations to the proxies; *server.Server does.
type Server interface {
	Publish(snap xds.Snapshot) (version uint64)
	Update(d xds.Delta) (version uint64, ok bool)
	Withdraw(gateway types.NamespacedName)
	PublishEndpoints(key graph.ClusterKey, cla *endpointv3.ClusterLoadAssignment)
	RemoveEndpoints(key graph.ClusterKey)
	State(gateway types.NamespacedName) server.State
}

// Options are what the reconciler needs beside the manager.
type Options struct {
	Server Server
	// Changes wakes the reconciler when the proxies acknowledged or refused something.
	Changes *Changes
	// Authority signs the proxies' client certificates.
	Authority func() pki.Pair
	// ControlPlaneHost and ControlPlanePort are where proxies find the Server;
	// ControlPlaneName is the DNS name in its certificate.
	ControlPlaneHost string
	ControlPlanePort uint32
	ControlPlaneName string
	// IPv6 is true when pods of the cluster have IPv6 addresses: proxies then listen on
	// both families, and their Services ask for both.
	IPv6 bool
	// ProxyImage and HeadgateImage are the images of a proxy's pod.
	ProxyImage, HeadgateImage string
	// SystemAuthorities are the well-known certificate authorities, see
	// graph.SystemAuthorities; empty when the image has none.
	SystemAuthorities []byte
	// ExternalNames lets routes send to Services of type ExternalName. Who may create a
	// Service can then send requests to any host that the proxies reach.
	ExternalNames bool
	// Metrics are told what the reconciler does; nil means nobody asks.
	Metrics *measure.Passes
	// Now and Rand are the clock and the randomness of certificates.
	Now  func() time.Time
	Rand io.Reader
	// EndpointsLinger is how long the endpoints of an upstream are brought to the proxies after all have acknowledged
	// configurations without it; 0 is long enough for what proxies keep of it, see server.ClusterLinger.
	EndpointsLinger time.Duration
}

// Add registers the reconcilers with the manager. They run on the leader only.
func Add(mgr ctrl.Manager, o Options) error {
	if o.Metrics == nil {
		o.Metrics = measure.New(o.Now)
	}
	if err := addIndexes(mgr); err != nil {
		return err
	}
	unlimited := rest.CopyConfig(mgr.GetConfig())
	unlimited.QPS = -1 // there are many small watches, and the first configuration waits for them
	watcher, err := client.NewWithWatch(unlimited, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("making a client that watches: %w", err)
	}
	selected := newPods(watcher)
	if err := mgr.Add(selected); err != nil {
		return fmt.Errorf("adding the watches of pods: %w", err)
	}
	happened := newNews()
	e := newEndpoints(mgr.GetClient(), o.Server, selected, o.EndpointsLinger)
	r := &reconciler{
		client:       mgr.GetClient(),
		direct:       mgr.GetAPIReader(),
		options:      o,
		defaults:     infra.Defaults(o.ProxyImage),
		controller:   v1beta1.ControllerName,
		endpoints:    e,
		needed:       newNeeded(watcher),
		published:    map[types.NamespacedName]*published{},
		identities:   map[types.NamespacedName]pki.Identity{},
		applied:      map[objectKey]applied{},
		wrote:        map[types.UID]time.Time{},
		proxies:      map[types.NamespacedName]proxies{},
		written:      newWritten(),
		events:       mgr.GetEventRecorder("headgate.dev/gateway"),
		told:         map[string]bool{},
		lateServices: newLate(mgr.GetAPIReader(), o.Now, newService),
		happened:     happened,
	}
	world, err := controller.New("gateway", mgr, controller.Options{Reconciler: r, MaxConcurrentReconciles: 1})
	if err != nil {
		return fmt.Errorf("making the gateway controller: %w", err)
	}
	if r.kinds, err = newKinds(mgr, world, graphKinds(r.written), func() { happened.wake(); o.Metrics.Noted() }, happened); err != nil {
		return fmt.Errorf("finding the kinds of the Gateway API: %w", err)
	}
	if err := r.kinds.addDiscovery(mgr); err != nil {
		return err
	}
	for _, source := range worldSources(mgr.GetCache(), happened) {
		if err := world.Watch(source); err != nil {
			return fmt.Errorf("watching for the gateway controller: %w", err)
		}
	}
	if err := mgr.Add(r.needed); err != nil {
		return fmt.Errorf("adding the watches of single objects: %w", err)
	}
	if err := world.Watch(r.needed.source(func() { happened.anything(); happened.wake(); o.Metrics.Noted() })); err != nil {
		return fmt.Errorf("watching single objects for the gateway controller: %w", err)
	}
	if err := world.Watch(o.Changes.source()); err != nil {
		return fmt.Errorf("watching acknowledgements for the gateway controller: %w", err)
	}
	slices, err := controller.New("endpoints", mgr, controller.Options{Reconciler: e, MaxConcurrentReconciles: 1})
	if err != nil {
		return fmt.Errorf("making the endpoints controller: %w", err)
	}
	for _, source := range append(endpointSources(mgr.GetCache()), selected.source()) {
		if err := slices.Watch(source); err != nil {
			return fmt.Errorf("watching for the endpoints controller: %w", err)
		}
	}
	return nil
}

// indexService finds the EndpointSlices of a Service.
const indexService = "headgate.gateway.service"

func addIndexes(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), newSlice(), indexService, //nolint:forbidigo // the indexer needs a context before there is one; it only registers
		func(obj client.Object) []string { return []string{obj.GetLabels()[serviceLabel]} })
	if err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	return nil
}
