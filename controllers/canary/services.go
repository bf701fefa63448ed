// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

// hashKey is the label that tells the versions of a Deployment apart.
const hashKey = appsv1.DefaultDeploymentUniqueLabelKey

// gatherServices finds the stable Service, the canary's, and their endpoints.
func (r *reconciler) gatherServices(ctx context.Context, w *world) error {
	if err := r.findService(ctx, w); err != nil {
		return err
	}
	if w.service == nil {
		if w.canary.Status.Service != "" {
			// Traffic must come back, and routes be restored, without it.
			r.routesOf(w)
		}
		return r.gatherTwin(ctx, w, w.canary.Status.Service)
	}
	ready, err := r.ready(ctx, w, w.service.Name)
	if err != nil {
		return err
	}
	all := records(w.service)
	_, recorded := all[w.canary.Name]
	hash := w.service.Spec.Selector[hashKey]
	// A narrowed Service without any record lost it to somebody's edit; with
	// another Canary's it is that one's.
	w.seen.Service = &rollout.Service{Name: w.service.Name, Hash: hash, Traces: recorded || hash != "" && len(all) == 0, Ready: ready}
	r.routesOf(w)
	return r.gatherTwin(ctx, w, w.service.Name)
}

// findService takes the Service of the spec, the one a release is under way
// with, or the one that selects the target's pods and stands in a route.
func (r *reconciler) findService(ctx context.Context, w *world) error {
	name := w.canary.Spec.Service
	if recorded := w.canary.Status.Service; recorded != "" && underway(w.canary) {
		name = recorded
	}
	if name != "" {
		s := &corev1.Service{}
		if err := r.client.Get(ctx, types.NamespacedName{Namespace: w.canary.Namespace, Name: name}, s); err != nil {
			if ignoreMissing(err) == nil {
				w.seen.ServiceProblem = &rollout.Problem{Reason: v1beta1.ReasonServiceNotFound, Message: fmt.Sprintf("There is no Service %q in this namespace: create it, or correct spec.service.", name)}
				return nil
			}
			return fmt.Errorf("reading Service %s: %w", name, err)
		}
		if w.target != nil && !selects(s, w.target.Spec.Template.Labels) && !underway(w.canary) {
			w.seen.ServiceProblem = &rollout.Problem{Reason: v1beta1.ReasonServiceNotFound, Message: fmt.Sprintf("Service %q does not select the pods of Deployment %q: correct its selector, or spec.service.", name, w.target.Name)}
			return nil
		}
		w.service = s
		return nil
	}
	if w.target == nil {
		return nil
	}
	list := &corev1.ServiceList{}
	if err := r.client.List(ctx, list, client.InNamespace(w.canary.Namespace)); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	var found, named []*corev1.Service
	for i := range list.Items {
		s := &list.Items[i]
		if !selects(s, w.target.Spec.Template.Labels) || s.Labels[v1beta1.LabelManagedBy] == v1beta1.ManagedBy {
			continue
		}
		found = append(found, s)
		if w.routed(s.Name) {
			named = append(named, s)
		}
	}
	switch {
	case len(named) == 1:
		w.service = named[0]
	case len(named) > 1:
		w.seen.ServiceProblem = &rollout.Problem{Reason: v1beta1.ReasonServiceAmbiguous, Message: fmt.Sprintf(
			"Services %s all select the pods of Deployment %q and stand in routes: say which in spec.service.", serviceNames(named), w.target.Name)}
	case len(found) > 0:
		w.seen.ServiceProblem = &rollout.Problem{Reason: v1beta1.ReasonRouteNotFound, Message: fmt.Sprintf(
			"No HTTPRoute or GRPCRoute of this namespace names Service %s as a backend: create one, or correct spec.routes.", serviceNames(found))}
	default:
		w.seen.ServiceProblem = &rollout.Problem{Reason: v1beta1.ReasonServiceNotFound, Message: fmt.Sprintf(
			"No Service of this namespace selects the pods of Deployment %q: create one, or name it in spec.service.", w.target.Name)}
	}
	return nil
}

// underway is true while objects may still carry what a release put there.
func underway(c *v1beta1.Canary) bool {
	switch c.Status.Phase {
	case v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhasePromoting, v1beta1.PhaseRollingBack, v1beta1.PhaseRolledBack:
		return true
	}
	return c.DeletionTimestamp != nil
}

func serviceNames(list []*corev1.Service) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s.Name))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func selects(s *corev1.Service, podLabels map[string]string) bool {
	selector := maps.Clone(s.Spec.Selector)
	delete(selector, hashKey)
	return len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(podLabels))
}

