// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=patch
// +kubebuilder:rbac:groups=apps,resources=deployments/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=replicasets,verbs=create;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=patch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes;grpcroutes,verbs=patch

// apply carries the actions out in order and ends at the first that fails.
func (r *reconciler) apply(ctx context.Context, w *world, actions []rollout.Action) error {
	for _, a := range actions {
		if err := r.act(ctx, w, a); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimPrefix(fmt.Sprintf("%T", a), "rollout."), err)
		}
	}
	return nil
}

func (r *reconciler) act(ctx context.Context, w *world, action rollout.Action) error {
	switch a := action.(type) {
	case rollout.EnsureFinalizer:
		return r.finalize(ctx, w, true)
	case rollout.EnsureFinalizerRemoved:
		return r.finalize(ctx, w, false)
	case rollout.ClearCommand:
		return r.clearCommand(ctx, w, a)
	case rollout.EnsureHoldLabel:
		return r.patch(ctx, w.target, setLabel(w.target, v1beta1.LabelHold, w.canary.Name))
	case rollout.EnsureHoldLabelRemoved:
		return r.patch(ctx, w.target, append(dropLabel(w.target, v1beta1.LabelHold), dropAnnotation(w.target, v1beta1.AnnotationHeld)...))
	case rollout.EnsureUnpaused:
		return r.unpause(ctx, w)
	case rollout.ClearBypass:
		return r.patch(ctx, w.target, dropAnnotation(w.target, v1beta1.AnnotationBypass))
	case rollout.EnsureServiceNarrowed:
		return r.narrow(ctx, w, a.Hash)
	case rollout.EnsureServiceRestored:
		return r.widen(ctx, w)
	case rollout.EnsureCanaryService:
		return r.ensureTwin(ctx, w, a.Hash)
	case rollout.EnsureCanaryServiceRemoved:
		return r.remove(ctx, w.twin)
	case rollout.EnsureCanaryReplicaSet:
		return r.ensureReplicaSet(ctx, w, a)
	case rollout.EnsureCanaryRemoved:
		if rs := w.sets[a.Hash]; rs != nil {
			return r.remove(ctx, rs)
		}
		return nil
	case rollout.EnsureHistoryMerged:
		return r.mergeHistory(ctx, w, a.Names)
	case rollout.EnsureHandedOver:
		return r.reown(ctx, w, a.Hash, ownerOf(w.target, "apps/v1", "Deployment"))
	case rollout.EnsureTakenBack:
		return r.reown(ctx, w, a.Hash, ownerOf(w.canary, v1beta1.GroupVersion.String(), "Canary"))
	case rollout.EnsureWeights:
		return r.shiftRoutes(ctx, w, a)
	case rollout.EnsureRoutesRestored:
		return r.restoreRoutes(ctx, w)
	case rollout.EnsureScaleDownHeld:
		return r.holdScalers(ctx, w)
	case rollout.EnsureScaleDownRestored:
		return r.restoreScalers(ctx, w)
	}
	panic(fmt.Sprintf("rollout decided %T, which nothing carries out", action)) // a test has one of each
}

// operation is one operation of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// MarshalJSON keeps a value that is empty, and leaves it out of a removal.
func (o operation) MarshalJSON() ([]byte, error) {
	m := map[string]any{"op": o.Op, "path": o.Path}
	if o.Op != "remove" {
		m["value"] = o.Value
	}
	return json.Marshal(m)
}

// patch writes operations on the very object that was read: if it changed in
// the meantime the write fails and the next pass looks again.
func (r *reconciler) patch(ctx context.Context, o client.Object, operations []operation) error {
	_, err := r.patched(ctx, o, operations)
	return err
}

// patched is patch, and gives the object as it is after it.
func (r *reconciler) patched(ctx context.Context, o client.Object, operations []operation) (client.Object, error) {
	if isNil(o) {
		return nil, errChanged
	}
	after := o.DeepCopyObject().(client.Object)
	if len(operations) == 0 {
		return after, nil
	}
	lock := operation{"replace", "/metadata/resourceVersion", o.GetResourceVersion()}
	body, err := json.Marshal(append([]operation{lock}, operations...))
	if err != nil {
		return nil, fmt.Errorf("encoding a patch: %w", err)
	}
	if err := r.client.Patch(ctx, after, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(fieldManager)); err != nil {
		return nil, ignoreMissing(err)
	}
	// Later writes of this pass start from here.
	o.SetResourceVersion(after.GetResourceVersion())
	return after, nil
}

// isNil is true for an object that was not found in this pass.
func isNil(o client.Object) bool { return o == nil || reflect.ValueOf(o).IsNil() }

// escape makes a map key a part of a JSON pointer (RFC 6901).
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

func setLabel(o client.Object, key, value string) []operation {
	return setEntry("/metadata/labels", o.GetLabels(), key, value)
}

func dropLabel(o client.Object, key string) []operation {
	return dropEntry("/metadata/labels", o.GetLabels(), key)
}

func setAnnotation(o client.Object, key, value string) []operation {
	return setEntry("/metadata/annotations", o.GetAnnotations(), key, value)
}

