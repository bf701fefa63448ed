// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package served

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/dataplane/xds"
)

// Paths of a proxy's admin interface that ReadDump reads.
const (
	DumpPath    = "/config_dump?include_eds"
	RuntimePath = "/runtime"
)

// ReadDump reads what Envoy answers to DumpPath and RuntimePath. Resources that are
// part of the proxy's bootstrap are left out. Extensions that this program does not
// know are kept by name, without their contents.
func ReadDump(dump, runtime []byte) (Config, error) {
	c := empty()
	var all struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(dump, &all); err != nil {
		return c, fmt.Errorf("reading Envoy's configuration dump: %w", err)
	}
	byType := map[string]json.RawMessage{}
	for _, raw := range all.Configs {
		var head struct {
			Type string `json:"@type"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return c, fmt.Errorf("reading Envoy's configuration dump: %w", err)
		}
		byType[head.Type[strings.LastIndexByte(head.Type, '.')+1:]] = raw
	}
	for _, section := range []struct {
		name string
		read func([]byte) error
	}{
		{"ListenersConfigDump", c.readListeners},
		{"RoutesConfigDump", c.readRoutes},
		{"ScopedRoutesConfigDump", c.readScopes}, // may refer to the tables before
		{"ClustersConfigDump", c.readClusters},
		{"EndpointsConfigDump", c.readEndpoints},
	} {
		if raw := byType[section.name]; raw != nil {
			if err := section.read(raw); err != nil {
				return c, fmt.Errorf("reading the %s of Envoy's configuration dump: %w", section.name, err)
			}
		}
	}
	slices.SortFunc(c.Listeners, func(a, b *listenerv3.Listener) int { return cmp.Compare(a.Name, b.Name) })
	return c, c.readRuntime(runtime)
}

func (c *Config) readListeners(raw []byte) error {
	dump := &adminv3.ListenersConfigDump{}
	if err := section(raw, dump); err != nil {
		return err
	}
	for _, l := range dump.DynamicListeners {
		c.note("listener "+l.Name, l.ErrorState)
		if l.ActiveState == nil {
			c.Notes = append(c.Notes, fmt.Sprintf("listener %s is not served yet: it waits for what it refers to", l.Name))
			continue
		}
		listener := &listenerv3.Listener{}
		if err := l.ActiveState.Listener.UnmarshalTo(listener); err != nil {
			return err
		}
		c.Listeners = append(c.Listeners, listener)
	}
	return nil
}

func (c *Config) readRoutes(raw []byte) error {
	dump := &adminv3.RoutesConfigDump{}
	if err := section(raw, dump); err != nil {
		return err
	}
	for _, r := range dump.DynamicRouteConfigs {
		table := &routev3.RouteConfiguration{}
		if r.RouteConfig != nil {
			if err := r.RouteConfig.UnmarshalTo(table); err != nil {
				return err
			}
			c.addTable(table.Name, table)
		}
		c.note("route table "+table.Name, r.ErrorState)
	}
	return nil
}

// readScopes reads the scopes, each with its part of a route table.
func (c *Config) readScopes(raw []byte) error {
	dump := &adminv3.ScopedRoutesConfigDump{}
	if err := section(raw, dump); err != nil {
		return err
	}
	add := func(scopes []*anypb.Any) error {
		for _, packed := range scopes {
			scope := &routev3.ScopedRouteConfiguration{}
			if err := packed.UnmarshalTo(scope); err != nil {
				return err
			}
			c.addScope(scope)
		}
		return nil
	}
	for _, s := range dump.InlineScopedRouteConfigs {
		if err := add(s.ScopedRouteConfigs); err != nil {
			return err
		}
	}
	for _, s := range dump.DynamicScopedRouteConfigs {
		c.note("scoped route tables "+s.Name, s.ErrorState)
		if err := add(s.ScopedRouteConfigs); err != nil {
			return err
		}
	}
	return nil
}

// addScope files a scope under the table that it is a part of.
func (c *Config) addScope(scope *routev3.ScopedRouteConfiguration) {
	if table := scope.GetRouteConfiguration(); table != nil {
		name := xds.TableOfScope(scope.Name)
		c.Tables[name] = append(c.Tables[name], table)
	}
}

func (c *Config) readClusters(raw []byte) error {
	dump := &adminv3.ClustersConfigDump{}
	if err := section(raw, dump); err != nil {
		return err
	}
	for _, d := range dump.DynamicActiveClusters {
		cluster := &clusterv3.Cluster{}
		if err := d.Cluster.UnmarshalTo(cluster); err != nil {
			return err
		}
		c.Clusters[cluster.Name] = cluster
		c.note("cluster "+cluster.Name, d.ErrorState)
	}
	return nil
}

func (c *Config) readEndpoints(raw []byte) error {
	dump := &adminv3.EndpointsConfigDump{}
	if err := section(raw, dump); err != nil {
		return err
	}
	for _, d := range dump.DynamicEndpointConfigs {
		if d.EndpointConfig == nil {
			continue
		}
		endpoints := &endpointv3.ClusterLoadAssignment{}
		if err := d.EndpointConfig.UnmarshalTo(endpoints); err != nil {
			return err
		}
		c.Endpoints[endpoints.ClusterName] = endpoints
	}
	return nil
}

// note keeps Envoy's sentence about an update that it refused.
func (c *Config) note(what string, failure *adminv3.UpdateFailureState) {
	if failure != nil && failure.Details != "" {
		c.Notes = append(c.Notes, fmt.Sprintf("the proxy refused an update of %s: %s", what, failure.Details))
	}
}

// readRuntime reads the final values of runtime keys. Envoy prints each as text.
func (c *Config) readRuntime(answer []byte) error {
	var runtime struct {
		Entries map[string]struct {
			Final string `json:"final_value"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(answer, &runtime); err != nil {
		return fmt.Errorf("reading Envoy's runtime values: %w", err)
	}
	for key, entry := range runtime.Entries {
		if value, ok := runtimeValue(entry.Final); ok {
			c.Runtime[key] = value
		}
	}
	return nil
}

// section reads one section of a dump.
func section(raw []byte, into proto.Message) error {
	// The type stands in the JSON of a section, but is no field of its message.
	return protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: lenient{}}.Unmarshal(raw, into)
}

// lenient finds a message without fields for types that this program does not know.
type lenient struct{}

// FindMessageByName finds a message that this program knows.
func (lenient) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

// FindMessageByURL finds a message, or one without fields in the place of one that this program does not know.
func (lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if known, err := protoregistry.GlobalTypes.FindMessageByURL(url); err == nil {
		return known, nil
	}
	return (&corev3.AggregatedConfigSource{}).ProtoReflect().Type(), nil
}

// FindExtensionByName finds an extension that this program knows.
func (lenient) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

// FindExtensionByNumber finds an extension that this program knows.
func (lenient) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(message, field)
}
