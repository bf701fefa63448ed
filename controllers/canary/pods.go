// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/controllers/rollout"
)

// What the Deployment controller keeps on its ReplicaSets. A ReplicaSet with
// them is saturated the moment it is adopted.
const (
	annotationDesired = "deployment.kubernetes.io/desired-replicas"
	annotationMax     = "deployment.kubernetes.io/max-replicas"
)

func ownerOf(o client.Object, apiVersion, kind string) metav1.OwnerReference {
	yes := true
	if isNil(o) {
		return metav1.OwnerReference{}
	}
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes}
}

// counts are the annotations for the Deployment's present size.
func counts(d *appsv1.Deployment) map[string]string {
	n := replicas(d.Spec.Replicas)
	surge := 0
	if u := d.Spec.Strategy.RollingUpdate; u != nil && u.MaxSurge != nil {
		// The API server has checked the value; an unreadable one counts as 0.
		surge, _ = intstr.GetScaledValueFromIntOrPercent(u.MaxSurge, int(n), true)
	}
	return map[string]string{annotationDesired: strconv.Itoa(int(n)), annotationMax: strconv.Itoa(int(n) + surge)}
}

func (r *reconciler) ensureReplicaSet(ctx context.Context, w *world, a rollout.EnsureCanaryReplicaSet) error {
	rs := w.sets[a.Hash]
	if rs == nil {
		if a.Replicas == 0 {
			return nil
		}
		return r.createReplicaSet(ctx, w, a)
	}
	ops := []operation{{"replace", "/spec/replicas", a.Replicas}}
	if w.target != nil {
		for _, key := range []string{annotationDesired, annotationMax} {
			ops = append(ops, operation{"add", "/metadata/annotations/" + escape(key), counts(w.target)[key]})
		}
	}
	return r.patch(ctx, rs, ops)
}

// createReplicaSet takes the template from the API server as it is stored, so
// that fields this program does not know survive: the Deployment controller must
// find it equal.
func (r *reconciler) createReplicaSet(ctx context.Context, w *world, a rollout.EnsureCanaryReplicaSet) error {
	if w.target == nil {
		return errChanged
	}
	stored := &unstructured.Unstructured{}
	stored.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(w.target), stored); err != nil {
		return fmt.Errorf("reading the stored Deployment: %w", err)
	}
	known := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(stored.Object, known); err != nil {
		return fmt.Errorf("reading the stored Deployment: %w", err)
	}
	if digest(known.Spec.Template) != w.seen.Target.Template || known.UID != w.target.UID {
		return errChanged
	}
	spec := stored.Object["spec"].(map[string]any)
	template := runtime.DeepCopyJSON(spec["template"].(map[string]any))
	if err := unstructured.SetNestedField(template, a.Hash, "metadata", "labels", hashKey); err != nil {
		return fmt.Errorf("labelling the template: %w", err)
	}
	selector := runtime.DeepCopyJSON(spec["selector"].(map[string]any))
	if err := unstructured.SetNestedField(selector, a.Hash, "matchLabels", hashKey); err != nil {
		return fmt.Errorf("narrowing the selector: %w", err)
	}
	labels, _, _ := unstructured.NestedStringMap(template, "metadata", "labels")
	rs := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"replicas": int64(a.Replicas), "selector": selector, "template": template,
		"minReadySeconds": int64(known.Spec.MinReadySeconds),
	}}}
	rs.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	rs.SetNamespace(w.target.Namespace)
	rs.SetName(w.target.Name + "-" + a.Hash)
	rs.SetLabels(labels)
	rs.SetAnnotations(counts(known))
	rs.SetOwnerReferences([]metav1.OwnerReference{ownerOf(w.canary, "headgate.dev/v1beta1", "Canary")})
	return r.foreign(ctx, w, rs, r.client.Create(ctx, rs, client.FieldOwner(fieldManager)))
}

// foreign tells a name that is taken from one that was created a moment ago.
func (r *reconciler) foreign(ctx context.Context, w *world, rs *unstructured.Unstructured, err error) error {
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	there := &metav1.PartialObjectMetadata{}
	there.SetGroupVersionKind(rs.GroupVersionKind())
	if live := r.live.Get(ctx, client.ObjectKeyFromObject(rs), there); live != nil || metav1.IsControlledBy(there, w.canary) {
		return err
	}
	return foreignError(fmt.Sprintf("ReplicaSet %q exists already and is not Headgate's: delete it or apply another version", rs.GetName()))
}

