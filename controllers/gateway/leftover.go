// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
)

// +kubebuilder:rbac:groups="",resources=services,verbs=delete
// +kubebuilder:rbac:groups=apps,resources=deployments;daemonsets,verbs=delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=delete

// removeLeftovers removes what runs proxies of a Gateway that moved to another class, and
// what its ProxyConfig asks for no longer. With a Gateway that is deleted its objects go
// by themselves; one that moves leaves them behind. What does not run (ConfigMap, Secret, ServiceAccount) goes with the
// Gateway, so that nobody needs the right to delete Secrets.
func (r *reconciler) removeLeftovers(ctx context.Context, seen graph.Resources) error {
	objects, err := r.running(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, o := range objects {
		if !r.leftOver(o, seen) {
			continue
		}
		uid := o.GetUID()
		err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			failures = append(failures, fmt.Errorf("removing %T %s, which its Gateway does not need any more: %w", o, client.ObjectKeyFromObject(o), err))
		}
	}
	return errors.Join(failures...)
}

// serves tells whether the proxies of a Gateway of ours take traffic.
func (r *reconciler) serves(gateway types.NamespacedName) bool {
	p := r.proxies[gateway]
	return p.problem == "" && p.ready > 0
}

// running lists what runs proxies: first what brings them traffic, then the proxies.
func (r *reconciler) running(ctx context.Context) ([]client.Object, error) {
	var objects []client.Object
	ours := client.MatchingLabels{v1beta1.LabelManagedBy: v1beta1.ManagedBy}
	budgets := &metav1.PartialObjectMetadataList{}
	budgets.SetGroupVersionKind(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudgetList"))
	for _, k := range []struct {
		list             client.ObjectList
		apiVersion, kind string
	}{
		{&corev1.ServiceList{}, "v1", "Service"},
		{&autoscalingv2.HorizontalPodAutoscalerList{}, "autoscaling/v2", "HorizontalPodAutoscaler"},
		{&appsv1.DeploymentList{}, "apps/v1", "Deployment"},
		{&appsv1.DaemonSetList{}, "apps/v1", "DaemonSet"},
		{budgets, "policy/v1", "PodDisruptionBudget"},
	} {
		if err := r.client.List(ctx, k.list, ours, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing what runs proxies: %w", err)
		}
		err := meta.EachListItem(k.list, func(o runtime.Object) error {
			item, err := meta.Accessor(o)
			if err != nil {
				return err
			}
			object := metadata(k.apiVersion, k.kind) // the items of a list lack their kind
			object.Namespace, object.Name, object.UID = item.GetNamespace(), item.GetName(), item.GetUID()
			object.OwnerReferences = item.GetOwnerReferences()
			objects = append(objects, object)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing what runs proxies: %w", err)
		}
	}
	return objects, nil
}

// leftOver tells whether an object belongs to a Gateway that is served by another
// controller, or by other proxies of ours that are ready. A class that is missing
// says neither: it may have been deleted by mistake, and the proxies serve on.
func (r *reconciler) leftOver(o client.Object, seen graph.Resources) bool {
	owner := metav1.GetControllerOf(o)
	if owner == nil || !gatewayKind(owner) {
		return false
	}
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}
	gw := seen.Gateways[key]
	if gw == nil || gw.UID != owner.UID {
		return false
	}
	class := seen.GatewayClasses[string(gw.Spec.GatewayClassName)]
	switch {
	case class == nil:
		return false
	case string(class.Spec.ControllerName) != r.controller:
		return true
	}
	if o.GetName() != infra.Name(key, string(gw.Spec.GatewayClassName)) {
		return r.serves(key)
	}
	return r.notWanted(key, o)
}

// notWanted tells whether a Gateway was set up without an object. What runs proxies
// stays until those that take its place are ready.
func (r *reconciler) notWanted(gateway types.NamespacedName, o client.Object) bool {
	p := r.proxies[gateway]
	kind := o.GetObjectKind().GroupVersionKind().Kind
	if p.problem != "" || p.wanted == nil || p.wanted[objectKey{kind: kind, NamespacedName: client.ObjectKeyFromObject(o)}] {
		return false
	}
	return p.complete || kind != "Deployment" && kind != "DaemonSet"
}
