// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
)

// Dependents gives the routes of a Gateway that are served by means of one resource
// of its Snapshot, named by its type and name: those that suffer when a proxy refuses it.
func Dependents(g *graph.Graph, gateway types.NamespacedName, typeURL, name string) []*graph.Route {
	var routes []*graph.Route
	for _, gw := range g.Gateways {
		if gw.Key != gateway || !gw.Valid {
			continue
		}
		for _, p := range portsOf(gw) {
			for _, l := range p.listeners {
				all := carriesAll(p, l, typeURL, name)
				host, owned := ownedScope(p, l, typeURL, name)
				for _, a := range l.Attachments {
					if (all || owned && serves(a, host) || carries(gw, a.Route, typeURL, name) || carriesName(a, typeURL, name)) && !slices.Contains(routes, a.Route) {
						routes = append(routes, a.Route)
					}
				}
			}
		}
	}
	return routes
}

// carriesAll tells whether everything that a listener serves needs the resource.
func carriesAll(p port, l *graph.Listener, typeURL, name string) bool {
	switch kindOf(l) {
	case portTCP:
		return name == tcpName(l.Port) && (isType(typeURL, &listenerv3.Listener{}) || isType(typeURL, &corev3.TypedExtensionConfig{}))
	case portUDP:
		return name == udpName(l.Port) && isType(typeURL, &listenerv3.Listener{}) ||
			name == udpCluster(l.Gateway.Key, l.Port) && (isType(typeURL, &clusterv3.Cluster{}) || isType(typeURL, &endpointv3.ClusterLoadAssignment{}))
	}
	switch {
	case isType(typeURL, &corev3.TypedExtensionConfig{}):
		return false // a server name's, see carries
	case isType(typeURL, &listenerv3.Listener{}):
		return name == p.name()
	case isType(typeURL, &tlsv3.Secret{}):
		return downstreamSecrets(l)[name] != nil
	}
	return false
}

// ownedScope gives the host of a scope, if requests for it belong to the listener.
func ownedScope(p port, l *graph.Listener, typeURL, name string) (host string, owned bool) {
	host, ours := strings.CutPrefix(name, p.name()+"/")
	if !ours || !overHTTP(l) || !isType(typeURL, &routev3.ScopedRouteConfiguration{}) {
		return "", false
	}
	return host, host == anyHost || slices.Contains(ownedHosts(p, l), host)
}

// serves tells whether a scope has rules of an attachment's route: that of an exact
// host those of every route whose hostnames cover it, that of the wildcards those of every
// route that has any, or none at all.
func serves(a *graph.Attachment, host string) bool {
	if host == anyHost {
		return slices.ContainsFunc(a.Hostnames, func(h string) bool { return !exact(orAny(h)) })
	}
	if len(a.Route.Hostnames) == 0 {
		return true
	}
	wider := widening(host)
	return slices.ContainsFunc(a.Route.Hostnames, func(h string) bool { return slices.Contains(wider, h) })
}

// carries tells whether a route in particular needs the resource.
func carries(gw *graph.Gateway, route *graph.Route, typeURL, name string) bool {
	switch {
	case isType(typeURL, &tlsv3.Secret{}):
		return slices.ContainsFunc(upstreams(route), func(up upstream) bool { return upstreamSecrets(up.tls, gw.ClientCertificate)[name] != nil })
	case isType(typeURL, &runtimev3.Runtime{}):
		return route.Running && layerOf(route) == name
	case isType(typeURL, &clusterv3.Cluster{}):
		if name == bootstrap.Flush {
			return route.Running
		}
		return slices.ContainsFunc(upstreams(route), func(up upstream) bool { return up.key.Name() == name })
	}
	return false
}

// carriesName tells whether the connections of one of a route's server names need the resource.
func carriesName(a *graph.Attachment, typeURL, name string) bool {
	return isType(typeURL, &corev3.TypedExtensionConfig{}) && slices.ContainsFunc(a.Hostnames, func(host string) bool {
		return serverName{listener: a.Listener, host: orAny(host)}.filterName() == name
	})
}

func isType(typeURL string, m proto.Message) bool {
	return strings.HasSuffix(typeURL, "/"+string(m.ProtoReflect().Descriptor().FullName()))
}
