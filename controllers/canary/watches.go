// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"headgate.dev/headgate/api/v1beta1"
)

// The indexes of the cache.
const (
	indexOwner  = "headgate.owner"  // ReplicaSet → UID of its controller
	indexTarget = "headgate.target" // Canary, HorizontalPodAutoscaler → name of its Deployment
)

// watch tells which change concerns which Canary. Within a namespace a Canary
// may depend on any Service and route, so those wake all Canaries of theirs;
// everything else is found by name.
func (r *reconciler) watch(mgr ctrl.Manager) error {
	if err := index(mgr); err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).Named("canary").
		WithOptions(controller.Options{MaxConcurrentReconciles: r.options.Concurrency}).
		For(&v1beta1.Canary{}).
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(r.ofDeployment)).
		Watches(&appsv1.ReplicaSet{}, handler.EnqueueRequestsFromMapFunc(r.ofReplicaSet)).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(r.ofScaler)).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(r.ofNamespace)).
		Watches(&v1beta1.MetricTemplate{}, handler.EnqueueRequestsFromMapFunc(r.ofTemplate)).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(r.ofEndpoints))
	for kind, has := range map[string]*bool{"HTTPRoute": &r.hasRoute, "GRPCRoute": &r.hasGRPC} {
		gvk := routeKind(kind)
		if _, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
			if meta.IsNoMatchError(err) {
				// The cluster does not have this kind of route. Installing it
				// later takes a restart, as with every watch.
				continue
			}
			return fmt.Errorf("looking for %s: %w", kind, err)
		}
		*has = true
		route := &unstructured.Unstructured{}
		route.SetGroupVersionKind(gvk)
		ctx := context.Background() //nolint:forbidigo // as in index
		if err := mgr.GetFieldIndexer().IndexField(ctx, route, indexForeign, foreignBackends); err != nil {
			return fmt.Errorf("indexing %s by %s: %w", kind, indexForeign, err)
		}
		b = b.Watches(route, handler.EnqueueRequestsFromMapFunc(r.ofNamespace))
	}
	if r.options.Answered != nil {
		b = b.WatchesRawSource(answers(r.options.Answered))
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("starting the watches of Canaries: %w", err)
	}
	return nil
}

func index(mgr ctrl.Manager) error {
	ctx := context.Background() //nolint:forbidigo // registering an index only uses it to start an informer, which the manager stops
	// Releases wake nobody; they are only read, and the first pass must not wait for them.
	if _, err := mgr.GetCache().GetInformer(ctx, &v1beta1.Release{}, cache.BlockUntilSynced(false)); err != nil {
		return fmt.Errorf("watching Releases: %w", err)
	}
	for _, i := range []struct {
		object client.Object
		field  string
		of     client.IndexerFunc
	}{
		{&appsv1.ReplicaSet{}, indexOwner, func(o client.Object) []string {
			if owner := metav1.GetControllerOf(o); owner != nil {
				return []string{string(owner.UID)}
			}
			return nil
		}},
		{&v1beta1.Canary{}, indexTarget, func(o client.Object) []string {
			return []string{o.(*v1beta1.Canary).Spec.Target.Name}
		}},
		{&autoscalingv2.HorizontalPodAutoscaler{}, indexTarget, func(o client.Object) []string {
			if ref := o.(*autoscalingv2.HorizontalPodAutoscaler).Spec.ScaleTargetRef; ref.Kind == "Deployment" {
				return []string{ref.Name}
			}
			return nil
		}},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, i.object, i.field, i.of); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", i.object, i.field, err)
		}
	}
	return nil
}

// answers puts the Canaries of which the measurer has news into the queue, until the manager ends.
func answers(from <-chan types.NamespacedName) source.Func {
	return func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case key, open := <-from:
					if !open {
						return
					}
					queue.Add(reconcile.Request{NamespacedName: key})
				}
			}
		}()
		return nil
	}
}

func (r *reconciler) ofDeployment(ctx context.Context, o client.Object) []reconcile.Request {
	return r.targeting(ctx, o.GetNamespace(), o.GetName())
}

func (r *reconciler) ofScaler(ctx context.Context, o client.Object) []reconcile.Request {
	return r.targeting(ctx, o.GetNamespace(), o.(*autoscalingv2.HorizontalPodAutoscaler).Spec.ScaleTargetRef.Name)
}

func (r *reconciler) ofReplicaSet(ctx context.Context, o client.Object) []reconcile.Request {
	owner := metav1.GetControllerOf(o)
	switch {
	case owner == nil:
		return nil
	case owner.Kind == "Canary":
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}}}
	}
	return r.targeting(ctx, o.GetNamespace(), owner.Name)
}

func (r *reconciler) targeting(ctx context.Context, namespace, deployment string) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(namespace), client.MatchingFields{indexTarget: deployment})
}

// ofNamespace wakes every Canary of the object's namespace: any of them may be
// looking for it, or may have put something on it. At rest that is a pass in the
// cache without an API request.
func (r *reconciler) ofNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(o.GetNamespace()))
}

// ofEndpoints wakes the Canaries that are releasing through the Service.
func (r *reconciler) ofEndpoints(ctx context.Context, o client.Object) []reconcile.Request {
	service := o.GetLabels()[discoveryv1.LabelServiceName]
	list := r.canaries(ctx, client.InNamespace(o.GetNamespace()))
	list = slices.DeleteFunc(list, func(c v1beta1.Canary) bool {
		return !underway(&c) || service != c.Status.Service && service != twinName(c.Status.Service)
	})
	return requestsFor(list)
}

func (r *reconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	return requestsFor(r.canaries(ctx, options...))
}

func (r *reconciler) canaries(ctx context.Context, options ...client.ListOption) []v1beta1.Canary {
	list := &v1beta1.CanaryList{}
	// The event must not wait for writes; what is not in the cache yet has its
	// own event coming.
	options = append(options, client.DisableReadYourWritesConsistency, client.UnsafeDisableDeepCopy)
	if err := r.client.List(ctx, list, options...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing Canaries for a change")
		return nil
	}
	return list.Items
}

func requestsFor(list []v1beta1.Canary) []reconcile.Request {
	out := make([]reconcile.Request, len(list))
	for i := range list {
		out[i].NamespacedName = types.NamespacedName{Namespace: list[i].Namespace, Name: list[i].Name}
	}
	return out
}
