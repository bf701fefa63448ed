// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// kind is one kind of object that the graph is built from whole: all of its
// objects are watched and handed to graph.Build.
type kind struct {
	// object is an empty object of the kind.
	object client.Object
	// optional kinds may be missing in a cluster: they come with a channel or a version of
	// the Gateway API that it need not have. They are watched from when they appear.
	optional bool
	// route or parent is set for the kinds of which a pass can read single objects.
	route  graph.RouteKind
	parent gwv1.Kind
	// news lets pass the events that the graph depends on.
	news []predicate.Predicate
	// readOnly is true for the kinds of which no statuses are written: of an object that is
	// there nothing is needed but what its news tell of.
	readOnly bool
	// put files an object, drop takes one out. Only kinds of single objects have drop.
	put  func(*graph.Resources, client.Object)
	drop func(*graph.Resources, types.NamespacedName)
}

// graphKinds lists the kinds that the graph is built from. Kinds that are looked
// at by need (Secrets, EndpointSlices) are not among them.
func graphKinds(w *written) []kind {
	news := []predicate.Predicate{predicate.Or(predicate.Predicate(predicate.GenerationChangedPredicate{}),
		predicate.Predicate(predicate.AnnotationChangedPredicate{}), w.predicate())}
	spec := []predicate.Predicate{predicate.GenerationChangedPredicate{}}
	return []kind{
		{
			object: &gwv1.GatewayClass{}, news: news,
			put: func(r *graph.Resources, o client.Object) { r.GatewayClasses[o.GetName()] = o.(*gwv1.GatewayClass) },
		},
		{
			object: &corev1.Namespace{}, news: []predicate.Predicate{predicate.LabelChangedPredicate{}},
			put: func(r *graph.Resources, o client.Object) { r.Namespaces[o.GetName()] = o.(*corev1.Namespace) },
		},
		readOnly(keyed(&corev1.Service{}, false, []predicate.Predicate{onUpdate(serviceNews)}, func(r *graph.Resources) map[types.NamespacedName]*corev1.Service { return r.Services })),
		parents(graph.KindGateway, keyed(&gwv1.Gateway{}, false, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.Gateway { return r.Gateways })),
		routes(graph.KindHTTPRoute, keyed(&gwv1.HTTPRoute{}, false, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.HTTPRoute { return r.HTTPRoutes })),
		readOnly(keyed(&gwv1beta1.ReferenceGrant{}, false, spec, func(r *graph.Resources) map[types.NamespacedName]*gwv1beta1.ReferenceGrant { return r.ReferenceGrants })),

		routes(graph.KindGRPCRoute, keyed(&gwv1.GRPCRoute{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.GRPCRoute { return r.GRPCRoutes })),
		keyed(&gwv1.TLSRoute{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.TLSRoute { return r.TLSRoutes }),
		keyed(&gwv1.TCPRoute{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.TCPRoute { return r.TCPRoutes }),
		keyed(&gwv1.UDPRoute{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.UDPRoute { return r.UDPRoutes }),
		parents(graph.KindListenerSet, keyed(&gwv1.ListenerSet{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.ListenerSet { return r.ListenerSets })),
		keyed(&gwv1.BackendTLSPolicy{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwv1.BackendTLSPolicy { return r.BackendTLSPolicies }),
		keyed(&gwxv1alpha1.XBackend{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwxv1alpha1.XBackend { return r.XBackends }),
		keyed(&gwxv1alpha1.XBackendTrafficPolicy{}, true, news, func(r *graph.Resources) map[types.NamespacedName]*gwxv1alpha1.XBackendTrafficPolicy {
			return r.XBackendTrafficPolicies
		}),
		readOnly(keyed(&v1beta1.ProxyConfig{}, true, spec, func(r *graph.Resources) map[types.NamespacedName]*v1beta1.ProxyConfig { return r.ProxyConfigs })),
	}
}

func keyed[O client.Object](object O, optional bool, news []predicate.Predicate, field func(*graph.Resources) map[types.NamespacedName]O) kind {
	return kind{
		object: object, optional: optional, news: news,
		put:  func(r *graph.Resources, o client.Object) { field(r)[client.ObjectKeyFromObject(o)] = o.(O) },
		drop: func(r *graph.Resources, key types.NamespacedName) { delete(field(r), key) },
	}
}

// predicates lets pass the events that wake the reconciler, and takes note of those after which what was read of
// an object is not what there is.
func (k kind) predicates(happened *news) []predicate.Predicate {
	noting := []predicate.Predicate{happened.watching(k)}
	if k.readOnly {
		return slices.Concat(k.news, noting)
	}
	return slices.Concat(noting, k.news)
}

func readOnly(of kind) kind {
	of.readOnly = true
	return of
}

// routes marks a kind as one of which a pass can read single objects.
func routes(as graph.RouteKind, of kind) kind {
	of.route = as
	return of
}

// parents marks a kind as one of which a pass can read the statuses of single objects.
func parents(as gwv1.Kind, of kind) kind {
	of.parent = as
	return of
}

// kinds watches what of graphKinds the cluster has.
type kinds struct {
	client client.Client
	cache  cache.Cache
	world  controller.Controller
	// noted is called for each event that makes a new graph, happened takes all events.
	noted    func()
	happened *news

	mu sync.Mutex
	// served are the kinds that are watched, missing those that are not there yet.
	served, missing []kind
}

// newKinds begins to watch every kind that is there. A required kind that is not is an error
// of the watch itself, which names it.
func newKinds(mgr ctrl.Manager, world controller.Controller, all []kind, noted func(), happened *news) (*kinds, error) {
	k := &kinds{client: mgr.GetClient(), cache: mgr.GetCache(), world: world, missing: all, noted: noted, happened: happened}
	return k, k.discover()
}

// discover watches those of the missing kinds that the API server has by now. Their
// objects wake the reconciler as they come.
func (k *kinds) discover() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var missing []kind
	for i, kind := range k.missing {
		there, err := k.there(kind)
		if err != nil {
			k.missing = append(missing, k.missing[i:]...)
			return err
		}
		if !there {
			missing = append(missing, kind)
			continue
		}
		if err := k.world.Watch(source.Kind(k.cache, kind.object, waking(k.noted), kind.predicates(k.happened)...)); err != nil {
			k.missing = append(missing, k.missing[i:]...)
			return fmt.Errorf("watching %T: %w", kind.object, err)
		}
		k.served = append(k.served, kind)
	}
	k.missing = missing
	return nil
}

func (k *kinds) there(kind kind) (bool, error) {
	if !kind.optional {
		return true, nil
	}
	gvk, err := apiutil.GVKForObject(kind.object, k.client.Scheme())
	if err != nil {
		return false, fmt.Errorf("looking for the kind of %T: %w", kind.object, err)
	}
	if _, err := k.client.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version); meta.IsNoMatchError(err) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("asking whether %s is served: %w", gvk.Kind, err)
	}
	return true, nil
}

// discoveryDelay is how long a kind may take from its definition until the API server
// serves it, before it is looked for again: ever longer, because a definition may lack the
// version for good.
const (
	discoveryDelay    = time.Second
	discoveryDelayMax = 10 * time.Minute
)

// awaited tells whether a missing kind has a definition, and so will be served soon.
func (k *kinds) awaited(ctx context.Context) (bool, error) {
	k.mu.Lock()
	missing := slices.Clone(k.missing)
	k.mu.Unlock()
	for _, kind := range missing {
		gvk, err := apiutil.GVKForObject(kind.object, k.client.Scheme())
		if err != nil {
			return false, fmt.Errorf("looking for the kind of %T: %w", kind.object, err)
		}
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		definition := metadata("apiextensions.k8s.io/v1", "CustomResourceDefinition")
		err = k.client.Get(ctx, client.ObjectKey{Name: plural.GroupResource().String()}, definition)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return false, fmt.Errorf("looking for the definition of %s: %w", gvk.Kind, err)
		case definition.DeletionTimestamp == nil:
			return true, nil
		}
	}
	return false, nil
}

// gather reads all objects of the served kinds into r. They are the cache's own
// and must not be changed.
func (k *kinds) gather(ctx context.Context, r *graph.Resources) error {
	k.mu.Lock()
	served := slices.Clone(k.served)
	k.mu.Unlock()
	for _, kind := range served {
		list, err := listOf(k.client.Scheme(), kind.object)
		if err != nil {
			return err
		}
		if err := k.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
		err = meta.EachListItem(list, func(o runtime.Object) error {
			object, ok := o.(client.Object)
			if !ok {
				return fmt.Errorf("%T is not an object", o)
			}
			kind.put(r, object)
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading %T: %w", list, err)
		}
	}
	return nil
}

// readRoute reads one route into r, or takes it out when it is not there any more.
func (k *kinds) readRoute(ctx context.Context, r *graph.Resources, key graph.RouteKey) error {
	return k.read(ctx, r, key.NamespacedName, func(of kind) bool { return of.route == key.Kind })
}

// readParent reads one Gateway or ListenerSet into r, or takes it out when it is not there any more.
func (k *kinds) readParent(ctx context.Context, r *graph.Resources, key graph.ParentKey) error {
	return k.read(ctx, r, key.NamespacedName, func(of kind) bool { return of.parent == key.Kind })
}

func (k *kinds) read(ctx context.Context, r *graph.Resources, key types.NamespacedName, which func(kind) bool) error {
	k.mu.Lock()
	i := slices.IndexFunc(k.served, which)
	if i < 0 {
		k.mu.Unlock()
		return nil // nothing of a kind that is not served was ever read
	}
	of := k.served[i]
	k.mu.Unlock()
	object, _ := of.object.DeepCopyObject().(client.Object) // a copy of an object is one
	switch err := k.client.Get(ctx, key, object, client.UnsafeDisableDeepCopy); {
	case apierrors.IsNotFound(err):
		of.drop(r, key)
	case err != nil:
		return fmt.Errorf("reading %T %s: %w", object, key, err)
	default:
		of.put(r, object)
	}
	return nil
}

func listOf(scheme *runtime.Scheme, object client.Object) (client.ObjectList, error) {
	gvk, err := apiutil.GVKForObject(object, scheme)
	if err != nil {
		return nil, fmt.Errorf("looking for the kind of %T: %w", object, err)
	}
	gvk.Kind += "List"
	list, err := scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("making a %s: %w", gvk.Kind, err)
	}
	l, ok := list.(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("%s is no list", gvk.Kind)
	}
	return l, nil
}

// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get;list;watch

// definitions are the metadata of the cluster's CRDs of the Gateway API, by name.
func (k *kinds) definitions(ctx context.Context) (map[string]*metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schema.FromAPIVersionAndKind("apiextensions.k8s.io/v1", "CustomResourceDefinitionList"))
	if err := k.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the definitions of kinds: %w", err)
	}
	out := map[string]*metav1.PartialObjectMetadata{}
	for i := range list.Items {
		if d := &list.Items[i]; isGatewayAPI(d.Name) && d.DeletionTimestamp == nil {
			out[d.Name] = d
		}
	}
	return out, nil
}

// addDiscovery looks again for the missing kinds whenever a definition of the
// Gateway API, or of ours, appears or changes.
func (k *kinds) addDiscovery(mgr ctrl.Manager) error {
	delay := discoveryDelay // only the one worker of the controller touches it
	c, err := controller.New("kinds", mgr, controller.Options{
		MaxConcurrentReconciles: 1,
		Reconciler: reconcile.Func(func(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
			if err := k.discover(); err != nil {
				return reconcile.Result{}, err
			}
			awaited, err := k.awaited(ctx)
			if err != nil || !awaited {
				delay = discoveryDelay
				return reconcile.Result{}, err
			}
			wait := delay
			delay = min(2*delay, discoveryDelayMax)
			return reconcile.Result{RequeueAfter: wait}, nil
		}),
	})
	if err != nil {
		return fmt.Errorf("making the controller of kinds: %w", err)
	}
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool { return isOfGateways(o.GetName()) })
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{worldKey} })
	definitions := metadata("apiextensions.k8s.io/v1", "CustomResourceDefinition")
	if err := c.Watch(source.Kind(mgr.GetCache(), client.Object(definitions), one, ours)); err != nil {
		return fmt.Errorf("watching the definitions of kinds: %w", err)
	}
	// Their versions and channel are part of the classes' statuses.
	if err := k.world.Watch(source.Kind(mgr.GetCache(), client.Object(definitions), waking(func() { k.happened.anything(); k.happened.wake() }), ours, predicate.AnnotationChangedPredicate{})); err != nil {
		return fmt.Errorf("watching the definitions of kinds for the gateway controller: %w", err)
	}
	return nil
}

// isOfGateways tells whether a definition's name, plural.group, is one that the graph is
// built from: of the Gateway API, or of ours.
func isOfGateways(name string) bool {
	return isGatewayAPI(name) || strings.HasSuffix(name, "."+v1beta1.GroupVersion.Group)
}

// isGatewayAPI tells whether a definition's name, plural.group, is one of the Gateway API.
func isGatewayAPI(name string) bool {
	for _, group := range []string{gwv1.GroupName, gwxv1alpha1.GroupVersion.Group} {
		if len(name) > len(group) && name[len(name)-len(group)-1:] == "."+group {
			return true
		}
	}
	return false
}
