// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// +kubebuilder:rbac:groups=apps,resources=deployments;replicasets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes;grpcroutes,verbs=get;list;watch

// world is the objects of one pass. They come from the cache and are not modified.
type world struct {
	canary  *v1beta1.Canary
	target  *appsv1.Deployment
	service *corev1.Service
	twin    *corev1.Service
	sets    map[string]*appsv1.ReplicaSet // by pod-template-hash
	byName  map[string]*appsv1.ReplicaSet
	routes  []*unstructured.Unstructured
	others  []*unstructured.Unstructured // of the namespace, that the spec leaves out
	scalers []*autoscalingv2.HorizontalPodAutoscaler
	seen    rollout.Observation
	hashes  map[string]string // by pod, where names do not tell; see hashOf
}

func (w *world) pair() backendPair {
	name := w.canary.Status.Service
	if w.service != nil {
		name = w.service.Name
	}
	return backendPair{namespace: w.canary.Namespace, stable: name, canary: twinName(name)}
}

// twinName is the name of the canary's Service. Of a name that would become too
// long for a Service the end is replaced by a digest.
func twinName(service string) string {
	const suffix, limit = "-canary", 63
	if len(service)+len(suffix) <= limit {
		return service + suffix
	}
	sum := sha256.Sum256([]byte(service))
	end := "-" + hex.EncodeToString(sum[:4]) + suffix
	return service[:limit-len(end)] + end
}

// gather reads the world of a Canary. A missing permission is an observation,
// every other failure an error.
func (r *reconciler) gather(ctx context.Context, c *v1beta1.Canary, now time.Time) (*world, error) {
	w := &world{canary: c, sets: map[string]*appsv1.ReplicaSet{}, byName: map[string]*appsv1.ReplicaSet{}}
	for _, read := range []func(context.Context, *world) error{
		r.gatherTarget, r.gatherReplicaSets, r.gatherRoutes, r.gatherServices, r.gatherScalers,
	} {
		if err := read(ctx, w); err != nil {
			if problem := forbidden(err); problem != nil {
				return &world{canary: c, seen: rollout.Observation{Problem: problem}}, nil
			}
			return nil, err
		}
	}
	if err := r.gatherVerdict(ctx, w, now); err != nil {
		return nil, err
	}
	return w, nil
}

func (r *reconciler) gatherTarget(ctx context.Context, w *world) error {
	d := &appsv1.Deployment{}
	key := types.NamespacedName{Namespace: w.canary.Namespace, Name: w.canary.Spec.Target.Name}
	if err := r.client.Get(ctx, key, d); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("reading Deployment %s: %w", key.Name, err))
	}
	if d.DeletionTimestamp != nil {
		return nil // its pods are on their way out
	}
	label, err := r.watcher(ctx, w, d)
	if err != nil {
		return err
	}
	_, held := d.Annotations[v1beta1.AnnotationHeld]
	_, bypass := d.Annotations[v1beta1.AnnotationBypass]
	w.target = d
	w.seen.Target = &rollout.Target{
		Template: digest(d.Spec.Template),
		Replicas: replicas(d.Spec.Replicas),
		Paused:   d.Spec.Paused,
		Held:     held,
		Label:    label,
		Bypass:   bypass,
	}
	return nil
}

