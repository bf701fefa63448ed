// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/graph"
)

// Bounds on what one proxy opens to one upstream. They stop a runaway, not
// ordinary load: Envoy's own 1,024 (and 3 retries) would answer 503 long before a
// Service is full.
const (
	maxUpstream = 65536
	maxRetries  = 1024
)

// endpointsTimeout is how long, in seconds, Envoy waits for a cluster's first
// endpoints before it takes it into use without. The server always answers, so this
// only bounds an accident; Envoy's own 15 s would hold back all other changes.
const endpointsTimeout = 2

// cluster is the upstream of one Service, port and protocol. It has its own
// statistics, and a retry stays in it: versions of an app never mix.
func cluster(up upstream, client *graph.Certificate) *clusterv3.Cluster {
	key := up.key
	c := &clusterv3.Cluster{
		Name:                 key.Name(),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource(seconds(endpointsTimeout))},
		ConnectTimeout:       seconds(5),
		LbPolicy:             clusterv3.Cluster_LEAST_REQUEST,
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			// Endpoints that terminate but still serve are DRAINING: not used, unless
			// no other is left. Envoy calls that panic; 1 % means "none is healthy".
			HealthyPanicThreshold: &typev3.Percent{Value: 1},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     number(maxUpstream),
			MaxPendingRequests: number(maxUpstream),
			MaxRequests:        number(maxUpstream),
			MaxRetries:         number(maxRetries),
		}}},
		PerConnectionBufferLimitBytes: number(bufferLimit),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{
			TcpKeepalive: &corev3.TcpKeepalive{
				KeepaliveProbes: number(3), KeepaliveTime: number(60), KeepaliveInterval: number(10),
			},
		},
	}
	if overHTTPTo(key.Protocol) {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(protocolOptions(key.Protocol)),
		}
	}
	if up.host != "" {
		resolve(c, up)
	}
	if up.budget != nil {
		limitRetries(c, up.budget)
	}
	if up.tls != nil {
		c.TransportSocket = upstreamSocket(up.tls, client, alpnOf(key.Protocol)...)
	}
	return c
}

func overHTTPTo(protocol graph.UpstreamProtocol) bool {
	return protocol != graph.UpstreamTCP && protocol != graph.UpstreamSecureTCP
}

func protocolOptions(protocol graph.UpstreamProtocol) *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	// Many servers close an idle HTTP/1.1 connection after 5 s (Node.js, Apache). A
	// request sent in that moment is lost, so the proxy closes first.
	idle := seconds(4)
	if protocol == graph.UpstreamH2C {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
		idle = seconds(3600) // HTTP/2 says GOAWAY before it closes
	} else {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	return &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: idle},
		UpstreamProtocolOptions:   &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}
