// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import "headgate.dev/headgate/dataplane/graph"

// ProxyPort is the port that a proxy binds for a listener's port: see graph.ProxyPort.
func ProxyPort(port int32) int32 { return graph.ProxyPort(port) }