// watcher is the Canary the Deployment is marked for; empty where the mark means
// nothing: that Canary is gone, or watches another Deployment this one was copied from.
func (r *reconciler) watcher(ctx context.Context, w *world, d *appsv1.Deployment) (string, error) {
	name := d.Labels[v1beta1.LabelHold]
	if name == "" || name == w.canary.Name {
		return name, nil
	}
	other := &v1beta1.Canary{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: d.Namespace, Name: name}, other)
	switch {
	case ignoreMissing(err) != nil:
		return "", fmt.Errorf("reading Canary %s: %w", name, err)
	case err != nil, other.Spec.Target.Name != d.Name:
		return "", nil
	}
	return name, nil
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// digest identifies a pod template; the hash label is the ReplicaSet's, not the user's.
func digest(t corev1.PodTemplateSpec) string {
	labels := maps.Clone(t.Labels)
	delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
	if len(labels) == 0 {
		labels = nil
	}
	t.Labels = labels
	b, err := json.Marshal(t)
	if err != nil {
		// A decoded template always encodes.
		panic(fmt.Sprintf("encoding a pod template: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

func (r *reconciler) gatherReplicaSets(ctx context.Context, w *world) error {
	owners := map[types.UID]rollout.Owner{w.canary.UID: rollout.OwnerCanary}
	if w.target != nil {
		owners[w.target.UID] = rollout.OwnerTarget
	}
	var all []appsv1.ReplicaSet
	for uid := range owners {
		list := &appsv1.ReplicaSetList{}
		if err := r.client.List(ctx, list, client.InNamespace(w.canary.Namespace), client.MatchingFields{indexOwner: string(uid)}); err != nil {
			return fmt.Errorf("listing ReplicaSets: %w", err)
		}
		all = append(all, list.Items...)
	}
	slices.SortFunc(all, func(a, b appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for i := range all {
		rs := &all[i]
		if rs.DeletionTimestamp != nil {
			continue
		}
		seen := rollout.ReplicaSet{
			Name: rs.Name, Hash: rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey], Template: digest(rs.Spec.Template),
			Owner:    owners[metav1.GetControllerOf(rs).UID],
			Replicas: replicas(rs.Spec.Replicas), Pods: rs.Status.Replicas, Ready: rs.Status.ReadyReplicas, Available: rs.Status.AvailableReplicas,
		}
		if rs.Status.ObservedGeneration < rs.Generation {
			// The count is of another spec: there may be pods it does not know of.
			seen.Pods = max(seen.Pods, 1)
		}
		if seen.Owner == rollout.OwnerCanary && seen.Ready < seen.Replicas {
			seen.Trouble, seen.Waiting = r.trouble(ctx, rs)
		}
		w.sets[seen.Hash], w.byName[rs.Name] = rs, rs
		w.seen.ReplicaSets = append(w.seen.ReplicaSets, seen)
	}
	return nil
}

// hopeless are the reasons for a waiting container that waiting does not mend.
var hopeless = []string{"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// trouble reads the pods of a ReplicaSet that is not ready and says what keeps
// one of them from running, or else what one waits for. Pods are not cached:
// they are only looked at here. Taking traffic back must not depend on it, so
// where they cannot be read, that is what is said.
func (r *reconciler) trouble(ctx context.Context, rs *appsv1.ReplicaSet) (trouble, waiting string) {
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			waiting = "a pod cannot be created: " + c.Message
		}
	}
	pods := &corev1.PodList{}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err == nil {
		err = r.live.List(ctx, pods, client.InNamespace(rs.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.Limit(50))
	}
	if err != nil {
		return "", cmp.Or(waiting, fmt.Sprintf("their pods cannot be read: %v", err))
	}
	for _, pod := range pods.Items {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if wait := s.State.Waiting; wait != nil && slices.Contains(hopeless, wait.Reason) {
				return strings.TrimSuffix(fmt.Sprintf("pod %s, container %s: %s: %s", pod.Name, s.Name, wait.Reason, lastWords(wait.Message, s)), ": "), ""
			}
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && waiting == "" {
				waiting = fmt.Sprintf("pod %s has no node: %s", pod.Name, c.Message)
			}
		}
	}
	return "", waiting
}

func lastWords(message string, s corev1.ContainerStatus) string {
	if end := s.LastTerminationState.Terminated; end != nil {
		return fmt.Sprintf("it ended with code %d (%s)", end.ExitCode, end.Reason)
	}
	return message
}

func (r *reconciler) gatherScalers(ctx context.Context, w *world) error {
	list := &autoscalingv2.HorizontalPodAutoscalerList{}
	if err := r.client.List(ctx, list, client.InNamespace(w.canary.Namespace), client.MatchingFields{indexTarget: w.canary.Spec.Target.Name}); err != nil {
		return fmt.Errorf("listing HorizontalPodAutoscalers: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b autoscalingv2.HorizontalPodAutoscaler) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list.Items {
		h := &list.Items[i]
		_, recorded := records(h)[w.canary.Name]
		w.scalers = append(w.scalers, h)
		w.seen.Scalers = append(w.seen.Scalers, rollout.Scaler{Name: h.Name, Held: recorded && scaleDownDisabled(h), Traces: recorded})
	}
	return nil
}

func scaleDownDisabled(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	b := h.Spec.Behavior
	return b != nil && b.ScaleDown != nil && b.ScaleDown.SelectPolicy != nil && *b.ScaleDown.SelectPolicy == autoscalingv2.DisabledPolicySelect
}

// gatherVerdict says what is known of the release, or has stable learned while there is none.
func (r *reconciler) gatherVerdict(ctx context.Context, w *world, now time.Time) error {
	key := client.ObjectKeyFromObject(w.canary)
	status := w.canary.Status
	if w.service == nil || w.canary.DeletionTimestamp != nil || rollout.Unjudged(w.canary) {
		r.options.Measurer.Forget(key)
		r.resumed.Delete(key)
		return nil
	}
	release := measure.Release{}
	if underway(w.canary) && status.Release != nil {
		release.Attempt = status.Release.Attempt
		release.Saved = r.saved(ctx, w.canary)
	}
	split := splitting{}
	if rollout.Measuring(w.canary) {
		var err error
		if split, err = r.splitting(ctx, w); err != nil {
			return err
		}
	}
	gateways := r.gateways(ctx, w, now)
	spec, problems := r.resolved(ctx, w.canary)
	release.Plan = plan(w, spec, gateways, split)
	release.Plan.Problems = problems
	w.seen.Verdict = r.options.Measurer.Follow(key, release)
	if v, ok := r.options.Diversions.failed(key, release.Attempt); ok {
		w.seen.Verdict = v // the traffic is back already
	}
	if !rollout.Measuring(w.canary) {
		w.seen.Verdict = analysis.Verdict{}
	}
	return nil
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
