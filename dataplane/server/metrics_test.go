// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/xds"
)

func TestAScrapeSaysHowFarTheProxiesAre(t *testing.T) {
	s := New(Options{})
	edge := types.NamespacedName{Namespace: "infra", Name: "edge"}
	version := s.Publish(xds.Snapshot{Gateway: edge, Clusters: map[string]proto.Message{}})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(NewCollector(s)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if len(m.Label) != 2 || m.Label[0].GetValue() != "edge" || m.Label[1].GetValue() != "infra" {
				t.Errorf("%s has the labels %v", f.GetName(), m.Label)
			}
			got[f.GetName()] = m.Gauge.GetValue()
		}
	}
	for name, want := range map[string]float64{
		"headgate_gateway_proxies_connected": 0, "headgate_gateway_published_version": float64(version),
		"headgate_gateway_acknowledged_version": 0, "headgate_gateway_answered_version": 0, "headgate_gateway_refusals": 0,
		"headgate_gateway_diversions": 0,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", name, value, ok, want)
		}
	}
	s.Withdraw(edge)
	if families, err = registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("a Gateway that is gone still has %d metrics (%v)", len(families), err)
	}
}