func (r *reconciler) gatherTwin(ctx context.Context, w *world, service string) error {
	if service == "" {
		return nil
	}
	s := &corev1.Service{}
	seen := rollout.CanaryService{Name: twinName(service)}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: w.canary.Namespace, Name: seen.Name}, s)
	switch {
	case ignoreMissing(err) != nil:
		return fmt.Errorf("reading Service %s: %w", seen.Name, err)
	case err != nil || s.DeletionTimestamp != nil:
		w.seen.CanaryService = seen
		return nil
	}
	w.twin = s
	seen.Presence, seen.Hash = rollout.Foreign, s.Spec.Selector[hashKey]
	if metav1.IsControlledBy(s, w.canary) {
		seen.Presence = rollout.Ours
	}
	if w.service != nil {
		seen.InSync = equality.Semantic.DeepEqual(essence(s.Spec), essence(twinSpec(w.service, seen.Hash)))
		ready, err := r.ready(ctx, w, seen.Name)
		if err != nil {
			return err
		}
		seen.Ready = ready[seen.Hash]
	}
	w.seen.CanaryService = seen
	return nil
}

// twinSpec is the canary's Service: everything of the stable one that decides how
// requests reach pods, nothing that exposes it outside of the cluster.
func twinSpec(stable *corev1.Service, hash string) corev1.ServiceSpec {
	from := stable.Spec.DeepCopy()
	to := corev1.ServiceSpec{
		Type:                     corev1.ServiceTypeClusterIP,
		Selector:                 from.Selector,
		SessionAffinity:          from.SessionAffinity,
		SessionAffinityConfig:    from.SessionAffinityConfig,
		PublishNotReadyAddresses: from.PublishNotReadyAddresses,
		IPFamilies:               from.IPFamilies,
		IPFamilyPolicy:           from.IPFamilyPolicy,
		InternalTrafficPolicy:    from.InternalTrafficPolicy,
		TrafficDistribution:      from.TrafficDistribution,
	}
	if from.ClusterIP == corev1.ClusterIPNone {
		to.ClusterIP = corev1.ClusterIPNone
	}
	if to.Selector == nil {
		to.Selector = map[string]string{}
	}
	to.Selector[hashKey] = hash
	for _, p := range from.Ports {
		p.NodePort = 0
		to.Ports = append(to.Ports, p)
	}
	return to
}

// essence leaves out what the API server fills in.
func essence(s corev1.ServiceSpec) corev1.ServiceSpec {
	if s.ClusterIP != corev1.ClusterIPNone {
		s.ClusterIP = ""
	}
	s.ClusterIPs = nil
	return s
}

// ready counts the ready endpoints of a Service by the hash of their ReplicaSet.
func (r *reconciler) ready(ctx context.Context, w *world, service string) (map[string]int32, error) {
	slicesOf := &discoveryv1.EndpointSliceList{}
	if err := r.client.List(ctx, slicesOf, client.InNamespace(w.canary.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the endpoints of Service %s: %w", service, err)
	}
	pods := map[string]bool{} // a pod has one endpoint per address family
	for _, s := range slicesOf.Items {
		for _, e := range s.Endpoints {
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				pods[e.TargetRef.Name] = true
			}
		}
	}
	counts := map[string]int32{}
	for pod := range pods {
		hash, err := r.hashOf(ctx, w, pod)
		if err != nil {
			return nil, err
		}
		counts[hash]++
	}
	return counts, nil
}

// generated is how much of a ReplicaSet's name the API server leaves in a pod's,
// and podName how long such a name is then.
const generated, podName = 58, 63

// hashOf gives the pod-template-hash of an endpoint's pod; empty for one of
// another workload, or of a ReplicaSet that is gone. The pod's name tells it
// without a request, unless the name of the ReplicaSet had to be cut.
func (r *reconciler) hashOf(ctx context.Context, w *world, pod string) (string, error) {
	if at := strings.LastIndex(pod, "-"); at > 0 {
		if rs := w.byName[pod[:at]]; rs != nil {
			return rs.Labels[hashKey], nil
		}
	}
	if len(pod) != podName || w.target == nil || !underway(w.canary) {
		return "", nil
	}
	if w.hashes == nil {
		pods := &metav1.PartialObjectMetadataList{}
		pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		selector, err := metav1.LabelSelectorAsSelector(w.target.Spec.Selector)
		if err != nil {
			return "", fmt.Errorf("reading the selector of Deployment %s: %w", w.target.Name, err)
		}
		if err := r.live.List(ctx, pods, client.InNamespace(w.canary.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
			return "", fmt.Errorf("listing pods: %w", err)
		}
		w.hashes = map[string]string{}
		for i := range pods.Items {
			w.hashes[pods.Items[i].Name] = pods.Items[i].Labels[hashKey]
		}
	}
	return w.hashes[pod], nil
}

// podPattern is the regular expression of the names of a ReplicaSet's pods.
func podPattern(replicaSet string) string {
	prefix := replicaSet + "-"
	return prefix[:min(len(prefix), generated)] + "[a-z0-9]+"
}

func sortRoutes(refs []v1beta1.RouteReference) {
	slices.SortFunc(refs, func(a, b v1beta1.RouteReference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}