func (r *reconciler) reown(ctx context.Context, w *world, hash string, owner metav1.OwnerReference) error {
	rs := w.sets[hash]
	if rs == nil || w.target == nil || owner.UID == "" {
		return errChanged
	}
	ops := []operation{
		{"test", "/metadata/ownerReferences", rs.OwnerReferences},
		{"replace", "/metadata/ownerReferences", []metav1.OwnerReference{owner}},
	}
	if rs.Annotations == nil {
		ops = append(ops, operation{"add", "/metadata/annotations", map[string]string{}})
	}
	for _, key := range []string{annotationDesired, annotationMax} {
		ops = append(ops, operation{"add", "/metadata/annotations/" + escape(key), counts(w.target)[key]})
	}
	return r.patch(ctx, rs, ops)
}

func (r *reconciler) mergeHistory(ctx context.Context, w *world, names []string) error {
	for _, name := range names {
		rs := w.byName[name]
		if rs == nil || replicas(rs.Spec.Replicas) != 0 || rs.Status.Replicas != 0 {
			return errChanged
		}
		if err := r.remove(ctx, rs); err != nil {
			return err
		}
	}
	return nil
}

// scalerRecord is what AnnotationRelease keeps on an autoscaler: its behaviour
// as the user wrote it, null where there was none.
type scalerRecord struct {
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
}

func (r *reconciler) holdScalers(ctx context.Context, w *world) error {
	for _, h := range w.scalers {
		if scaleDownDisabled(h) && recordOf[scalerRecord](h, w.canary.Name) != nil {
			continue
		}
		record := scalerRecord{Behavior: h.Spec.Behavior}
		ops, err := setRecord(h, w.canary.Name, record)
		if err != nil {
			return err
		}
		held := h.Spec.Behavior.DeepCopy()
		if held == nil {
			held = &autoscalingv2.HorizontalPodAutoscalerBehavior{}
		}
		if held.ScaleDown == nil {
			held.ScaleDown = &autoscalingv2.HPAScalingRules{}
		}
		off := autoscalingv2.DisabledPolicySelect
		held.ScaleDown.SelectPolicy = &off
		if err := r.patch(ctx, h, append(ops, operation{"add", "/spec/behavior", held})); err != nil {
			return fmt.Errorf("HorizontalPodAutoscaler %s: %w", h.Name, err)
		}
	}
	return nil
}

func (r *reconciler) restoreScalers(ctx context.Context, w *world) error {
	for _, h := range w.scalers {
		raw, traces := records(h)[w.canary.Name]
		if !traces {
			continue
		}
		var record scalerRecord
		if err := json.Unmarshal(raw, &record); err != nil {
			record = scalerRecord{}
		}
		after, err := r.patched(ctx, h, restoredBehavior(h, record))
		if err != nil || after == nil {
			return err
		}
		fields, err := r.fields(ctx, after)
		if err != nil {
			return err
		}
		if err := r.release(ctx, w, after, fields); err != nil {
			return fmt.Errorf("HorizontalPodAutoscaler %s: %w", h.Name, err)
		}
	}
	return nil
}

// restoredBehavior brings back what the user wrote. What was changed by somebody
// else during the release stays.
func restoredBehavior(h *autoscalingv2.HorizontalPodAutoscaler, record scalerRecord) []operation {
	if !scaleDownDisabled(h) {
		return nil
	}
	original := record.Behavior
	if original == nil {
		if !equality.Semantic.DeepEqual(h.Spec.Behavior.ScaleUp, defaultScaleUp()) && h.Spec.Behavior.ScaleUp != nil {
			// Rules for scaling up came in between; only ours go.
			return []operation{{"replace", "/spec/behavior/scaleDown/selectPolicy", autoscalingv2.MaxChangePolicySelect}}
		}
		return []operation{{"remove", "/spec/behavior", nil}}
	}
	policy := autoscalingv2.MaxChangePolicySelect
	if original.ScaleDown != nil && original.ScaleDown.SelectPolicy != nil {
		policy = *original.ScaleDown.SelectPolicy
	}
	return []operation{{"replace", "/spec/behavior/scaleDown/selectPolicy", policy}}
}

// defaultScaleUp is what the API server fills in where behavior has no scaleUp.
func defaultScaleUp() *autoscalingv2.HPAScalingRules {
	zero, policy := int32(0), autoscalingv2.MaxChangePolicySelect
	return &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: &zero, SelectPolicy: &policy,
		Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		},
	}
}
