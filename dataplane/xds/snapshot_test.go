// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

// checkSnapshot checks what holds for every snapshot: Envoy's own rules for each
// message, names that agree, and references that exist.
func checkSnapshot(t *testing.T, snap xds.Snapshot) {
	t.Helper()
	for _, resources := range []map[string]proto.Message{snap.Listeners, snap.Routes, snap.Clusters, snap.Secrets, snap.Runtimes, snap.Filters, snap.Mixes} {
		for name, m := range resources {
			validateAll(t, name, m)
			if got := nameOf(m); got != name {
				t.Errorf("%q is filed under %q", got, name)
			}
		}
	}
	for name, m := range snap.Clusters {
		if mix, ok := snap.Mixes[name].(*endpointv3.ClusterLoadAssignment); ok {
			checkMix(t, snap, mix)
			continue
		}
		if c, ok := m.(*clusterv3.Cluster); ok && c.EdsClusterConfig == nil {
			if key, ok := snap.ClusterKeys[name]; ok {
				t.Errorf("cluster %q, which is found by DNS, has the key %+v", name, key)
			}
			continue
		}
		if key, ok := snap.ClusterKeys[name]; !ok || key.Name() != name {
			t.Errorf("cluster %q has the key %+v", name, key)
		}
	}
	tables, filters := map[string]bool{}, map[string]bool{}
	for name, m := range snap.Listeners {
		for _, chain := range m.(*listenerv3.Listener).FilterChains {
			if chain.Filters[0].GetConfigDiscovery() != nil {
				checkFilter(t, snap, chain.Filters[0].Name)
				filters[chain.Filters[0].Name] = true
				continue
			}
			manager := &hcmv3.HttpConnectionManager{}
			if err := chain.Filters[0].GetTypedConfig().UnmarshalTo(manager); err != nil {
				t.Fatal(err)
			}
			tables[checkScopeHeader(t, manager)] = true
			if snap.Routes[name+"/*"] == nil {
				t.Errorf("listener %s has no scope for hosts that have none of their own", name)
			}
		}
	}
	for name := range snap.Filters {
		if !filters[name] {
			t.Errorf("no listener refers to filter %s", name)
		}
	}
	for name, m := range snap.Routes {
		scope := m.(*routev3.ScopedRouteConfiguration)
		table, host, _ := strings.Cut(name, "/")
		if !tables[table] {
			t.Errorf("no listener leads to scope %s", name)
		}
		if key := scope.Key.Fragments[0].GetStringKey(); key != name {
			t.Errorf("scope %s has the key %s", name, key)
		}
		if len(scope.RouteConfiguration.TypedPerFilterConfig) > 0 == (host == "*") {
			t.Errorf("scope %s: the filters that lead to the wildcards are switched wrongly", name)
		}
		checkTable(t, snap, scope.RouteConfiguration)
	}
}

func checkMix(t *testing.T, snap xds.Snapshot, mix *endpointv3.ClusterLoadAssignment) {
	t.Helper()
	for _, name := range xds.Upstreams(mix) {
		if key, ok := snap.ClusterKeys[name]; !ok || key.Name() != name {
			t.Errorf("the mix %s has the upstream %s, whose key is %+v", mix.ClusterName, name, key)
		}
	}
	validateAll(t, mix.ClusterName, xds.Mixed(mix, func(string) *endpointv3.ClusterLoadAssignment { return nil }))
}

func checkFilter(t *testing.T, snap xds.Snapshot, name string) {
	t.Helper()
	config, ok := snap.Filters[name].(*corev3.TypedExtensionConfig)
	if !ok {
		t.Errorf("a listener refers to filter %s, which does not exist", name)
		return
	}
	filter := &tcpproxyv3.TcpProxy{}
	if err := config.TypedConfig.UnmarshalTo(filter); err != nil {
		t.Fatal(err)
	}
	clusters := []string{filter.GetCluster()}
	for _, c := range filter.GetWeightedClusters().GetClusters() {
		clusters = append(clusters, c.Name)
	}
	for _, cluster := range clusters {
		if cluster != "" && cluster != "nowhere" && !strings.HasPrefix(cluster, "invalid-") && snap.Clusters[cluster] == nil {
			t.Errorf("filter %s refers to cluster %s, which does not exist", name, cluster)
		}
	}
}

// checkScopeHeader gives the table that a connection manager leads to, the same before and
// after it has taken note that a host has no scope.
func checkScopeHeader(t *testing.T, manager *hcmv3.HttpConnectionManager) string {
	t.Helper()
	early, late := &earlyv3.HeaderMutation{}, &headermutationv3.HeaderMutation{}
	if err := errors.Join(manager.EarlyHeaderMutationExtensions[0].TypedConfig.UnmarshalTo(early),
		manager.HttpFilters[0].GetTypedConfig().UnmarshalTo(late)); err != nil {
		t.Fatal(err)
	}
	first := early.Mutations[0].GetAppend().Header.Value
	second := late.Mutations.RequestMutations[0].GetAppend().Header.Value
	if strings.Replace(first, "%REQ(:AUTHORITY)%", "*", 1) != second {
		t.Errorf("the scope header is first %q and then %q", first, second)
	}
	table, _, _ := strings.Cut(first, "/")
	return table
}

