// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"encoding/json"
	"testing"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

func TestProxiesFlushWhileAReleaseRuns(t *testing.T) {
	var builder xds.Translator
	quiet := graphtest.Route("quiet", []string{"a.example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1)))
	other := graphtest.Route("other", []string{"b.example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1)))
	g := graphtest.Graph(graphtest.HTTP("http", 80, "", quiet, other))
	snap := builder.Translate(g, graphtest.GatewayKey)
	for _, step := range []struct {
		name         string
		quiet, other bool
		want, told   bool
	}{
		{"nothing runs", false, false, false, false},
		{"a release begins", false, true, true, true},
		{"another one begins", true, true, true, false},
		{"one ends", true, false, true, false},
		{"the last one ends", false, false, false, true},
	} {
		quiet.Running, other.Running = step.quiet, step.other
		delta, ok := builder.Update(graphtest.GatewayKey, []graph.Change{{Was: quiet, Is: quiet}, {Was: other, Is: other}})
		if !ok {
			t.Fatal("the whole has to be made anew")
		}
		if _, told := delta.Clusters[bootstrap.Flush]; told != step.told {
			t.Errorf("%s: the difference has the cluster: %v", step.name, told)
		}
		snap = delta.Apply(snap)
		if got := snap.Clusters[bootstrap.Flush] != nil; got != step.want {
			t.Errorf("%s: the proxies flush: %v", step.name, got)
		}
	}
}

func TestWhoDecidesWhenAProxyFlushes(t *testing.T) {
	const sink = `"stats_sinks": [{"name": "envoy.stat_sinks.statsd", "typed_config": {"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "tcp_cluster_name": "statsd"}}]`
	for _, tt := range []struct {
		name, extra string
		onAdmin     bool
		interval    string
		sinks       int
	}{
		{"whoever asks", "", true, "", 1},
		{"whoever asks, whatever else is merged in", `{"flags_path": "/flags"}`, true, "", 1},
		{"the clock, where the operator says so", `{"stats_flush_interval": "5s"}`, false, "5s", 1},
		{"the clock, where the operator has a sink", "{" + sink + "}", false, "1s", 2},
		{"the operator's own clock", "{" + sink + `, "stats_flush_interval": "10s"}`, false, "10s", 2},
		{"the operator, against the clock", "{" + sink + `, "stats_flush_on_admin": true}`, true, "", 2},
	} {
		var got struct {
			Interval string            `json:"stats_flush_interval"`
			OnAdmin  bool              `json:"stats_flush_on_admin"`
			Sinks    []json.RawMessage `json:"stats_sinks"`
		}
		if err := json.Unmarshal(xds.Bootstrap(xds.BootstrapParams{Gateway: graphtest.GatewayKey, Extra: []byte(tt.extra)}), &got); err != nil {
			t.Fatal(err)
		}
		if got.OnAdmin != tt.onAdmin || got.Interval != tt.interval || len(got.Sinks) != tt.sinks {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}