func dropAnnotation(o client.Object, key string) []operation {
	return dropEntry("/metadata/annotations", o.GetAnnotations(), key)
}

// setEntry sets a key of the map at path, which is made where it is missing.
func setEntry(path string, present map[string]string, key, value string) []operation {
	var ops []operation
	if present == nil {
		ops = append(ops, operation{"add", path, map[string]string{}})
	}
	return append(ops, operation{"add", path + "/" + escape(key), value})
}

// dropEntry removes a key of the map at path; JSON Patch refuses one that is not there.
func dropEntry(path string, present map[string]string, key string) []operation {
	if _, ok := present[key]; !ok {
		return nil
	}
	return []operation{{"remove", path + "/" + escape(key), nil}}
}

// setRecord writes this Canary's entry of AnnotationRelease; nil removes it.
func setRecord(o client.Object, canary string, record any) ([]operation, error) {
	all := records(o)
	delete(all, canary)
	if record != nil {
		raw, err := json.Marshal(record)
		if err != nil {
			return nil, fmt.Errorf("encoding the record of a release: %w", err)
		}
		all[canary] = raw
	}
	if len(all) == 0 {
		return dropAnnotation(o, v1beta1.AnnotationRelease), nil
	}
	value, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encoding the record of a release: %w", err)
	}
	if string(value) == o.GetAnnotations()[v1beta1.AnnotationRelease] {
		return nil, nil
	}
	return setAnnotation(o, v1beta1.AnnotationRelease, string(value)), nil
}

// release removes the record and, in the same write, Headgate's entries of
// managedFields: what the user wrote must be the user's to apply, without a
// conflict with a manager that is gone. The record goes last, so that a crash
// before this write repeats it.
func (r *reconciler) release(ctx context.Context, w *world, o client.Object, fields []metav1.ManagedFieldsEntry) error {
	ops, err := setRecord(o, w.canary.Name, nil)
	if err != nil {
		return err
	}
	others := records(o)
	delete(others, w.canary.Name)
	if len(others) == 0 {
		ops = append(ops, disown(fields)...)
	}
	return r.patch(ctx, o, ops)
}

func disown(fields []metav1.ManagedFieldsEntry) []operation {
	kept := []any{}
	for _, f := range fields {
		if f.Manager != fieldManager || f.Subresource != "" {
			kept = append(kept, f)
		}
	}
	switch len(kept) {
	case len(fields):
		return nil
	case 0:
		kept = append(kept, map[string]any{}) // an empty list would be taken for "unchanged"
	}
	return []operation{{"replace", "/metadata/managedFields", kept}}
}

// fields reads the managedFields of an object from the API server: caches leave
// them out.
func (r *reconciler) fields(ctx context.Context, o client.Object) ([]metav1.ManagedFieldsEntry, error) {
	if f := o.GetManagedFields(); len(f) > 0 {
		return f, nil
	}
	m := &metav1.PartialObjectMetadata{}
	gvk, err := r.client.GroupVersionKindFor(o)
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %s: %w", o.GetName(), err)
	}
	m.SetGroupVersionKind(gvk)
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(o), m); err != nil {
		return nil, ignoreMissing(err)
	}
	if m.ResourceVersion != o.GetResourceVersion() {
		return nil, errChanged
	}
	return m.ManagedFields, nil
}

func (r *reconciler) finalize(ctx context.Context, w *world, want bool) error {
	next := w.canary.DeepCopy()
	if want {
		controllerutil.AddFinalizer(next, v1beta1.Finalizer)
	} else {
		controllerutil.RemoveFinalizer(next, v1beta1.Finalizer)
	}
	patch := client.MergeFromWithOptions(w.canary, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, next, patch, client.FieldOwner(fieldManager)); err != nil {
		return ignoreMissing(err)
	}
	w.canary.ResourceVersion = next.ResourceVersion
	return nil
}

func (r *reconciler) clearCommand(ctx context.Context, w *world, a rollout.ClearCommand) error {
	path := "/metadata/annotations/" + escape(v1beta1.AnnotationCommand)
	ops := []operation{{"test", path, a.Value}, {"remove", path, nil}}
	return r.patch(ctx, w.canary, append(ops, dropAnnotation(w.canary, v1beta1.AnnotationCommandBy)...))
}

func (r *reconciler) unpause(ctx context.Context, w *world) error {
	if w.target == nil {
		return nil
	}
	ops := dropAnnotation(w.target, v1beta1.AnnotationHeld)
	if w.target.Spec.Paused {
		ops = append(ops, operation{"test", "/spec/paused", true}, operation{"remove", "/spec/paused", nil})
	}
	return r.patch(ctx, w.target, ops)
}

func (r *reconciler) remove(ctx context.Context, o client.Object) error {
	if isNil(o) {
		return nil
	}
	uid, version := o.GetUID(), o.GetResourceVersion()
	return ignoreMissing(r.client.Delete(ctx, o, client.PropagationPolicy(metav1.DeletePropagationBackground),
		client.Preconditions{UID: &uid, ResourceVersion: &version}))
}

