// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/canary"
	"headgate.dev/headgate/controllers/gateway"
	"headgate.dev/headgate/controllers/leader"
)

// leaseDuration bounds how long a release stands still when the leader's
// machine dies: a new leader follows after at most this time.
const (
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = 2 * time.Second
)

// newScheme knows every kind that Headgate reads or writes.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, gwv1.Install, gwv1beta1.Install, gwxv1alpha1.Install, v1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	return scheme, nil
}

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=headgate-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="";events.k8s.io,namespace=headgate-system,resources=events,verbs=create;patch

// newManager makes the manager with its probes and the leader's mark; nothing runs yet.
func newManager(ctx context.Context, cfg *rest.Config, o options) (manager.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	// The API server protects itself by priority and fairness; a client-side
	// limit would only delay a rollback behind status writes.
	cfg.QPS = -1
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions(o.watchNamespaces),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.probeAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "headgate",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true, // the process ends with the manager
		LeaseDuration:                 ptr(leaseDuration),
		RenewDeadline:                 ptr(renewDeadline),
		RetryPeriod:                   ptr(retryPeriod),
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", cachesSynced(mgr)); err != nil {
		return nil, fmt.Errorf("adding the readiness check: %w", err)
	}
	if o.podName != "" {
		if err := addMarker(ctx, mgr, o); err != nil {
			return nil, err
		}
	}
	return mgr, nil
}

func cacheOptions(namespaces []string) cache.Options {
	options := cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: canary.CacheByObject()}
	maps.Copy(options.ByObject, gateway.CacheByObject())
	for _, n := range namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[n] = cache.Config{}
	}
	return options
}

func addMarker(ctx context.Context, mgr manager.Manager, o options) error {
	direct, err := directClient(mgr)
	if err != nil {
		return err
	}
	marker := &leader.Marker{Client: direct, Pod: types.NamespacedName{Namespace: o.namespace, Name: o.podName}}
	if err := marker.Unmark(ctx); err != nil {
		return err
	}
	if err := mgr.Add(marker); err != nil {
		return fmt.Errorf("adding the leader's mark: %w", err)
	}
	return nil
}

// directClient reads and writes without a cache: the pods of Headgate's namespace
// and one Secret are not worth a watch of all of their kind.
func directClient(mgr manager.Manager) (client.Client, error) {
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return direct, nil
}

// cachesSynced is ready when the watches have delivered what there is. It never
// waits: the probe asks again.
func cachesSynced(mgr manager.Manager) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), 100*time.Millisecond)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return fmt.Errorf("the watches have not delivered everything yet")
		}
		return nil
	}
}

func ptr[T any](v T) *T { return &v }
