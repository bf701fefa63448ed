// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

func typeURL(m proto.Message) string {
	return "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
}

// TestDependentsAreTheRoutesInAResource compares with what the messages themselves say:
// Envoy's routes carry the names of the objects they come from.
func TestDependentsAreTheRoutesInAResource(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		g := graph.Build(c.Resources)
		for _, gw := range g.Gateways {
			snap := xds.Translate(g, gw.Key)
			for name, message := range snap.Routes {
				want := namesIn(message.(*routev3.ScopedRouteConfiguration).RouteConfiguration)
				for route := range want {
					if !slices.Contains(dependents(g, gw, typeURL(message), name), route) {
						t.Errorf("%s: %s is in the scope %s but does not depend on it", c.Name, route, name)
					}
				}
				for _, route := range dependents(g, gw, typeURL(message), name) {
					if !want[route] {
						t.Errorf("%s: %s depends on the scope %s but is not in it", c.Name, route, name)
					}
				}
				if len(snap.Listeners) == 1 && len(want) > 0 {
					listener := slices.Collect(maps.Keys(snap.Listeners))[0]
					if len(dependents(g, gw, typeURL(&listenerv3.Listener{}), listener)) == 0 {
						t.Errorf("%s: nothing depends on the only listener %s", c.Name, listener)
					}
				}
			}
			for name, message := range snap.Filters {
				filter := &tcpproxyv3.TcpProxy{}
				if err := message.(*corev3.TypedExtensionConfig).TypedConfig.UnmarshalTo(filter); err != nil {
					t.Fatal(err)
				}
				if route := filter.StatPrefix; route != "none" && !slices.Contains(dependents(g, gw, typeURL(message), name), route) {
					t.Errorf("%s: %s is in the filter %s but does not depend on it", c.Name, route, name)
				}
			}
			for name, message := range snap.Clusters {
				if mix, ok := snap.Mixes[name].(*endpointv3.ClusterLoadAssignment); ok && len(mix.Endpoints) == 0 {
					continue // a port without a route
				}
				if len(dependents(g, gw, typeURL(message), name)) == 0 {
					t.Errorf("%s: nothing depends on cluster %s", c.Name, name)
				}
			}
			if got := dependents(g, gw, typeURL(&listenerv3.Listener{}), "elsewhere"); len(got) > 0 {
				t.Errorf("%s: %v depend on a listener that is not there", c.Name, got)
			}
		}
	}
}

func dependents(g *graph.Graph, gw *graph.Gateway, typeURL, name string) []string {
	var names []string
	for _, route := range xds.Dependents(g, gw.Key, typeURL, name) {
		names = append(names, fmt.Sprintf("%s/%s", route.Kind, route.Key))
	}
	return names
}

func namesIn(table *routev3.RouteConfiguration) map[string]bool {
	names := map[string]bool{}
	for _, host := range table.VirtualHosts {
		for _, route := range host.Routes {
			if parts := strings.Split(route.Name, "/"); len(parts) > 3 {
				names[strings.Join(parts[:3], "/")] = true
			}
		}
	}
	return names
}
