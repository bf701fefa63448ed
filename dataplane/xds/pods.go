// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// PodEndpoints gives the endpoints of an upstream that selects pods itself. What counts is
// what Kubernetes counts for a Service: a pod that is ready is used, one that is being
// deleted while it is ready is DRAINING, every other is left out.
func PodEndpoints(key graph.ClusterKey, pods []*corev1.Pod) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
	found := map[netip.AddrPort]endpoint{}
	for _, pod := range pods {
		ip, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil || !ready(pod) {
			continue
		}
		health := corev3.HealthStatus_HEALTHY
		if pod.DeletionTimestamp != nil {
			health = corev3.HealthStatus_DRAINING
		}
		// A pod that is gone may have left its address to another.
		at := netip.AddrPortFrom(ip, uint16(key.Port))
		if was, ok := found[at]; !ok || was.health == corev3.HealthStatus_DRAINING {
			found[at] = endpoint{health: health, pod: podMetadata(pod.Name, pod.Labels[versionLabel])}
		}
	}
	if len(found) > 0 {
		cla.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: sortedEndpoints(found, corev1.ProtocolTCP)}}
	}
	return cla
}

func ready(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
