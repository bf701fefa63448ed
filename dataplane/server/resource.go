// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync/atomic"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/xds"
)

// kind is a type of resource. The order is that of the constants.
type kind int

const (
	kindRuntime kind = iota
	kindEndpoints
	kindCluster
	kindSecret
	kindRoute
	// kindFilter are the filters of connections. They name clusters, and listeners name
	// them, as is the case with route tables.
	kindFilter
	kindListener
	kinds
)

// namesClusters tells whether resources of a kind are what listeners name, to lead to clusters.
func (k kind) namesClusters() bool { return k == kindRoute || k == kindFilter }

const typePrefix = "type.googleapis.com/"

var typeURLs = [kinds]string{
	kindRuntime:   urlOf(&runtimev3.Runtime{}),
	kindEndpoints: urlOf(&endpointv3.ClusterLoadAssignment{}),
	kindCluster:   urlOf(&clusterv3.Cluster{}),
	kindSecret:    urlOf(&tlsv3.Secret{}),
	kindRoute:     urlOf(&routev3.ScopedRouteConfiguration{}),
	kindFilter:    urlOf(&corev3.TypedExtensionConfig{}),
	kindListener:  urlOf(&listenerv3.Listener{}),
}

func urlOf(m proto.Message) string {
	return typePrefix + string(m.ProtoReflect().Descriptor().FullName())
}

func kindOf(typeURL string) (kind, bool) {
	i := slices.Index(typeURLs[:], typeURL)
	return kind(i), i >= 0
}

// resource is one content of one named resource. It is not changed once made, but for what it remembers
// in diverted.
type resource struct {
	kind    kind
	name    string
	version string // hash of the content: the same after a restart of the server
	since   uint64 // the publish version that brought this content; 0 for endpoints
	body    *anypb.Any
	// source is the message it was made from, to recognise it without comparing bytes.
	source proto.Message
	// message is kept for Runtimes only, whose keys are merged.
	message *runtimev3.Runtime
	// diverted is the form that proxies get while something in it is diverted.
	diverted atomic.Pointer[diverted]
	// refs are what it refers to: clusters of a route table or a filter, upstreams of a
	// mix, filters and clusters of a listener, secrets of a cluster.
	refs []ref
	// routed is set for a listener that has route tables.
	routed bool
	// opaque is a content that a proxy brought along from before this server
	// started. What it refers to is unknown.
	opaque bool
	// resolved is a cluster whose endpoints the proxy finds itself, by DNS.
	resolved bool
	// unknown are endpoints that nobody published yet; the content is empty.
	unknown bool
	// base is the published resource that a merged Runtime or the endpoints of a mix stand for; else nil.
	base *resource
}

// standsFor tells whether a proxy that has r has what was published as want.
func (r *resource) standsFor(want *resource) bool {
	return r != nil && (r.version == want.version || r.base != nil && r.base.version == want.version)
}

// newResource packs a message of a Snapshot. That cannot fail: package xds has made
// it, and packing refuses only strings that are not UTF-8.
func newResource(k kind, name string, m proto.Message, since uint64) *resource {
	body := &anypb.Any{}
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("packing " + name + ": " + err.Error())
	}
	sum := sha256.Sum256(body.Value)
	r := &resource{
		kind: k, name: name, since: since, body: body, source: m,
		version: hex.EncodeToString(sum[:8]),
		refs:    references(m),
		routed:  isRouted(m),
	}
	if runtime, ok := m.(*runtimev3.Runtime); ok {
		r.message = runtime
	}
	if cluster, ok := m.(*clusterv3.Cluster); ok {
		r.resolved = cluster.GetClusterType() != nil
	}
	return r
}

