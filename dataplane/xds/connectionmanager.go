// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	compositev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/composite/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	statefulsessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"headgate.dev/headgate/dataplane/graph"
)

// connectionManager is the HTTP side of a filter chain, hardened as Envoy's guide
// for edge proxies advises. Two of its advices are not followed, because they would
// break requests that the Gateway API promises to serve: slashes are not merged
// (S3-like paths hold several), and header names with underscores pass (an HTTPRoute
// may match them).
func connectionManager(statPrefix string, routes table, gw *graph.Gateway) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&hcmv3.HttpConnectionManager{
			StatPrefix:                    statPrefix,
			CodecType:                     hcmv3.HttpConnectionManager_AUTO,
			RouteSpecifier:                scopedRoutes(),
			EarlyHeaderMutationExtensions: earlyMutations(routes),
			HttpFilters:                   httpFilters(routes),
			AccessLog:                     accessLogs(accessLogFields(gw.Key), gw.Proxy.AccessLog),
			// The client's address is the connection's: nobody in front of the
			// gateway is trusted to state another.
			UseRemoteAddress: boolean(true),
			// "shop.example.com." is the same host, and no hostname is written so.
			StripTrailingHostDot:         true,
			ServerHeaderTransformation:   hcmv3.HttpConnectionManager_PASS_THROUGH,
			NormalizePath:                boolean(true),
			PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
			MaxRequestHeadersKb:          number(60),
			CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
				IdleTimeout:     seconds(3600),
				MaxHeadersCount: number(100),
			},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				MaxConcurrentStreams:        number(100),
				InitialStreamWindowSize:     number(64 << 10),
				InitialConnectionWindowSize: number(1 << 20),
				AllowConnect:                true, // WebSocket over HTTP/2, RFC 8441
			},
			UpgradeConfigs:        []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
			StreamIdleTimeout:     seconds(300),
			RequestHeadersTimeout: seconds(30),
			// Bodies and long streams take as long as they take; a route's own
			// timeout bounds them.
			RequestTimeout: seconds(0),
		})},
	}
}

// httpFilters are the same on every listener, so that the first route of a Gateway that
// needs one of them changes no filter chain: that would end the connections of everybody
// else. A request that is not gRPC costs the first filter a look at its content type. The others
// are created only where a route has settings for them, see switchedOff, but for requests that the
// scope of the wildcards serves: those cost each filter a look for settings.
//
// A gRPC call that fails has the HTTP status 200, so the first filter counts calls by
// their grpc-status, once each and when they end. The proxy's own answers to a call pass
// there too, with the code Unavailable; so the router must not count them as 5xx as well.
// It then counts no call by its HTTP status, whoever answered.
func httpFilters(routes table) []*hcmv3.HttpFilter {
	return append(scopeFilters(routes),
		httpFilter("envoy.filters.http.grpc_stats", &grpcstatsv3.FilterConfig{
			PerMethodStatSpecifier: &grpcstatsv3.FilterConfig_StatsForAllMethods{
				StatsForAllMethods: boolean(false),
			},
		}),
		httpFilter(corsFilter, &corsv3.Cors{}),
		// What a route asks for beyond: see perroute.go.
		httpFilter(routeFilters, &compositev3.Composite{}),
		httpFilter(sessionFilter, &statefulsessionv3.StatefulSession{}),
		httpFilter("envoy.filters.http.router", &routerv3.Router{
			SuppressEnvoyHeaders:                true,
			SuppressGrpcRequestFailureCodeStats: true,
		}),
	)
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(config)}}
}

// adsSource says that a resource comes over the proxy's one stream.
func adsSource(initialFetchTimeout *durationpb.Duration) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   initialFetchTimeout,
	}
}
