// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bootstrap merges what an operator adds to Envoy's static configuration
// into ours. A part that Envoy would refuse at its start, or that would cut a
// proxy off from Headgate, is refused here with a sentence:
//
//	ProxyConfig ─ spec.bootstrap ─▶ Parse ─▶ Merge ─▶ the proxies' bootstrap
package bootstrap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	// The extensions that a bootstrap may name, so that their fields are checked.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/cpu_utilization/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Names of clusters that no other may take: those that every proxy has, one that is there
// while a release runs, and one that none has.
const (
	ControlPlane = "headgate"
	Admin        = "admin"
	Flush        = "flush"
	// Nowhere is a cluster that never exists: its connections are closed.
	Nowhere = "nowhere"
)

// Tags are the names that our statistics are labelled with; no other tag may have them.
func Tags() []string {
	return []string{
		"gateway", "gateway_namespace",
		"backend_namespace", "backend_service", "backend_port",
	}
}

// ours are the fields of a bootstrap that lead a proxy to Headgate, or that releases use.
var ours = map[protoreflect.Name]string{
	"node":                         "names the proxy to Headgate",
	"node_context_params":          "names the proxy to Headgate",
	"admin":                        "is for the proxy's own probes",
	"dynamic_resources":            "leads to Headgate",
	"default_config_source":        "leads to Headgate",
	"config_sources":               "leads to Headgate",
	"xds_delegate_extension":       "leads to Headgate",
	"xds_config_tracker_extension": "leads to Headgate",
	"hds_config":                   "leads to another control plane",
	"layered_runtime":              "carries the weights of releases",
}

// Parse reads a part of a bootstrap from JSON. An error says what is wrong with it and,
// where that is not plain, what to write instead.
func Parse(fragment []byte) (*bootstrapv3.Bootstrap, error) {
	part := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(fragment, part); err != nil {
		return nil, errors.New(plain(err))
	}
	if err := check(part); err != nil {
		return nil, err
	}
	// An overload manager is only complete with a monitor; ours has one.
	whole := &bootstrapv3.Bootstrap{OverloadManager: &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.any", ConfigType: &overloadv3.ResourceMonitor_TypedConfig{},
	}}}}
	if err := Merge(whole, part).ValidateAll(); err != nil {
		return nil, errors.New(plain(err))
	}
	if err := checkExpressions(part.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	return part, nil
}

// plain is an error's text without what its makers vary on purpose.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimPrefix(text, "proto: ")
}

func check(part *bootstrapv3.Bootstrap) error {
	var refused []string
	part.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if why, ok := ours[f.Name()]; ok {
			refused = append(refused, fmt.Sprintf("%s %s: remove it", f.Name(), why))
		}
		return true
	})
	if len(part.GetStaticResources().GetListeners()) > 0 {
		refused = append(refused, "static_resources.listeners would bypass the Gateway: write listeners of the Gateway instead")
	}
	seen := map[string]bool{ControlPlane: true, Admin: true, Flush: true, Nowhere: true}
	for _, c := range part.GetStaticResources().GetClusters() {
		switch {
		case strings.Contains(c.Name, "/"), strings.HasPrefix(c.Name, "invalid-"):
			refused = append(refused, fmt.Sprintf("static_resources.clusters: %q looks like a backend's name: choose one without / that does not begin with invalid-", c.Name))
		case seen[c.Name]:
			refused = append(refused, fmt.Sprintf("static_resources.clusters: the name %q is taken: choose another one", c.Name))
		}
		seen[c.Name] = true
	}
	if part.GetClusterManager().GetLoadStatsConfig() != nil {
		refused = append(refused, "cluster_manager.load_stats_config leads to Headgate: remove it")
	}
	if part.StatsFlushInterval != nil && part.StatsFlush != nil {
		refused = append(refused, "stats_flush_interval and stats_flush_on_admin exclude each other: keep one of them")
	}
	refused = append(refused, checkStats(part.GetStatsConfig())...)
	if len(refused) == 0 {
		return nil
	}
	slices.Sort(refused)
	return errors.New(strings.Join(refused, "; "))
}

func checkStats(c *metricsv3.StatsConfig) []string {
	var refused []string
	if c.GetUseAllDefaultTags() != nil && !c.GetUseAllDefaultTags().GetValue() {
		refused = append(refused, "stats_config.use_all_default_tags: releases are judged by these labels: remove it")
	}
	if m := c.GetStatsMatcher(); m != nil && m.GetInclusionList() == nil {
		refused = append(refused, "stats_config.stats_matcher: write an inclusion_list, it is added to what is counted already")
	}
	seen := Tags()
	for _, tag := range c.GetStatsTags() {
		if slices.Contains(seen, tag.TagName) {
			refused = append(refused, fmt.Sprintf("stats_config.stats_tags: the tag %q is taken: choose another name", tag.TagName))
		}
		seen = append(seen, tag.TagName)
	}
	return refused
}

// checkExpressions compiles every regular expression: Envoy would end at its start.
func checkExpressions(m protoreflect.Message, at string) error {
	expression := ""
	switch v := m.Interface().(type) {
	case *matcherv3.RegexMatcher:
		expression = v.Regex
	case *metricsv3.TagSpecifier:
		expression = v.GetRegex()
	}
	if _, err := regexp.Compile(expression); err != nil {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(at, "."), err)
	}
	var failure error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsMap() {
			return true
		}
		where := at + "." + string(f.Name())
		if !f.IsList() {
			failure = checkExpressions(v.Message(), where)
			return failure == nil
		}
		for i := range v.List().Len() {
			if failure = checkExpressions(v.List().Get(i).Message(), fmt.Sprintf("%s[%d]", where, i)); failure != nil {
				return false
			}
		}
		return true
	})
	return failure
}

// Merge gives base with a part that Parse has read: what the part sets wins,
// messages are merged field by field and lists are appended to. Of the overload
// manager's monitors and actions, one of the same name is replaced. Neither argument is
// changed.
func Merge(base, part *bootstrapv3.Bootstrap) *bootstrapv3.Bootstrap {
	out := proto.Clone(base).(*bootstrapv3.Bootstrap)
	merge(out.ProtoReflect(), proto.Clone(part).ProtoReflect())
	if o := out.OverloadManager; o != nil {
		o.ResourceMonitors = lastByName(o.ResourceMonitors, (*overloadv3.ResourceMonitor).GetName)
		o.Actions = lastByName(o.Actions, (*overloadv3.OverloadAction).GetName)
		o.LoadshedPoints = lastByName(o.LoadshedPoints, (*overloadv3.LoadShedPoint).GetName)
	}
	return out
}

func merge(into, from protoreflect.Message) {
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			list := into.Mutable(f).List()
			for i := range v.List().Len() {
				list.Append(v.List().Get(i))
			}
		case f.IsMap():
			m := into.Mutable(f).Map()
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool { m.Set(k, v); return true })
		// Values such as durations are one thing: half a second is not merged with one second.
		case f.Message() != nil && f.Message().ParentFile().Package() != "google.protobuf" && into.Has(f):
			merge(into.Mutable(f).Message(), v.Message())
		default:
			into.Set(f, v)
		}
		return true
	})
}

func lastByName[T any](items []T, name func(T) string) []T {
	var out []T
	for i, item := range items {
		later := slices.ContainsFunc(items[i+1:], func(o T) bool { return name(o) == name(item) })
		if !later {
			out = append(out, item)
		}
	}
	return out
}
