// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"
)

func TestXBackends(t *testing.T) {
	tests := []struct {
		name, spec string
		want       string // a part of the only problem; empty for none
	}{
		{"pods by label", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}", ""},
		{"a host outside", "type: ExternalHostname\nport: {number: 443}\nexternalHostname: {hostname: api.example.com}", ""},
		{"a Service by its name", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: web.shop.svc.cluster.local}", "a name of the cluster"},
		{"a Service by its short name", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: web.shop.svc}", "a name of the cluster"},
		{"a name that search domains complete", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: web}", "write the whole name"},
		{"the proxy itself", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: localhost}", "the proxy itself"},
		{"the proxy's admin interface", "type: ExternalHostname\nport: {number: 19000}\nexternalHostname: {hostname: api.example.com}", "port 19000"},
		{"the node's credentials", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: metadata.google.internal}", "credentials"},
		{"an address", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: 169.254.169.254}", "write a DNS name"},
		{"settings of the other type", "type: ExternalHostname\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}", "settings of the same name"},
		{"no label", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {}}", "name a label"},
		{"no port", "type: EndpointSelector\nendpointSelector: {matchLabels: {a: b}}", "spec.port.number is 0"},
		{"a protocol that is not spoken", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nprotocol: MCP", "spec.protocol is \"MCP\""},
		{"HTTP/2 without TLS has another name", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nprotocol: HTTP2", "write H2C"},
		{"a header without a name", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nsessionPersistence: {type: Header}", "header.name"},
		{"a lifetime that no browser knows of", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nsessionPersistence: {absoluteTimeout: 1h}", "lifetimeType Permanent"},
		{"a permanent cookie without a lifetime", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nsessionPersistence: {cookie: {lifetimeType: Permanent}}", "absoluteTimeout is missing"},
		{"a path with an attribute in it", "type: EndpointSelector\nport: {number: 80}\nendpointSelector: {matchLabels: {a: b}}\nsessionPersistence: {cookie: {path: \"/; Domain=com\"}}", "cookie.path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &gwxv1alpha1.XBackend{}
			src.Namespace, src.Name = "shop", "api"
			if err := yaml.UnmarshalStrict([]byte(tt.spec), &src.Spec); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range buildXBackend(src, references{}).Problems {
				got = append(got, p.Message)
			}
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("problems %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestXBackendProtocols(t *testing.T) {
	for _, tt := range []struct {
		protocol gwxv1alpha1.BackendProtocol
		kind     RouteKind
		want     UpstreamProtocol
		ok       bool
	}{
		{"", KindHTTPRoute, UpstreamHTTP, true},
		{"", KindGRPCRoute, UpstreamH2C, true},
		{gwxv1alpha1.BackendProtocolHTTP11, KindHTTPRoute, UpstreamHTTP, true},
		{gwxv1alpha1.BackendProtocolH2C, KindHTTPRoute, UpstreamH2C, true},
		{gwxv1alpha1.BackendProtocolGRPC, KindHTTPRoute, UpstreamH2C, true},
		{gwxv1alpha1.BackendProtocolWSS, KindHTTPRoute, UpstreamWebSocket, true},
		{gwxv1alpha1.BackendProtocolTCP, KindTCPRoute, UpstreamTCP, true},
		{gwxv1alpha1.BackendProtocolTCP, KindHTTPRoute, UpstreamHTTP, false},
		{gwxv1alpha1.BackendProtocolHTTP, KindTCPRoute, UpstreamTCP, false},
		{"", KindUDPRoute, UpstreamHTTP, false},
	} {
		x := &XBackend{Source: &gwxv1alpha1.XBackend{}}
		if tt.protocol != "" {
			x.Source.Spec.Protocol = &tt.protocol
		}
		if got, ok := x.protocol(tt.kind); got != tt.want || ok != tt.ok {
			t.Errorf("%q for a %s is %q, %v; want %q, %v", tt.protocol, tt.kind, got, ok, tt.want, tt.ok)
		}
	}
}

func TestRetryBudgets(t *testing.T) {
	defaults := &RetryBudget{Percent: 20, Interval: 10 * time.Second, MinPerSecond: 10}
	tests := []struct {
		name, spec string
		want       *RetryBudget
		problem    string
	}{
		{"the defaults of the API", "retryConstraint: {}", defaults, ""},
		{"no constraint", "{}", nil, ""},
		{"a rate a minute is one a second, rounded up", "retryConstraint: {budget: {percent: 0, interval: 1s}, minRetryRate: {count: 61, interval: 1m}}", &RetryBudget{Interval: time.Second, MinPerSecond: 2}, ""},
		{"a percentage ends at 100", "retryConstraint: {budget: {percent: 101}}", nil, "budget.percent"},
		{"an interval is a second at least", "retryConstraint: {budget: {interval: 10ms}}", nil, "budget.interval"},
		{"sessions stand elsewhere", "sessionPersistence: {}", nil, "write it into an XBackend"},
		{"a target of another kind", "targetRefs: [{group: '', kind: Pod, name: a}]", nil, "spec.targetRefs[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &gwxv1alpha1.XBackendTrafficPolicy{}
			if err := yaml.UnmarshalStrict([]byte(tt.spec), &src.Spec); err != nil {
				t.Fatal(err)
			}
			p := buildTrafficPolicy(src)
			if diff := cmp.Diff(tt.want, p.budget); diff != "" {
				t.Errorf("budget (-want +got):\n%s", diff)
			}
			if (tt.problem != "") != (len(p.Problems) == 1) || tt.problem != "" && !strings.Contains(p.Problems[0].Message, tt.problem) {
				t.Errorf("problems %v, want one with %q", p.Problems, tt.problem)
			}
			if Has(p.Problems, string(gwv1.PolicyConditionAccepted)) != (tt.problem != "") {
				t.Errorf("the condition of %v is not Accepted", p.Problems)
			}
		})
	}
}