// references lists what a message refers to, sorted, once each.
func references(m proto.Message) []ref {
	var refs []ref
	add := func(k kind, name string) { refs = append(refs, ref{k, name}) }
	switch m := m.(type) {
	case *clusterv3.Cluster:
		for _, name := range secretsOf(m) {
			add(kindSecret, name)
		}
	case *corev3.TypedExtensionConfig:
		filter := &tcpproxyv3.TcpProxy{}
		if m.GetTypedConfig().UnmarshalTo(filter) == nil {
			if name := filter.GetCluster(); name != "" {
				add(kindCluster, name)
			}
			for _, c := range filter.GetWeightedClusters().GetClusters() {
				add(kindCluster, c.Name)
			}
		}
	case *endpointv3.ClusterLoadAssignment:
		for _, name := range xds.Upstreams(m) {
			add(kindEndpoints, name)
		}
	case *routev3.ScopedRouteConfiguration:
		for _, name := range clustersOf(m.GetRouteConfiguration()) {
			add(kindCluster, name)
		}
	case *listenerv3.Listener:
		for _, chain := range m.FilterChains {
			for _, filter := range chain.Filters {
				if filter.GetConfigDiscovery() != nil {
					add(kindFilter, filter.Name)
				}
			}
		}
		for _, filter := range m.ListenerFilters {
			proxy := &udpproxyv3.UdpProxyConfig{}
			if filter.GetTypedConfig().MessageIs(proxy) && filter.GetTypedConfig().UnmarshalTo(proxy) == nil {
				route := &udpproxyv3.Route{}
				if proxy.GetMatcher().GetOnNoMatch().GetAction().GetTypedConfig().UnmarshalTo(route) == nil {
					add(kindCluster, route.Cluster)
				}
			}
		}
	}
	slices.SortFunc(refs, func(a, b ref) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	return slices.Compact(refs)
}

// clustersOf lists the clusters that a route table sends requests to.
func clustersOf(table *routev3.RouteConfiguration) []string {
	var refs []string
	for _, host := range table.GetVirtualHosts() {
		for _, route := range host.Routes {
			action := route.GetRoute()
			if name := action.GetCluster(); name != "" {
				refs = append(refs, name)
			}
			for _, mirror := range action.GetRequestMirrorPolicies() {
				refs = append(refs, mirror.Cluster)
			}
			for _, c := range action.GetWeightedClusters().GetClusters() {
				refs = append(refs, c.Name)
			}
		}
	}
	return refs
}

// secretsOf lists the secrets that a cluster needs for its TLS.
func secretsOf(c *clusterv3.Cluster) []string {
	context := &tlsv3.UpstreamTlsContext{}
	if socket := c.GetTransportSocket().GetTypedConfig(); !socket.MessageIs(context) || socket.UnmarshalTo(context) != nil {
		return nil
	}
	common := context.GetCommonTlsContext()
	refs := []string{common.GetCombinedValidationContext().GetValidationContextSdsSecretConfig().GetName()}
	for _, certificate := range common.GetTlsCertificateSdsSecretConfigs() {
		refs = append(refs, certificate.GetName())
	}
	return refs
}

// mixed gives the endpoints of a mix. While those of one upstream are unknown, they are.
func mixed(mix *resource, endpoints func(string) *resource) *resource {
	template := mix.source.(*endpointv3.ClusterLoadAssignment)
	unknown := false
	r := newResource(kindEndpoints, mix.name, xds.Mixed(template, func(upstream string) *endpointv3.ClusterLoadAssignment {
		of := endpoints(upstream)
		unknown = unknown || of.unknown
		cla, _ := of.source.(*endpointv3.ClusterLoadAssignment)
		return cla
	}), mix.since)
	r.base, r.unknown, r.refs = mix, unknown, mix.refs
	return r
}

// isRouted tells whether a message is a listener with route tables.
func isRouted(m proto.Message) bool {
	listener, _ := m.(*listenerv3.Listener)
	for _, chain := range listener.GetFilterChains() {
		for _, filter := range chain.Filters {
			if filter.GetTypedConfig().MessageIs(&hcmv3.HttpConnectionManager{}) {
				return true
			}
		}
	}
	return false
}

// target is the configuration that a gateway's proxies should have.
type target struct {
	version   uint64
	resources [kinds]shelf
}

// messagesOf gives a snapshot's messages by kind.
func messagesOf(snap xds.Snapshot) [kinds]map[string]proto.Message {
	var out [kinds]map[string]proto.Message
	out[kindRuntime] = snap.Runtimes
	out[kindCluster] = snap.Clusters
	out[kindSecret] = snap.Secrets
	out[kindRoute] = snap.Routes
	out[kindFilter] = snap.Filters
	out[kindEndpoints] = snap.Mixes
	out[kindListener] = snap.Listeners
	return out
}
