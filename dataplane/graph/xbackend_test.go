// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
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
		{"an address with a dot at the end", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: 169.254.169.254.}", "write a DNS name"},
		{"a short address", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: \"127.1\"}", "write a DNS name"},
		{"an octal address", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: 0177.0.0.1}", "write a DNS name"},
		{"a hexadecimal address", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: 0xa9.0xfe.0xa9.0xfe}", "write a DNS name"},
		{"the node's credentials by the shorter name", "type: ExternalHostname\nport: {number: 80}\nexternalHostname: {hostname: METADATA.goog.}", "credentials"},
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

// TestEveryKindOfRouteMayNameEveryXBackend: what does not fit is told in a sentence.
func TestEveryKindOfRouteMayNameEveryXBackend(t *testing.T) {
	key := types.NamespacedName{Namespace: "shop", Name: "web"}
	ref := gwv1.BackendObjectReference{Group: new(gwv1.Group(gwxv1alpha1.GroupName)), Kind: new(gwv1.Kind(xbackendKind)), Name: "web"}
	for _, protocol := range []*gwxv1alpha1.BackendProtocol{nil, new(gwxv1alpha1.BackendProtocolHTTP), new(gwxv1alpha1.BackendProtocolTCP), new(gwxv1alpha1.BackendProtocolWSS), new(gwxv1alpha1.BackendProtocol("none"))} {
		x := &XBackend{Key: key, Source: &gwxv1alpha1.XBackend{}, port: 80}
		x.Source.Spec.Protocol = protocol
		refs := references{xbackends: map[types.NamespacedName]*XBackend{key: x}}
		for _, kind := range []RouteKind{KindHTTPRoute, KindGRPCRoute, KindTLSRoute, KindTCPRoute, KindUDPRoute} {
			p := (&Backend{}).resolve("spec.rules[0].backendRefs[0]", kind, "shop", ref, refs)
			if _, ok := x.protocol(kind); ok != (p == nil) {
				t.Errorf("a %s to an XBackend of protocol %q: %v", kind, deref(protocol, ""), p)
			}
			if kind == KindUDPRoute && (p == nil || !strings.Contains(p.Message, "UDPRoute")) {
				t.Errorf("a UDPRoute is told %v", p)
			}
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

// TestXBackendTLS reads spec.tls. The authority and the key pair are those of the golden cases.
func TestXBackendTLS(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "testdata", "https-listeners-with-certificates", "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	part := func(from, to string) string {
		_, rest, _ := strings.Cut(string(data), from+": |\n")
		text, _, _ := strings.Cut(rest, to)
		return strings.ReplaceAll(text, "    ", "")
	}
	cert := part("tls.crt", "  tls.key")
	key, _, _ := strings.Cut(part("tls.key", "\n---"), "\n\n")
	secret := func(namespace string) *corev1.Secret {
		s := &corev1.Secret{Data: map[string][]byte{"tls.crt": []byte(cert), "tls.key": []byte(key)}}
		s.Namespace, s.Name = namespace, "client"
		return s
	}
	at := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	grant := &gwv1beta1.ReferenceGrant{Spec: gwv1beta1.ReferenceGrantSpec{
		From: []gwv1beta1.ReferenceGrantFrom{{Group: gwxv1alpha1.GroupName, Kind: "XBackend", Namespace: "shop"}},
		To:   []gwv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
	}}
	grant.Namespace = "granted"
	resources := Resources{
		ConfigMaps:      map[types.NamespacedName]*corev1.ConfigMap{at("shop", "ca"): {Data: map[string]string{"ca.crt": cert}}},
		Secrets:         map[types.NamespacedName]*corev1.Secret{at("shop", "client"): secret("shop"), at("granted", "client"): secret("granted"), at("closed", "client"): secret("closed")},
		ReferenceGrants: map[types.NamespacedName]*gwv1beta1.ReferenceGrant{at("granted", "g"): grant},
	}
	refs := references{configMaps: resources.ConfigMaps, secrets: resources.Secrets, grants: grantsByNamespace(resources.ReferenceGrants)}
	const validation = "validation: {hostname: API.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}"
	for _, tt := range []struct {
		name, tls string
		client    string // namespace of the Secret that is shown
		problem   string // a part of the first problem; empty for none
	}{
		{"the server's certificate", "{mode: ServerOnly, " + validation + "}", "", ""},
		{"both certificates", "{mode: ClientAndServer, clientCertificateRef: {name: client}, " + validation + "}", "shop", ""},
		{"a Secret of a namespace that grants it", "{mode: ClientAndServer, clientCertificateRef: {name: client, namespace: granted}, " + validation + "}", "granted", ""},
		{"a Secret of a namespace that does not", "{mode: ClientAndServer, clientCertificateRef: {name: client, namespace: closed}, " + validation + "}", "", "no ReferenceGrant in namespace \"closed\""},
		{"a Secret that is not there", "{mode: ClientAndServer, clientCertificateRef: {name: gone}, " + validation + "}", "", "Secret shop/gone does not exist"},
		{"no Secret", "{mode: ClientAndServer, " + validation + "}", "", "clientCertificateRef is missing"},
		{"a Secret for nothing", "{mode: ServerOnly, clientCertificateRef: {name: client}, " + validation + "}", "", "needs mode ClientAndServer"},
		{"no validation", "{mode: ServerOnly}", "", "spec.tls.validation is missing"},
		{"an authority that is not there", "{mode: ServerOnly, validation: {hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]}}", "", "spec.tls.validation.caCertificateRefs[0]: ConfigMap shop/gone does not exist"},
		{"an authority beside one that is not there", "{mode: ServerOnly, validation: {hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}, {group: '', kind: ConfigMap, name: ca}]}}", "", ""},
		{"the well-known authorities where there are none", "{mode: ServerOnly, validation: {hostname: a.com, wellKnownCACertificates: System}}", "", "holds no system certificates"},
		{"a name that is none", "{mode: ServerOnly, validation: {hostname: 'a b', caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}", "", "spec.tls.validation.hostname is \"a b\""},
		{"an unknown mode", "{mode: Both, " + validation + "}", "", "write None, ServerOnly or ClientAndServer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := &gwxv1alpha1.XBackend{}
			src.Namespace, src.Name = "shop", "api"
			if err := yaml.UnmarshalStrict([]byte("type: ExternalHostname\nprotocol: HTTP2\nport: {number: 443}\nexternalHostname: {hostname: api.example.com}\ntls: "+tt.tls), &src.Spec); err != nil {
				t.Fatal(err)
			}
			x := buildXBackend(src, refs)
			if tt.problem != "" {
				if x.tls != nil || len(x.Problems) == 0 || !strings.Contains(x.Problems[0].Message, tt.problem) {
					t.Errorf("TLS %v, problems %v, want none and one with %q", x.tls, x.Problems, tt.problem)
				}
				return
			}
			if x.tls == nil || len(x.Problems) > 0 {
				t.Fatalf("TLS %v, problems %v", x.tls, x.Problems)
			}
			if (tt.client == "") != x.tls.Anonymous || tt.client != "" && x.tls.Client.Secret != at(tt.client, "client") {
				t.Errorf("it shows %v, want the Secret of namespace %q", x.tls.Client, tt.client)
			}
			if got := x.tls.Trust.Name; got != "xbackend/shop/api" || len(x.tls.Trust.PEM) == 0 {
				t.Errorf("trust is %q", got)
			}
			// What Build looks at is what is read of the cluster.
			wantedOf := resources
			wantedOf.XBackends = map[types.NamespacedName]*gwxv1alpha1.XBackend{x.Key: src}
			all := Wanted(wantedOf)
			if tt.client != "" && !slices.Contains(all, Reference{KindSecret, at(tt.client, "client")}) || !slices.Contains(all, Reference{KindConfigMap, at("shop", "ca")}) {
				t.Errorf("only %v are read", all)
			}
		})
	}
}

func TestExternalNames(t *testing.T) {
	service := func(spec string) *corev1.Service {
		s := &corev1.Service{}
		if err := yaml.UnmarshalStrict([]byte("type: ExternalName\n"+spec), &s.Spec); err != nil {
			t.Fatal(err)
		}
		return s
	}
	key := types.NamespacedName{Namespace: "shop", Name: "outside"}
	for _, tt := range []struct {
		name, spec string
		port       int32
		kind       RouteKind
		off        bool
		protocol   UpstreamProtocol
		problem    string
	}{
		{name: "a host", spec: "externalName: API.example.com", port: 80},
		{name: "its port has a protocol", spec: "externalName: api.example.com\nports: [{port: 80, appProtocol: kubernetes.io/h2c}]", port: 80, protocol: UpstreamH2C},
		{name: "bytes", spec: "externalName: api.example.com", port: 5432, kind: KindTCPRoute, protocol: UpstreamTCP},
		{name: "not allowed", spec: "externalName: api.example.com", port: 80, off: true, problem: "gateway.externalNameServices"},
		{name: "a port that is not among its own", spec: "externalName: api.example.com\nports: [{port: 80}]", port: 81, problem: "no TCP port 81"},
		{name: "no port", spec: "externalName: api.example.com", problem: "port is missing"},
		{name: "datagrams", spec: "externalName: api.example.com", port: 53, kind: KindUDPRoute, problem: "UDPRoute"},
		{name: "TLS that nothing validates", spec: "externalName: api.example.com\nports: [{port: 443, appProtocol: https}]", port: 443, problem: "create a BackendTLSPolicy"},
		{name: "a Service around ReferenceGrants", spec: "externalName: web.finance.svc.cluster.local", port: 80, problem: "a name of the cluster"},
		{name: "a Service by its short name", spec: "externalName: web.finance.svc", port: 80, problem: "a name of the cluster"},
		{name: "a name that search domains complete", spec: "externalName: web", port: 80, problem: "write the whole name"},
		{name: "the proxy itself", spec: "externalName: localhost", port: 80, problem: "the proxy itself"},
		{name: "the proxy's admin interface", spec: "externalName: api.example.com", port: AdminPort, problem: "one that the proxy itself uses"},
		{name: "the node's credentials", spec: "externalName: metadata.google.internal", port: 80, problem: "credentials"},
		{name: "the address of the node's credentials", spec: "externalName: 169.254.169.254", port: 80, problem: "write a DNS name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := gwv1.BackendRef{}
			ref.Name = "outside"
			if tt.port != 0 {
				ref.Port = &tt.port
			}
			kind := tt.kind
			if kind == "" {
				kind = KindHTTPRoute
			}
			refs := references{services: map[types.NamespacedName]*corev1.Service{key: service(tt.spec)}, externalNames: !tt.off}
			b := buildBackend("backendRefs[0]", kind, "shop", ref, nil, refs)
			if tt.problem == "" && (!b.Valid || b.Host != "api.example.com." || b.Cluster != ClusterKey{Namespace: "shop", Service: "outside", Port: tt.port, Protocol: tt.protocol}) {
				t.Errorf("host %q, upstream %v, problems %v", b.Host, b.Cluster, b.Problems)
			}
			if tt.problem != "" && (b.Valid || b.Host != "" || len(b.Problems) != 1 || !strings.Contains(b.Problems[0].Message, tt.problem)) {
				t.Errorf("host %q, problems %v, want one with %q", b.Host, b.Problems, tt.problem)
			}
		})
	}
}