// serviceRecord is what AnnotationRelease keeps on the Service.
type serviceRecord struct {
	Canary string `json:"canary"`
}

func (r *reconciler) narrow(ctx context.Context, w *world, hash string) error {
	if w.service == nil {
		return errChanged
	}
	ops, err := setRecord(w.service, w.canary.Name, serviceRecord{Canary: twinName(w.service.Name)})
	if err != nil {
		return err
	}
	if w.service.Spec.Selector[hashKey] != hash {
		ops = append(ops, operation{"add", "/spec/selector/" + hashKey, hash})
	}
	return r.patch(ctx, w.service, ops)
}

func (r *reconciler) widen(ctx context.Context, w *world) error {
	if w.service == nil {
		return nil
	}
	var ops []operation
	if _, ok := w.service.Spec.Selector[hashKey]; ok {
		ops = append(ops, operation{"remove", "/spec/selector/" + hashKey, nil})
	}
	after, err := r.patched(ctx, w.service, ops)
	if err != nil || after == nil {
		return err
	}
	fields, err := r.fields(ctx, after)
	if err != nil {
		return err
	}
	return r.release(ctx, w, after, fields)
}

func (r *reconciler) ensureTwin(ctx context.Context, w *world, hash string) error {
	if w.service == nil {
		return errChanged
	}
	spec := twinSpec(w.service, hash)
	if w.twin == nil {
		twin := &corev1.Service{Spec: spec}
		twin.Namespace, twin.Name = w.canary.Namespace, twinName(w.service.Name)
		twin.Labels = map[string]string{v1beta1.LabelManagedBy: v1beta1.ManagedBy, v1beta1.LabelHold: w.canary.Name}
		twin.OwnerReferences = []metav1.OwnerReference{ownerOf(w.canary, v1beta1.GroupVersion.String(), "Canary")}
		return r.client.Create(ctx, twin, client.FieldOwner(fieldManager))
	}
	next := w.twin.DeepCopy()
	spec.ClusterIP, spec.ClusterIPs = next.Spec.ClusterIP, next.Spec.ClusterIPs
	next.Spec = spec
	patch := client.MergeFromWithOptions(w.twin, client.MergeFromWithOptimisticLock{})
	return r.client.Patch(ctx, next, patch, client.FieldOwner(fieldManager))
}

func (r *reconciler) shiftRoutes(ctx context.Context, w *world, a rollout.EnsureWeights) error {
	var failed []error
	for _, route := range w.routes {
		old := recordOf[routeRecord](route, w.canary.Name)
		if a.Closed != nil && old == nil && !carriesCanary(route, w.pair()) {
			continue // it never carried the canary
		}
		e := shift(route, w.pair(), old, a.Percent, a.Closed)
		if len(e.refs) == 0 {
			// The user leads it elsewhere: it is none of the release any more.
			if err := r.restoreRoute(ctx, w, route); err != nil {
				failed = append(failed, fmt.Errorf("%s %s: %w", route.GetKind(), route.GetName(), err))
			}
			continue
		}
		ops := refsOperations(route, e)
		record, err := setRecord(route, w.canary.Name, e.record)
		if err == nil {
			err = r.patch(ctx, route, append(ops, record...))
		}
		if err != nil {
			// One route that cannot be written must not keep traffic on the
			// canary through the others.
			failed = append(failed, fmt.Errorf("%s %s: %w", route.GetKind(), route.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

// carriesCanary is true where a rule has both backends of the pair. A rule with
// the canary's alone is the user's own, for testers for example.
func carriesCanary(route *unstructured.Unstructured, pair backendPair) bool {
	for _, refs := range backendRefs(route) {
		if names(refs, pair.namespace, pair.stable) && names(refs, pair.namespace, pair.canary) {
			return true
		}
	}
	return false
}

func refsOperations(route *unstructured.Unstructured, e edit) []operation {
	var ops []operation
	for i, before := range backendRefs(route) {
		if after, ok := e.refs[i]; ok && !sameJSON(before, after) {
			path := fmt.Sprintf("/spec/rules/%d/backendRefs", i)
			ops = append(ops, operation{"test", path, before}, operation{"replace", path, after})
		}
	}
	return ops
}

func (r *reconciler) restoreRoutes(ctx context.Context, w *world) error {
	var failed []error
	for _, route := range w.routes {
		if err := r.restoreRoute(ctx, w, route); err != nil {
			failed = append(failed, fmt.Errorf("%s %s: %w", route.GetKind(), route.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

func (r *reconciler) restoreRoute(ctx context.Context, w *world, route *unstructured.Unstructured) error {
	record := recordOf[routeRecord](route, w.canary.Name)
	_, traces := records(route)[w.canary.Name]
	if !traces && !carriesCanary(route, w.pair()) {
		return nil
	}
	after, err := r.patched(ctx, route, refsOperations(route, restore(route, w.pair(), record)))
	if err != nil || after == nil {
		return err
	}
	fields, err := r.fields(ctx, after)
	if err != nil {
		return err
	}
	return r.release(ctx, w, after, fields)
}
