// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"headgate.dev/headgate/dataplane/graph"
)

// upstream is what a route sends to, and how. The same key has the same TLS, host and
// budget everywhere.
type upstream struct {
	key    graph.ClusterKey
	tls    *graph.UpstreamTLS
	host   string
	budget *graph.RetryBudget
}

func upstreamOf(b *graph.Backend) upstream {
	return upstream{key: b.Cluster, tls: b.TLS, host: b.Host, budget: b.Budget}
}

// asked is the service that filters ask, if they ask any.
func asked(f graph.Filters) []upstream {
	if f.Auth == nil {
		return nil
	}
	return []upstream{{key: f.Auth.Cluster, tls: f.Auth.TLS, host: f.Auth.Host, budget: f.Auth.Budget}}
}

// A name is asked for anew when its time to live ends, at least so many seconds apart
// where it has none. An answer is waited for twice two seconds: while a new cluster waits
// for its first, the proxy confirms no other.
const (
	dnsRefresh = 5
	dnsTimeout = 2
	dnsTries   = 2
)

// resolve lets the proxy find the cluster's endpoints by the name of its host, all of the
// addresses that it has.
func resolve(c *clusterv3.Cluster, up upstream) {
	c.EdsClusterConfig = nil
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.cluster.dns",
		TypedConfig: toAny(&dnsv3.DnsCluster{
			DnsRefreshRate:        seconds(dnsRefresh),
			DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{BaseInterval: seconds(1), MaxInterval: seconds(dnsRefresh)},
			RespectDnsTtl:         true,
			DnsLookupFamily:       commondnsv3.DnsLookupFamily_ALL,
			TypedDnsResolverConfig: &corev3.TypedExtensionConfig{
				Name: "envoy.network.dns_resolver.cares",
				TypedConfig: toAny(&caresv3.CaresDnsResolverConfig{
					QueryTimeoutSeconds: wrapperspb.UInt64(dnsTimeout), QueryTries: number(dnsTries),
				}),
			},
		}),
	}}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: c.Name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAddress(up.host, uint32(up.key.Port)),
			}},
		}}}},
	}
}

// limitRetries puts a budget in the place of the number of retries at a time.
func limitRetries(c *clusterv3.Cluster, b *graph.RetryBudget) {
	c.CircuitBreakers.Thresholds[0].MaxRetries = nil
	c.CircuitBreakers.Thresholds[0].RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: float64(b.Percent)},
		BudgetInterval:      durationpb.New(b.Interval),
		MinRetryConcurrency: number(b.MinPerSecond),
	}
}
