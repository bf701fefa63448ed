// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
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
	kindListener
	kinds
)

const typePrefix = "type.googleapis.com/"

var typeURLs = [kinds]string{
	kindRuntime:   urlOf(&runtimev3.Runtime{}),
	kindEndpoints: urlOf(&endpointv3.ClusterLoadAssignment{}),
	kindCluster:   urlOf(&clusterv3.Cluster{}),
	kindSecret:    urlOf(&tlsv3.Secret{}),
	kindRoute:     urlOf(&routev3.RouteConfiguration{}),
	kindListener:  urlOf(&listenerv3.Listener{}),
}

func urlOf(m proto.Message) string {
	return typePrefix + string(m.ProtoReflect().Descriptor().FullName())
}

func kindOf(typeURL string) (kind, bool) {
	i := slices.Index(typeURLs[:], typeURL)
	return kind(i), i >= 0
}

// resource is one content of one named resource. It is not changed once made.
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
	// refs are the names it refers to: a route's clusters, a listener's routes, a cluster's secrets.
	refs []string
	// opaque is a content that a proxy brought along from before this server
	// started. What it refers to is unknown.
	opaque bool
	// unknown are endpoints that nobody published yet; the content is empty.
	unknown bool
	// base is the published resource that a merged Runtime stands for; else nil.
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
	}
	if runtime, ok := m.(*runtimev3.Runtime); ok {
		r.message = runtime
	}
	return r
}

// references lists the names a message refers to, sorted, once each.
func references(m proto.Message) []string {
	var refs []string
	switch m := m.(type) {
	case *clusterv3.Cluster:
		refs = secretsOf(m)
	case *routev3.RouteConfiguration:
		for _, host := range m.VirtualHosts {
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
	case *listenerv3.Listener:
		for _, chain := range m.FilterChains {
			for _, filter := range chain.Filters {
				manager := &hcmv3.HttpConnectionManager{}
				if filter.GetTypedConfig().MessageIs(manager) && filter.GetTypedConfig().UnmarshalTo(manager) == nil {
					refs = append(refs, manager.GetRds().GetRouteConfigName())
				}
			}
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
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

// target is the configuration that a gateway's proxies should have.
type target struct {
	version   uint64
	resources [kinds]map[string]*resource
}

// messagesOf gives a snapshot's messages by kind.
func messagesOf(snap xds.Snapshot) [kinds]map[string]proto.Message {
	var out [kinds]map[string]proto.Message
	out[kindRuntime] = snap.Runtimes
	out[kindCluster] = snap.Clusters
	out[kindSecret] = snap.Secrets
	out[kindRoute] = snap.Routes
	out[kindListener] = snap.Listeners
	return out
}
