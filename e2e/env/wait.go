// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// WaitRolledOut waits until all replicas of a Deployment are of its latest
// template and available, as `kubectl rollout status` does. A Deployment that is
// paused counts too. The last state seen includes why pods are not ready.
func (s *Space) WaitRolledOut(ctx context.Context, name string, limit time.Duration) error {
	return s.Cluster.WaitRolledOut(ctx, s.Name, name, limit)
}

// WaitRolledOut is Space.WaitRolledOut for any namespace.
func (c *Cluster) WaitRolledOut(ctx context.Context, namespace, name string, limit time.Duration) error {
	return c.Wait(ctx, "Deployment "+name+" to be rolled out", limit, func(ctx context.Context) (bool, string, error) {
		var d appsv1.Deployment
		if err := c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &d); err != nil {
			return false, "", err
		}
		if rolledOut(&d) {
			return true, "", nil
		}
		seen := fmt.Sprintf("generation %d observed %d, replicas %d, updated %d, available %d", d.Generation, d.Status.ObservedGeneration,
			d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas)
		return false, seen + c.podTroubles(ctx, &d), nil
	})
}

func rolledOut(d *appsv1.Deployment) bool {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == want &&
		d.Status.Replicas == want && d.Status.AvailableReplicas == want
}

// podTroubles says why pods of a Deployment are not ready.
func (c *Cluster) podTroubles(ctx context.Context, d *appsv1.Deployment) string {
	var pods corev1.PodList
	if d.Spec.Selector == nil || c.Client.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)) != nil {
		return ""
	}
	var b strings.Builder
	for _, pod := range pods.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Status == corev1.ConditionFalse && (condition.Type == corev1.PodScheduled || condition.Type == corev1.PodReady) {
				fmt.Fprintf(&b, "; pod %s: %s", pod.Name, strings.TrimSpace(condition.Reason+" "+condition.Message))
			}
		}
		for _, container := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if waiting := container.State.Waiting; waiting != nil && waiting.Message != "" {
				fmt.Fprintf(&b, " (%s: %s)", container.Name, waiting.Message)
			}
			if last := container.LastTerminationState.Terminated; last != nil {
				fmt.Fprintf(&b, " (%s ended before with status %d)", container.Name, last.ExitCode)
			}
		}
	}
	return b.String()
}

// LoadBalancer waits until a Service has an address, and returns it.
func (s *Space) LoadBalancer(ctx context.Context, service string) (address string, err error) {
	err = s.Wait(ctx, "an address of Service "+service, 30*time.Second, func(ctx context.Context) (bool, string, error) {
		var found corev1.Service
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: s.Name, Name: service}, &found); err != nil {
			return false, "", err
		}
		for _, ingress := range found.Status.LoadBalancer.Ingress {
			if address = ingress.IP; address == "" {
				address = ingress.Hostname
			}
		}
		return address != "", "no address in its status (spec.type is " + string(found.Spec.Type) + ")", nil
	})
	return address, err
}

// WaitProgrammed waits until the Gateway is programmed and has an address, and gives that.
func (s *Space) WaitProgrammed(ctx context.Context, name string, limit time.Duration) (address string, err error) {
	err = s.Wait(ctx, "Gateway "+name+" to be programmed", limit, func(ctx context.Context) (bool, string, error) {
		var gw gwv1.Gateway
		if err := s.Client.Get(ctx, client.ObjectKey{Namespace: s.Name, Name: name}, &gw); err != nil {
			return false, "", err
		}
		seen := "no condition"
		for _, c := range gw.Status.Conditions {
			if c.Type != string(gwv1.GatewayConditionProgrammed) {
				continue
			}
			seen = c.Message
			if c.Status == "True" && len(gw.Status.Addresses) > 0 {
				address = gw.Status.Addresses[0].Value
				return true, "", nil
			}
		}
		return false, seen, nil
	})
	return address, err
}
