// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
)

// statsSink lets a proxy send its statistics to the control plane at each flush, on the
// connection of its configuration: nobody has to be let in, and nothing is to be set up. Counters and
// histograms are those of the interval since the flush before. While the control plane is
// away Envoy drops each flush; it neither waits nor keeps them.
func statsSink() *metricsv3.StatsSink {
	return &metricsv3.StatsSink{
		Name: "envoy.stat_sinks.metrics_service",
		ConfigType: &metricsv3.StatsSink_TypedConfig{TypedConfig: toAny(&metricsv3.MetricsServiceConfig{
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: controlPlaneCluster},
			}},
			TransportApiVersion:    corev3.ApiVersion_V3,
			ReportCountersAsDeltas: wrapperspb.Bool(true),
			HistogramEmitMode:      metricsv3.HistogramEmitMode_HISTOGRAM,
		})},
	}
}

// loadReports lets a proxy report single endpoints to the control plane, once it is
// asked to, on the same connection.
func loadReports() *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: controlPlaneCluster},
		}}},
	}
}

// flushBy lets a proxy flush by the clock where the part of a bootstrap that is merged in asks for it, or has
// a sink of its own, to which nobody would send anything otherwise. Envoy takes one of the two only.
func flushBy(base, part *bootstrapv3.Bootstrap) {
	switch {
	case part.StatsFlushInterval != nil:
		base.StatsFlush = nil
	case len(part.StatsSinks) > 0 && part.StatsFlush == nil:
		base.StatsFlush, base.StatsFlushInterval = nil, seconds(1)
	}
}

// flushes gives the cluster that makes the proxies flush, the one that was there if there
// was, or nil while no release runs.
func flushes(m *memory) *clusterv3.Cluster {
	for _, routes := range m.layers {
		if !slices.ContainsFunc(routes, func(r *graph.Route) bool { return r.Running }) {
			continue
		}
		if m.former != nil && m.former.flush != nil {
			return m.former.flush
		}
		return flushCluster()
	}
	return nil
}

// renewFlush notes whether a release runs now, where none did before, or the other way round.
func (m *memory) renewFlush(d *Delta) {
	was := m.flush
	m.flush = flushes(m)
	switch {
	case m.flush == was:
	case m.flush == nil:
		d.Clusters[bootstrap.Flush] = nil
	default:
		d.Clusters[bootstrap.Flush] = m.flush
	}
}

// flushPath is the cheapest of the pages that flush everything: a fixed one, for browsers, without
// a look at any statistic.
const flushPath = "/stats?format=active-html"

// flushCluster makes a proxy flush its statistics once a second, as long as it has this
// cluster: no request ever goes there, but the check of its health asks the proxy's own admin
// interface for statistics. So the flushes begin and end with a release, and cost nothing in between, which
// no setting of Envoy's own can do without a restart.
func flushCluster() *clusterv3.Cluster {
	c := staticCluster(bootstrap.Flush, clusterv3.Cluster_STATIC, "127.0.0.1", graph.AdminPort)
	c.HealthChecks = []*corev3.HealthCheck{{
		Timeout: seconds(1),
		// Without requests another interval counts, of a minute unless it is given.
		Interval: seconds(1), NoTrafficInterval: seconds(1), NoTrafficHealthyInterval: seconds(1),
		UnhealthyThreshold: wrapperspb.UInt32(1), HealthyThreshold: wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host: bootstrap.Admin, Path: flushPath,
		}},
	}}
	return c
}
