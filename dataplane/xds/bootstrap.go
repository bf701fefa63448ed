// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import "k8s.io/apimachinery/pkg/types"

// BootstrapParams is what a proxy must know before it can ask for the rest.
type BootstrapParams struct {
	// Gateway is the one the proxy serves; its client certificate must name it.
	Gateway types.NamespacedName
	// NodeID is the node's identity in logs; the Deployment overrides it for each
	// pod with Envoy's flag --service-node.
	NodeID string
	// ControlPlaneHost and ControlPlanePort are where the ADS server listens. Host
	// is a DNS name or an IP address.
	ControlPlaneHost string
	ControlPlanePort uint32
	// ControlPlaneName is the DNS name that the server's certificate must carry.
	ControlPlaneName string
	// CertDir is the mounted directory with tls.crt, tls.key and ca.crt. Envoy
	// watches it: rotated files are used without a restart.
	CertDir string
	// AdminPort is bound on 127.0.0.1 only. StatsPort serves /ready and
	// /stats/prometheus, and nothing else, on every address.
	AdminPort, StatsPort uint32
	// MaxConnections bounds the downstream connections of one proxy; 0 means 50,000.
	MaxConnections uint32
	// MaxHeapBytes is where the overload manager refuses new work; 0 leaves it out.
	MaxHeapBytes uint64
}

// Ports of a proxy that are not a listener's. Listeners must not use them.
const (
	DefaultAdminPort = 19000
	DefaultStatsPort = 19001
)

// Bootstrap is Envoy's static configuration as JSON. Equal parameters give equal bytes.
func Bootstrap(p BootstrapParams) []byte {
	return nil
}
