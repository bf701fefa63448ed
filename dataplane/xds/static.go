// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// staticResources is what a proxy has before it hears from the control plane: the
// way there, and a listener for its readiness and its metrics.
func staticResources(p BootstrapParams) *bootstrapv3.Bootstrap_StaticResources {
	return &bootstrapv3.Bootstrap_StaticResources{
		Clusters:  []*clusterv3.Cluster{controlPlane(p), admin(p)},
		Listeners: []*listenerv3.Listener{statsListener(p)},
	}
}

func controlPlane(p BootstrapParams) *clusterv3.Cluster {
	discovery := clusterv3.Cluster_STRICT_DNS
	if _, err := netip.ParseAddr(p.ControlPlaneHost); err == nil {
		discovery = clusterv3.Cluster_STATIC
	}
	context := &tlsv3.UpstreamTlsContext{
		Sni: p.ControlPlaneName,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{fileSDS("certificate", p.ConfigDir+"/"+FileCertificate)},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
				ValidationContextSdsSecretConfig: fileSDS("authority", p.ConfigDir+"/"+FileAuthority),
			},
		},
	}
	if _, err := netip.ParseAddr(p.ControlPlaneName); err == nil {
		context.Sni = "" // an address is not a server name
	}
	cluster := staticCluster(controlPlaneCluster, discovery, p.ControlPlaneHost, p.ControlPlanePort)
	cluster.TransportSocket = &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(context)},
	}
	cluster.TypedExtensionProtocolOptions = map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(&httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
				ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
						Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
							// A control plane whose node vanished is noticed within 20 s.
							ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: seconds(15), Timeout: seconds(5)},
						},
					},
				},
			},
		}),
	}
	return cluster
}

func admin(p BootstrapParams) *clusterv3.Cluster {
	return staticCluster(adminCluster, clusterv3.Cluster_STATIC, "127.0.0.1", p.AdminPort)
}

func staticCluster(name string, discovery clusterv3.Cluster_DiscoveryType, host string, port uint32) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: discovery},
		ConnectTimeout:       seconds(5),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: socketAddress(host, port),
				}},
			}}}},
		},
	}
}

// statsListener lets the kubelet and Prometheus in, to these two paths and no further:
// the admin interface itself can stop the proxy.
func statsListener(p BootstrapParams) *listenerv3.Listener {
	var routes []*routev3.Route
	for _, path := range []string{"/ready", "/stats/prometheus"} {
		routes = append(routes, &routev3.Route{
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Path{Path: path},
				Headers:       []*routev3.HeaderMatcher{headerMatcher(":method", exactly("GET"))},
			},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminCluster},
			}},
		})
	}
	return &listenerv3.Listener{
		Name:       "stats",
		StatPrefix: "stats", // by which a drain knows that these connections are its own
		Address:    everyAddress(p.StatsPort, p.IPv6),
		// Scrapes and probes are served also when the proxy refuses new work.
		IgnoreGlobalConnLimit: true,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&hcmv3.HttpConnectionManager{
				StatPrefix:    "stats",
				NormalizePath: boolean(true),
				RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
					Name:         "stats",
					VirtualHosts: []*routev3.VirtualHost{{Name: "stats", Domains: []string{anyHost}, Routes: routes}},
				}},
				HttpFilters: []*hcmv3.HttpFilter{{
					Name:       "envoy.filters.http.router",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(&routerv3.Router{})},
				}},
			})},
		}}}},
	}
}

func fileSDS(name, path string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{
		Name: name,
		SdsConfig: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
				PathConfigSource: &corev3.PathConfigSource{Path: path},
			},
		},
	}
}
