// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// budget lets one proxy go at a time, or as many as are asked for, but at least one: it
// never blocks a node's drain, whatever the number of replicas.
func budget(gw *graph.Gateway, b *v1beta1.DisruptionBudget) *policyv1.PodDisruptionBudget {
	most := intstr.FromInt32(1)
	if b != nil {
		most = b.MaxUnavailable
	}
	return &policyv1.PodDisruptionBudget{
		TypeMeta: typeMeta("policy/v1", "PodDisruptionBudget"), ObjectMeta: objectMeta(gw),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &most,
			Selector:       &metav1.LabelSelector{MatchLabels: selector(gw)},
			// A proxy that is not ready serves nobody, and must not keep a node.
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}
}

// autoscaler scales the Deployment, or is nil.
func autoscaler(gw *graph.Gateway, a *v1beta1.Autoscaling) *autoscalingv2.HorizontalPodAutoscaler {
	if a == nil {
		return nil
	}
	least, target := int32(1), int32(80)
	if a.MinReplicas != nil {
		least = *a.MinReplicas
	}
	if a.CPUUtilization != nil {
		target = *a.CPUUtilization
	}
	meta := objectMeta(gw)
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta: typeMeta("autoscaling/v2", "HorizontalPodAutoscaler"), ObjectMeta: meta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: meta.Name},
			MinReplicas:    &least,
			MaxReplicas:    a.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{
				// Of Envoy alone: what the shutdown manager requests would blur the share.
				Type: autoscalingv2.ContainerResourceMetricSourceType,
				ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
					Name: corev1.ResourceCPU, Container: proxyContainer,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
				},
			}},
		},
	}
}