func checkTable(t *testing.T, snap xds.Snapshot, table *routev3.RouteConfiguration) {
	t.Helper()
	domains := map[string]bool{}
	for _, host := range table.VirtualHosts {
		for _, domain := range host.Domains {
			if domains[domain] {
				t.Errorf("route table %s has the domain %s twice", table.Name, domain)
			}
			domains[domain] = true
		}
		for _, route := range host.Routes {
			names := []string{route.GetRoute().GetCluster()}
			for _, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
				names = append(names, c.Name)
			}
			for _, name := range names {
				if name != "" && !strings.HasPrefix(name, "invalid-") && snap.Clusters[name] == nil {
					t.Errorf("route %s refers to cluster %s, which does not exist", route.Name, name)
				}
			}
		}
	}
}

// validateAll applies Envoy's rules to a message and to every message packed in it.
func validateAll(t *testing.T, name string, m proto.Message) {
	t.Helper()
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	eachMessage(m.ProtoReflect(), func(inner protoreflect.Message) {
		packed, ok := inner.Interface().(*anypb.Any)
		if !ok {
			return
		}
		content, err := packed.UnmarshalNew()
		if err != nil {
			t.Errorf("%s: unpacking %s: %v", name, packed.TypeUrl, err)
			return
		}
		validateAll(t, name+"/"+packed.TypeUrl, content)
	})
}

func eachMessage(m protoreflect.Message, visit func(protoreflect.Message)) {
	visit(m)
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					eachMessage(v.Message(), visit)
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				eachMessage(value.List().Get(i).Message(), visit)
			}
		default:
			eachMessage(value.Message(), visit)
		}
		return true
	})
}

func nameOf(m proto.Message) string {
	if mix, ok := m.(*endpointv3.ClusterLoadAssignment); ok {
		return mix.ClusterName
	}
	return m.ProtoReflect().Get(m.ProtoReflect().Descriptor().Fields().ByName("name")).String()
}

// snapshotsYAML is the snapshot of every Gateway of a case, and the endpoints of its
// clusters, for people to read. Private keys are left out.
func snapshotsYAML(t *testing.T, c goldens.Case, g *graph.Graph) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, gw := range g.Gateways {
		snap := xds.Translate(g, gw.Key)
		doc := map[string]any{"gateway": gw.Key.String()}
		for kind, resources := range map[string]map[string]proto.Message{
			"listeners": snap.Listeners, "routes": snap.Routes, "clusters": snap.Clusters, "runtimes": nonEmpty(snap.Runtimes),
			"filters": snap.Filters, "mixes": snap.Mixes,
		} {
			if list := plainList(t, resources); len(list) > 0 {
				doc[kind] = list
			}
		}
		if len(snap.Secrets) > 0 {
			doc["secrets"] = slices.Sorted(maps.Keys(snap.Secrets))
		}
		var endpoints []any
		for _, name := range slices.Sorted(maps.Keys(snap.ClusterKeys)) {
			key := snap.ClusterKeys[name]
			cla := xds.Endpoints(key, c.Resources.Services[serviceOf(key)], slicesOf(key, c.EndpointSlices))
			validateAll(t, name, cla)
			endpoints = append(endpoints, plain(t, cla))
		}
		if len(endpoints) > 0 {
			doc["endpoints"] = endpoints
		}
		text, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes()
}

func nonEmpty(runtimes map[string]proto.Message) map[string]proto.Message {
	out := map[string]proto.Message{}
	for name, m := range runtimes {
		if proto.Size(m) > len(name)+4 {
			out[name] = m
		}
	}
	return out
}

func serviceOf(key graph.ClusterKey) types.NamespacedName {
	return types.NamespacedName{Namespace: key.Namespace, Name: key.Service}
}

func slicesOf(key graph.ClusterKey, all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, slice := range all {
		namespace := slice.Namespace
		if namespace == "" {
			namespace = corev1.NamespaceDefault
		}
		if namespace == key.Namespace && slice.Labels[discoveryv1.LabelServiceName] == key.Service {
			out = append(out, slice)
		}
	}
	return out
}

func plainList(t *testing.T, resources map[string]proto.Message) []any {
	t.Helper()
	var out []any
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		out = append(out, plain(t, resources[name]))
	}
	return out
}

func plain(t *testing.T, m proto.Message) any {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
