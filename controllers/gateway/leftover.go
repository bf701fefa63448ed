// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
)

// +kubebuilder:rbac:groups="",resources=services,verbs=delete
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=delete

// removeLeftovers removes what runs proxies of a Gateway that moved to another class.
// With a Gateway that is deleted its objects go by themselves; one that moves leaves
// them behind. What does not run (ConfigMap, Secret, ServiceAccount) goes with the
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
			failures = append(failures, fmt.Errorf("removing %T %s, which a Gateway of another class left behind: %w", o, client.ObjectKeyFromObject(o), err))
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
	services, deployments := &corev1.ServiceList{}, &appsv1.DeploymentList{}
	budgets := &metav1.PartialObjectMetadataList{}
	budgets.SetGroupVersionKind(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudgetList"))
	for _, list := range []client.ObjectList{services, deployments, budgets} {
		if err := r.client.List(ctx, list, ours, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing what runs proxies: %w", err)
		}
	}
	for i := range services.Items {
		objects = append(objects, &services.Items[i])
	}
	for i := range deployments.Items {
		objects = append(objects, &deployments.Items[i])
	}
	for i := range budgets.Items {
		budget := metadata("policy/v1", "PodDisruptionBudget") // the items of a list lack their kind
		budget.ObjectMeta = budgets.Items[i].ObjectMeta
		objects = append(objects, budget)
	}
	return objects, nil
}

// leftOver tells whether an object belongs to a Gateway that is served by another
// controller, or by other proxies of ours that are ready. A class that is missing
// says neither: it may have been deleted by mistake, and the proxies serve on.
func (r *reconciler) leftOver(o client.Object, seen graph.Resources) bool {
	owner := metav1.GetControllerOf(o)
	if owner == nil || owner.Kind != "Gateway" || !strings.HasPrefix(owner.APIVersion, gwv1.GroupName+"/") {
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
	return o.GetName() != infra.Name(key, string(gw.Spec.GatewayClassName)) && r.serves(key)
}
