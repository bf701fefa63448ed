// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

var params = xds.BootstrapParams{
	Gateway: graphtest.GatewayKey, NodeID: "proxy-0",
	ControlPlaneHost: "headgate.system.svc", ControlPlanePort: 18000, ControlPlaneName: "headgate.system.svc",
	CertDir: "/certs", ConfigDir: "/config", AdminPort: 19000, StatsPort: 19001, MaxHeapBytes: 1 << 30,
}

func parsed(t *testing.T, p xds.BootstrapParams) *bootstrapv3.Bootstrap {
	t.Helper()
	out := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(xds.Bootstrap(p), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTheBootstrapIsValidAndReproducible(t *testing.T) {
	validateAll(t, "bootstrap", parsed(t, params))
	for range 20 {
		if !bytes.Equal(xds.Bootstrap(params), xds.Bootstrap(params)) {
			t.Fatal("two bootstraps of the same parameters differ")
		}
	}
	for name, content := range xds.Files(params) {
		if !json.Valid(content) {
			t.Errorf("%s is not JSON", name)
		}
	}
}

func TestTheAdminInterfaceIsForTheProxyAlone(t *testing.T) {
	b := parsed(t, params)
	if at := b.Admin.Address.GetSocketAddress().Address; at != "127.0.0.1" {
		t.Errorf("it listens on %s", at)
	}
}

func TestTheProxyIsNotReadyBeforeItsFirstConfiguration(t *testing.T) {
	dynamic := parsed(t, params).DynamicResources
	if dynamic.CdsConfig.InitialFetchTimeout.AsDuration() != 0 || dynamic.CdsConfig.InitialFetchTimeout == nil ||
		dynamic.LdsConfig.InitialFetchTimeout.AsDuration() != 0 || dynamic.LdsConfig.InitialFetchTimeout == nil {
		t.Error("the proxy gives up waiting for its first configuration")
	}
}

func TestTheControlPlaneByNameOrAddress(t *testing.T) {
	byAddress := params
	byAddress.ControlPlaneHost, byAddress.ControlPlaneName = "10.0.0.1", "10.0.0.1"
	for want, p := range map[string]xds.BootstrapParams{"STRICT_DNS": params, "STATIC": byAddress} {
		if got := parsed(t, p).StaticResources.Clusters[0].GetType().String(); got != want {
			t.Errorf("%s is found by %s, want %s", p.ControlPlaneHost, got, want)
		}
	}
}

func TestBucketEdgesOfRequestTimes(t *testing.T) {
	edges := parsed(t, params).StatsConfig.HistogramBucketSettings[0].Buckets
	if !slices.IsSorted(edges) || len(slices.Compact(slices.Clone(edges))) != len(edges) {
		t.Fatalf("they do not rise: %v", edges)
	}
	if edges[0] != 0.5 || edges[len(edges)-1] < 1_000_000 {
		t.Errorf("they go from %v to %v ms, want 0.5 ms to 1,000 s", edges[0], edges[len(edges)-1])
	}
	for i, edge := range edges[1:] {
		if growth := edge / edges[i]; edge <= 1024 && (growth < 1.189 || growth > 1.190) {
			t.Errorf("from %v to %v they grow by %v, want 2^(1/4)", edges[i], edge, growth)
		}
	}
}
