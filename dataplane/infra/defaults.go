// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// Defaults is how proxies run where neither the Gateway's ProxyConfig nor that of its class
// says something. The drain is short, because Kubernetes looks at a namespace that is
// being deleted again only after half of its pods' grace period.
func Defaults(image string) v1beta1.ProxyConfigSpec {
	return v1beta1.ProxyConfigSpec{
		Workload: v1beta1.WorkloadDeployment,
		Image:    image,
		Resources: &corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		},
		Concurrency: new(int32(2)),
		LogLevel:    "Warning",
		Drain:       &v1beta1.Drain{Idle: &metav1.Duration{Duration: 20 * time.Second}, Max: &metav1.Duration{Duration: time.Minute}},
	}
}

// drainSeconds are how long a proxy that leaves waits for idle connections, and at the
// longest for requests that still run. The first is never the longer one.
func drainSeconds(d *v1beta1.Drain) (idle, longest int32) {
	longest = int32(d.Max.Duration / time.Second)
	return min(int32(d.Idle.Duration/time.Second), longest), longest
}

// MaxHeapBytes is where a proxy begins to refuse work: below its memory limit, so that
// it does so before the kernel ends it; 0 without a limit.
func MaxHeapBytes(p v1beta1.ProxyConfigSpec) uint64 {
	limit := p.Resources.Limits.Memory()
	return uint64(limit.Value()) / 10 * 8
}
