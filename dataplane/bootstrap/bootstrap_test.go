// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
	"sigs.k8s.io/yaml"
)

func fromYAML(t *testing.T, text string) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWhatCannotWorkIsRefusedInASentence(t *testing.T) {
	for _, row := range []struct{ name, part, want string }{
		{"nothing", `{}`, ""},
		{"more statistics", `{stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: "tls_inspector"}]}}}}`, ""},
		{"a sink and its cluster", `
stats_sinks:
- name: envoy.stat_sinks.statsd
  typed_config: {"@type": type.googleapis.com/envoy.config.metrics.v3.StatsdSink, tcp_cluster_name: statsd}
static_resources:
  clusters:
  - name: statsd
    type: STRICT_DNS
    connect_timeout: 1s
    load_assignment: {cluster_name: statsd, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: statsd.monitoring, port_value: 9125}}}}]}]}
`, ""},
		{"an action alone", `{overload_manager: {actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.9}}]}]}}`, ""},
		{"a field that does not exist", `{stats_flush_intervall: 1s}`, `unknown field "stats_flush_intervall"`},
		{"an extension that does not exist", `{stats_sinks: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.Nothing}}]}`, `unable to resolve "type.googleapis.com/envoy.Nothing"`},
		{"a field that an extension does not have", `{stats_sinks: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.config.metrics.v3.StatsdSink, cluster: y}}]}`, `unknown field "cluster"`},
		{"a value out of its range", `{stats_flush_interval: 0s}`, "StatsFlushInterval"},
		{"a value of another type", `{stats_flush_interval: [1]}`, "unexpected token ["},
		{"another node", `{node: {id: me}}`, "node names the proxy to Headgate: remove it"},
		{"an open admin interface", `{admin: {address: {socket_address: {address: 0.0.0.0, port_value: 1}}}}`, "admin is for the proxy's own probes: remove it"},
		{"another control plane", `{dynamic_resources: {}}`, "dynamic_resources leads to Headgate: remove it"},
		{"runtime keys", `{layered_runtime: {layers: [{name: a, static_layer: {}}]}}`, "layered_runtime carries the weights of releases: remove it"},
		{"two at once", `{node: {id: me}, admin: {}}`, "remove it; node"},
		{"another way to Headgate", `{static_resources: {clusters: [{name: headgate}]}}`, `the name "headgate" is taken`},
		{"two clusters of one name", `{static_resources: {clusters: [{name: a}, {name: a}]}}`, `the name "a" is taken`},
		{"a cluster like a backend", `{static_resources: {clusters: [{name: shop/web/80}]}}`, "choose one without /"},
		{"the cluster that is none", `{static_resources: {clusters: [{name: nowhere}]}}`, `the name "nowhere" is taken`},
		{"the cluster that is there during releases", `{static_resources: {clusters: [{name: flush}]}}`, `the name "flush" is taken`},
		{"loads for somebody else", `{cluster_manager: {load_stats_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}}}`, "load_stats_config leads to Headgate: remove it"},
		{"two ways to flush", `{stats_flush_interval: 1s, stats_flush_on_admin: true}`, "exclude each other: keep one of them"},
		{"a listener", `{static_resources: {listeners: [{name: a}]}}`, "write listeners of the Gateway instead"},
		{"no statistics", `{stats_config: {stats_matcher: {reject_all: true}}}`, "write an inclusion_list"},
		{"a tag of ours", `{stats_config: {stats_tags: [{tag_name: gateway, fixed_value: x}]}}`, `the tag "gateway" is taken`},
		{"no tags", `{stats_config: {use_all_default_tags: false}}`, "releases are judged by these labels"},
		{"an expression that does not compile", `{stats_config: {stats_matcher: {inclusion_list: {patterns: [{safe_regex: {regex: "a("}}]}}}}`, "stats_config.stats_matcher.inclusion_list.patterns[0].safe_regex: error parsing regexp"},
		{"a tag that does not compile", `{stats_config: {stats_tags: [{tag_name: x, regex: "a("}]}}`, "stats_config.stats_tags[0]: error parsing regexp"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse(fromYAML(t, row.part))
			switch {
			case row.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("Parse says %v, want %q", err, row.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	read := func(text string) *bootstrapv3.Bootstrap {
		out := &bootstrapv3.Bootstrap{}
		if err := protojson.Unmarshal(fromYAML(t, text), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, row := range []struct{ name, base, part, want string }{
		{"what the part sets wins", `{stats_flush_interval: 1s}`, `{stats_flush_interval: 0.5s}`, `{stats_flush_interval: 0.5s}`},
		{"the rest stays", `{stats_flush_interval: 1s, flags_path: a}`, `{flags_path: b}`, `{stats_flush_interval: 1s, flags_path: b}`},
		{
			"lists are appended to", `{static_resources: {clusters: [{name: a}]}}`, `{static_resources: {clusters: [{name: b}]}}`,
			`{static_resources: {clusters: [{name: a}, {name: b}]}}`,
		},
		{
			"more statistics beside ours", `{stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: a}]}}}}`,
			`{stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: b}]}}}}`,
			`{stats_config: {stats_matcher: {inclusion_list: {patterns: [{prefix: a}, {prefix: b}]}}}}`,
		},
		{
			"an action of the same name is replaced", `{overload_manager: {actions: [{name: a, triggers: [{name: one}]}, {name: b}]}}`,
			`{overload_manager: {actions: [{name: a, triggers: [{name: two}]}]}}`,
			`{overload_manager: {actions: [{name: b}, {name: a, triggers: [{name: two}]}]}}`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			base, part := read(row.base), read(row.part)
			if diff := cmp.Diff(read(row.want), Merge(base, part), protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(read(row.base), base, protocmp.Transform()) + cmp.Diff(read(row.part), part, protocmp.Transform()); diff != "" {
				t.Errorf("an argument was changed:\n%s", diff)
			}
		})
	}
}
