// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// The keys of the queue.
var (
	worldKey  = reconcile.Request{NamespacedName: types.NamespacedName{Name: "world"}}
	statusKey = reconcile.Request{NamespacedName: types.NamespacedName{Name: "status"}}
)

// CacheByObject limits what the manager's cache keeps to what is ours: of the
// kinds that only belong to a proxy's infrastructure, those that Headgate made.
func CacheByObject() map[client.Object]cache.ByObject {
	managed := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1beta1.LabelManagedBy: v1beta1.ManagedBy})}
	return map[client.Object]cache.ByObject{
		&corev1.ConfigMap{}:             managed,
		&corev1.ServiceAccount{}:        managed,
		&policyv1.PodDisruptionBudget{}: managed,
		&appsv1.DaemonSet{}:             managed,
	}
}

// worldSources are the watches of the proxies' infrastructure. Each lets pass only what that
// depends on, or what is told of it in statuses.
func worldSources(c cache.Cache, happened *news) []source.Source {
	return []source.Source{
		watch(c, happened, &appsv1.Deployment{}, predicate.And(managed(), onUpdate(deploymentNews))),
		watch(c, happened, &appsv1.DaemonSet{}, predicate.And(managed(), onUpdate(daemonSetNews))),
		watch(c, happened, &autoscalingv2.HorizontalPodAutoscaler{}, predicate.And(managed(), onUpdate(autoscalerNews))),
		watch(c, happened, metadata("v1", "ConfigMap"), predicate.NewPredicateFuncs(isManaged)),
		watch(c, happened, metadata("v1", "ServiceAccount"), predicate.NewPredicateFuncs(isManaged)),
		watch(c, happened, metadata("policy/v1", "PodDisruptionBudget"), predicate.And(managed(),
			predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))),
	}
}

func watch(c cache.Cache, happened *news, obj client.Object, p ...predicate.Predicate) source.Source {
	return source.Kind(c, obj, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		happened.infrastructure(o)
		happened.wake()
		return []reconcile.Request{worldKey}
	}), p...)
}

// waking asks for a pass over the world, and calls noted before.
func waking(noted func()) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		noted()
		return []reconcile.Request{worldKey}
	})
}

// metadata watches a kind without its contents.
func metadata(apiVersion, kind string) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind))
	return m
}

func isManaged(o client.Object) bool {
	return o.GetLabels()[v1beta1.LabelManagedBy] == v1beta1.ManagedBy
}

// managed lets pass what is ours, and what was until somebody took our label away.
func managed() predicate.Predicate {
	p := predicate.NewPredicateFuncs(isManaged)
	return predicate.Funcs{
		CreateFunc: p.Create, DeleteFunc: p.Delete, GenericFunc: p.Generic,
		UpdateFunc: func(e event.UpdateEvent) bool { return isManaged(e.ObjectOld) || isManaged(e.ObjectNew) },
	}
}

func onUpdate(news func(before, after client.Object) bool) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return news(e.ObjectOld, e.ObjectNew) }}
}

// serviceNews is true when what routes and Gateways read of a Service changed.
func serviceNews(before, after client.Object) bool {
	a, okA := before.(*corev1.Service)
	b, okB := after.(*corev1.Service)
	return !okA || !okB || !equality.Semantic.DeepEqual(a.Spec, b.Spec) ||
		!equality.Semantic.DeepEqual(a.Status.LoadBalancer, b.Status.LoadBalancer) ||
		(isManaged(a) || isManaged(b)) && metadataNews(a, b)
}

func deploymentNews(before, after client.Object) bool {
	a, okA := before.(*appsv1.Deployment)
	b, okB := after.(*appsv1.Deployment)
	return !okA || !okB || a.Generation != b.Generation || metadataNews(a, b) || a.Status.ReadyReplicas != b.Status.ReadyReplicas ||
		a.Status.UpdatedReplicas != b.Status.UpdatedReplicas || a.Status.ObservedGeneration != b.Status.ObservedGeneration
}

func daemonSetNews(before, after client.Object) bool {
	a, okA := before.(*appsv1.DaemonSet)
	b, okB := after.(*appsv1.DaemonSet)
	return !okA || !okB || a.Generation != b.Generation || !equality.Semantic.DeepEqual(a.Status, b.Status) || metadataNews(a, b)
}

func autoscalerNews(before, after client.Object) bool {
	a, okA := before.(*autoscalingv2.HorizontalPodAutoscaler)
	b, okB := after.(*autoscalingv2.HorizontalPodAutoscaler)
	return !okA || !okB || !equality.Semantic.DeepEqual(a.Spec, b.Spec) || metadataNews(a, b)
}

func metadataNews(a, b client.Object) bool {
	return !equality.Semantic.DeepEqual(a.GetLabels(), b.GetLabels()) || !equality.Semantic.DeepEqual(a.GetAnnotations(), b.GetAnnotations())
}

// serviceLabel on an EndpointSlice names its Service.
const serviceLabel = discoveryv1.LabelServiceName

func newSlice() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} }

// endpointSources wake the endpoints of one Service each.
func endpointSources(c cache.Cache) []source.Source {
	bySlice := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		name := o.GetLabels()[serviceLabel]
		if name == "" {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
	})
	return []source.Source{
		source.Kind(c, client.Object(newSlice()), bySlice),
		source.Kind(c, client.Object(&corev1.Service{}), &handler.EnqueueRequestForObject{}, onUpdate(serviceNews)),
	}
}

// Changes carries news from the proxies to the reconciler. Notify never blocks:
// news that has not been looked at yet stands for all that follow.
type Changes struct{ events chan event.GenericEvent }

// NewChanges makes a Changes with no news.
func NewChanges() *Changes { return &Changes{events: make(chan event.GenericEvent, 1)} }

// Notify says that the state of a gateway's proxies changed.
func (c *Changes) Notify(types.NamespacedName) {
	select {
	case c.events <- event.GenericEvent{Object: &gwv1.Gateway{}}:
	default:
	}
}

// notifyAfter is Notify after a time.
func (c *Changes) notifyAfter(d time.Duration) {
	time.AfterFunc(d, func() { c.Notify(types.NamespacedName{}) })
}

func (c *Changes) source() source.Source {
	return source.Channel(c.events, handler.EnqueueRequestsFromMapFunc(
		func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{statusKey} }))
}
