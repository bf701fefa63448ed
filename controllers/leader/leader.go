// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leader marks the replica that leads with a label on its own pod, so
// that a Service can select it. The proxies' configuration stream ends there:
// one process then knows every acknowledgement, and the replica that decides
// about a release is the one the proxies listen to.
package leader

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Label stands, with value "true", on the pod that leads.
const Label = "headgate.dev/leader"

var (
	mark   = client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+Label+`":"true"}}}`))
	unmark = client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+Label+`":null}}}`))
)

// +kubebuilder:rbac:groups="",namespace=headgate-system,resources=pods,verbs=get;list;patch

// Marker moves the label to Pod when this process becomes the leader.
type Marker struct {
	// Client reads and writes pods; it need not be cached.
	Client client.Client
	// Pod is the pod this process runs in.
	Pod types.NamespacedName
}

var (
	_ manager.Runnable               = (*Marker)(nil)
	_ manager.LeaderElectionRunnable = (*Marker)(nil)
)

// NeedLeaderElection is true: Start runs when this process has become the leader.
func (*Marker) NeedLeaderElection() bool { return true }

// Start marks this pod and unmarks every other one. A former leader that died
// cannot unmark itself.
func (m *Marker) Start(ctx context.Context) error {
	var pods corev1.PodList
	if err := m.Client.List(ctx, &pods, client.InNamespace(m.Pod.Namespace), client.HasLabels{Label}); err != nil {
		return fmt.Errorf("listing pods with label %s: %w", Label, err)
	}
	for i := range pods.Items {
		if other := &pods.Items[i]; other.Name != m.Pod.Name {
			if err := m.Client.Patch(ctx, other, unmark); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("unmarking former leader %s: %w", other.Name, err)
			}
		}
	}
	if err := m.Client.Patch(ctx, m.self(), mark); err != nil {
		return fmt.Errorf("marking pod %s as leader: %w", m.Pod, err)
	}
	<-ctx.Done()
	return nil
}

// Unmark removes the label from this pod. A container that restarts keeps its
// pod's labels, but it has to win the election anew.
func (m *Marker) Unmark(ctx context.Context) error {
	if err := m.Client.Patch(ctx, m.self(), unmark); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("unmarking pod %s: %w", m.Pod, err)
	}
	return nil
}

func (m *Marker) self() *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = m.Pod.Namespace, m.Pod.Name
	return pod
}
