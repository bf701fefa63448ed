// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package xds turns the graph into Envoy configuration: one file per Envoy
// concept, no error results, no state. What could fail was settled by
// graph.Build.
package xds

import (
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Snapshot is the complete configuration of one Gateway's proxies, except the
// endpoints, which travel on their own path (see Endpoints). Maps are by resource
// name, as Envoy's discovery service names them.
type Snapshot struct {
	Gateway   types.NamespacedName
	Listeners map[string]proto.Message // *listenerv3.Listener
	Routes    map[string]proto.Message // *routev3.ScopedRouteConfiguration, one per port and host
	Clusters  map[string]proto.Message // *clusterv3.Cluster
	Secrets   map[string]proto.Message // *tlsv3.Secret
	Runtimes  map[string]proto.Message // *runtimev3.Runtime
	Filters   map[string]proto.Message // *corev3.TypedExtensionConfig of a tcp_proxy
	// Mixes are clusters whose endpoints are those of several upstreams: see Mixed.
	Mixes map[string]proto.Message // *endpointv3.ClusterLoadAssignment
	// ClusterKeys is the upstream behind each cluster name and behind each part of
	// a mix, whose endpoints the server must know. Clusters that the proxies find by DNS are
	// not in it.
	ClusterKeys map[string]graph.ClusterKey
}
