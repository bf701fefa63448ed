// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/infra"
)

// ready tells how many proxies are ready, and whether they are all that there should be,
// each with the newest template.
func (r *reconciler) ready(ctx context.Context, objects infra.Objects, name types.NamespacedName) (ready int32, complete bool, err error) {
	if objects.DaemonSet != nil {
		set := &appsv1.DaemonSet{}
		if err := r.client.Get(ctx, name, set, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
			return 0, false, fmt.Errorf("reading DaemonSet %s: %w", name, err)
		}
		s := set.Status
		return s.NumberReady, s.ObservedGeneration == set.Generation && s.NumberReady > 0 &&
			s.NumberReady >= s.DesiredNumberScheduled && s.UpdatedNumberScheduled >= s.DesiredNumberScheduled, nil
	}
	deployment := &appsv1.Deployment{}
	if err := r.client.Get(ctx, name, deployment, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return 0, false, fmt.Errorf("reading Deployment %s: %w", name, err)
	}
	s, want := deployment.Status, int32(1)
	if deployment.Spec.Replicas != nil {
		want = *deployment.Spec.Replicas
	}
	return s.ReadyReplicas, s.ObservedGeneration == deployment.Generation && s.ReadyReplicas > 0 &&
		s.ReadyReplicas >= want && s.UpdatedReplicas >= want, nil
}

// replicasOwner holds the number of replicas between us and whoever scales next.
const replicasOwner = client.FieldOwner("headgate-gateway-replicas")

// leaveReplicas prepares that the number of a Deployment's replicas is no longer ours. A
// field whose only owner stops to apply it falls back to its default, here from any number
// to one pod; so the number that stands is given another owner first, and the autoscaler or
// the person who scales next takes it from there.
func (r *reconciler) leaveReplicas(ctx context.Context, gw *graph.Gateway, desired *appsv1.Deployment) error {
	if desired == nil || desired.Spec.Replicas != nil {
		return nil
	}
	key := objectKey{kind: "Deployment", NamespacedName: client.ObjectKeyFromObject(desired)}
	if last, known := r.applied[key]; known && !last.replicas {
		return nil // we did not own it
	}
	existing := &appsv1.Deployment{}
	if err := r.direct.Get(ctx, key.NamespacedName, existing); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("looking for Deployment %s: %w", key.NamespacedName, err)
	}
	if !metav1.IsControlledBy(existing, gw.Source) || existing.Spec.Replicas == nil || !ownsReplicas(existing) {
		return nil
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"namespace": key.Namespace, "name": key.Name},
		"spec":     map[string]any{"replicas": int64(*existing.Spec.Replicas)},
	}}
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), replicasOwner, client.ForceOwnership); err != nil {
		return fmt.Errorf("leaving the replicas of Deployment %s as they are: %w", key.NamespacedName, err)
	}
	return nil
}

// ownsReplicas tells whether we have applied the number of replicas.
func ownsReplicas(d *appsv1.Deployment) bool {
	for _, entry := range d.ManagedFields {
		if entry.Manager != string(fieldOwner) || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec struct {
				Replicas *struct{} `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err == nil && fields.Spec.Replicas != nil {
			return true
		}
	}
	return false
}
