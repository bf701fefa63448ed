// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"math"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/types"
)

// statsConfig names the statistics that exist at all; Envoy's whole list costs a
// second of its main thread per scrape at 3,000 clusters. The analysis reads the
// upstream_rq_* and grpc.* series of each cluster by the label envoy_cluster_name.
func statsConfig(gateway types.NamespacedName) *metricsv3.StatsConfig {
	patterns := &matcherv3.ListStringMatcher{}
	for _, expression := range []string{
		// internal. is kept apart: mirrored requests are counted there as well, and
		// subtracting it leaves those of clients. Of 1xx only 101 is the last answer to a request.
		`cluster\.[^.]+\.(internal\.)?upstream_rq_(completed|101|[1-5]xx|time)`,
		// Of gRPC calls: how many ended with a code, and with which of those that are the
		// server's fault.
		`cluster\.[^.]+\.grpc\.(total|2|4|12|13|14|15)`,
		`cluster\.[^.]+\.upstream_rq_(total|active|cancelled|timeout|per_try_timeout|rx_reset|tx_reset)`,
		`cluster\.[^.]+\.upstream_rq_(retry|retry_success|retry_limit_exceeded|retry_overflow|pending_overflow|pending_failure_eject)`,
		`cluster\.[^.]+\.upstream_cx_(active|total|connect_fail|connect_timeout|none_healthy|overflow|rx_bytes_total|tx_bytes_total)`,
		`cluster\.[^.]+\.membership_(total|healthy)`,
		// Of routes, by class alone: a histogram would add twenty lines for each to every scrape.
		`vhost\..*\.route\..*\.upstream_rq_[1-5]xx`,
		`http\.[^.]+\.downstream_(rq|cx)_.*`,
		`http\.[^.]+\.(no_route|no_cluster|rq_direct_response|rq_redirect)`,
		`listener\..*\.downstream_cx_(total|active|overflow|overload_reject|transport_socket_connect_timeout)`,
		`listener\..*\.ssl\.(handshake|connection_error|fail_.*)`,
		`listener\..*\.no_filter_chain_match`,
		`(server|control_plane|cluster_manager|listener_manager|runtime|overload)\..*`,
	} {
		patterns.Patterns = append(patterns.Patterns, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(expression)},
		})
	}
	return &metricsv3.StatsConfig{
		UseAllDefaultTags: wrapperspb.Bool(true),
		StatsTags:         statsTags(gateway),
		StatsMatcher: &metricsv3.StatsMatcher{
			StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: patterns},
		},
		HistogramBucketSettings: []*metricsv3.HistogramBucketSettings{{
			Match: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: regex(`cluster\..*\.upstream_rq_time`),
			}},
			Buckets: latencyEdges(),
		}},
	}
}

// statsTags label every statistic with its Gateway, those of a backend with the parts of its
// cluster's name, and those of a route with its kind and name. So they mean the same however a proxy is scraped.
func statsTags(gateway types.NamespacedName) []*metricsv3.TagSpecifier {
	fixed := func(name, value string) *metricsv3.TagSpecifier {
		return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_FixedValue{FixedValue: value}}
	}
	// The first group is cut out of the name, the second is the value.
	part := func(name, expression string) *metricsv3.TagSpecifier {
		return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: expression}}
	}
	tags := []*metricsv3.TagSpecifier{
		fixed("gateway", gateway.Name),
		fixed("gateway_namespace", gateway.Namespace),
		part("backend_namespace", `^cluster\.(([^./]+)/)[^./]+/[0-9]+`),
		part("backend_service", `^cluster\.[^./]+/(([^./]+)/)[0-9]+`),
		part("backend_port", `^cluster\.[^./]+/[^./]+/(([0-9]+))`),
	}
	// Those of a route: vhost.<host>.route.<kind>/<namespace>/<name>.upstream_rq_2xx. Hosts and
	// names contain dots, so the labels of Envoy's own for them, envoy_virtual_host and
	// envoy_route, have parts of them.
	return append(tags,
		part("route_host", `^vhost\.((.+?)\.)route\.[A-Z]`),
		part("route_kind", `^vhost\..+?\.route\.(([A-Z][A-Za-z]+)/)`),
		part("route_namespace", `^vhost\..+?\.route\.[A-Z][A-Za-z]+/(([^./]+)/)`),
		part("route", `^vhost\..+?\.route\.[A-Z][A-Za-z]+/[^./]+/((.+)\.)upstream_rq_`),
	)
}

// latencyEdges are the bucket edges of request times in milliseconds. From 0.5 ms to
// one second they grow by 2^(1/4), 19 %, which is the shift the analysis can then tell; above, up
// to 17 minutes, they double.
func latencyEdges() []float64 {
	var edges []float64
	const fine = 44 // 0.5 ms · 2^(44/4) = 1,024 ms
	for i := range fine {
		edges = append(edges, 0.5*math.Pow(2, float64(i)/4))
	}
	for edge := 1024.0; edge < 2_000_000; edge *= 2 {
		edges = append(edges, edge)
	}
	return edges
}
