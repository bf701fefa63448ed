// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package infra

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

func options() Options {
	proxy := Defaults("envoyproxy/envoy:distroless-v1.40.0")
	proxy.Resources = &corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
	}
	proxy.Drain.Max.Duration = 5 * time.Minute
	return Options{
		HeadgateImage: "headgate/headgate:v1", Proxy: proxy,
		Files: map[string][]byte{BootstrapFile: []byte(`{"node":{}}`)}, Certificate: []byte("cert"), Key: []byte("key"), Authority: []byte("ca"),
	}
}

func web(t *testing.T, change func(*gwv1.Gateway)) *graph.Gateway {
	t.Helper()
	r, _, err := goldens.Parse([]byte(`
kind: GatewayClass
metadata: {name: headgate}
spec: {controllerName: headgate.dev/gateway-controller}
---
kind: Gateway
metadata: {name: web, namespace: shop, uid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427}
spec:
  gatewayClassName: headgate
  infrastructure:
    labels: {team: blue, app.kubernetes.io/name: mine}
    annotations: {example.com/lb: internal}
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: other, port: 80, protocol: HTTP, hostname: a.com}
  - {name: high, port: 8080, protocol: HTTP}
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
  - {name: broken, port: 9, protocol: SCTP}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, gw := range r.Gateways {
		if change != nil {
			change(gw)
		}
	}
	return graph.Build(r).Gateways[0]
}

// golden compares the objects with a file of testdata, or writes it with -update.
func golden(t *testing.T, file string, objects Objects) {
	t.Helper()
	var out bytes.Buffer
	for _, o := range objects.All() {
		data, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		out.Write(data)
	}
	path := filepath.Join("testdata", file)
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the expectation (run with -update to write it): %v", err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestObjects(t *testing.T) { golden(t, "objects.yaml", For(web(t, nil), options())) }

func TestWhatRestartsPods(t *testing.T) {
	pod := func(gw *graph.Gateway, o Options) corev1.PodTemplateSpec { return For(gw, o).Deployment.Spec.Template }
	before := pod(web(t, nil), options())
	tests := []struct {
		name     string
		change   func(*gwv1.Gateway)
		options  func(*Options)
		restarts bool
	}{
		{"a listener is added", func(gw *gwv1.Gateway) {
			gw.Spec.Listeners = append(gw.Spec.Listeners, gwv1.Listener{Name: "n", Port: 81, Protocol: gwv1.HTTPProtocolType})
		}, nil, false},
		{"an address is asked for", func(gw *gwv1.Gateway) { gw.Spec.Addresses = []gwv1.GatewaySpecAddress{{Value: "192.0.2.1"}} }, nil, false},
		{"the certificate is rotated", nil, func(o *Options) { o.Certificate, o.Key = []byte("c2"), []byte("k2") }, false},
		{"the replicas change", nil, func(o *Options) { o.Proxy.Replicas = new(int32(3)) }, false},
		{"the bootstrap changes", nil, func(o *Options) { o.Files = map[string][]byte{BootstrapFile: []byte("{}")} }, true},
		{"the image changes", nil, func(o *Options) { o.Proxy.Image = "envoy:2" }, true},
		{"a label is asked for", func(gw *gwv1.Gateway) { gw.Spec.Infrastructure.Labels["x"] = "y" }, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			if tt.options != nil {
				tt.options(&o)
			}
			diff := cmp.Diff(before, pod(web(t, tt.change), o))
			if restarts := diff != ""; restarts != tt.restarts {
				t.Errorf("the pod template changes: %v, want %v\n%s", restarts, tt.restarts, diff)
			}
		})
	}
}

func TestNamesFit(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{
		"web", "1st", "a.b.c", "a-b-c", strings.Repeat("a", 253), strings.Repeat("a", 252) + "b", strings.Repeat("a.", 40) + "z",
	} {
		got := Name(types.NamespacedName{Name: name}, "headgate")
		if errs := validation.IsDNS1035Label(got); len(errs) > 0 {
			t.Errorf("Name(%s) = %s: %v", name, got, errs)
		}
		if other := seen[got]; other != "" {
			t.Errorf("%s and %s both become %s", name, other, got)
		}
		seen[got] = name
		if errs := validation.IsValidLabelValue(labelValue(name)); len(errs) > 0 {
			t.Errorf("labelValue(%s) = %s: %v", name, labelValue(name), errs)
		}
	}
	if got := Name(types.NamespacedName{Name: "web"}, "headgate"); got != "web-headgate" {
		t.Errorf("Name(web) = %s, want what GEP-1762 recommends", got)
	}
}

func TestTheKubeletIsMorePatientThanTheDrain(t *testing.T) {
	o := options()
	grace := *For(web(t, nil), o).Deployment.Spec.Template.Spec.TerminationGracePeriodSeconds
	if grace <= int64(o.Proxy.Drain.Max.Seconds()) {
		t.Errorf("the grace period is %ds, the drain takes up to %s", grace, o.Proxy.Drain.Max.Duration)
	}
}

func TestTheServiceAsksForBothFamiliesWhereProxiesListenOnBoth(t *testing.T) {
	gw := web(t, nil)
	if policy := For(gw, options()).Service.Spec.IPFamilyPolicy; policy != nil {
		t.Errorf("proxies listen on IPv4, and the Service asks for %s", *policy)
	}
	gw.IPv6 = true
	if policy := For(gw, options()).Service.Spec.IPFamilyPolicy; policy == nil || *policy != corev1.IPFamilyPolicyPreferDualStack {
		t.Errorf("proxies listen on both, and the Service asks for %v", policy)
	}
}
