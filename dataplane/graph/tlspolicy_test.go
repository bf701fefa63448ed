// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

// policy gives a BackendTLSPolicy of Service shop.
func policy(name, target, validation string, more ...string) string {
	return "---\nkind: BackendTLSPolicy\nmetadata: {name: " + name + "}\nspec:\n  targetRefs: [{group: '', kind: Service, name: shop" + target + "}]\n  validation: {" + validation + "}\n" + indented(more)
}

// authority gives a ConfigMap with an authority, the certificate of the golden cases.
func authority(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "https-listeners-with-certificates", "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "tls.crt: |\n")
	certificate, _, _ := strings.Cut(rest, "  tls.key")
	return "---\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata:\n  ca.crt: |\n" + certificate
}

func TestPolicyProblems(t *testing.T) {
	const (
		refs   = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]"
		toShop = "rules: [{backendRefs: [{name: shop, port: 80}]}]"
	)
	for _, tt := range []struct {
		name, policy string
		want         []string // problems of the policy, each "Condition/Reason | words"
		tls          bool     // whether the backend is served, over TLS
	}{
		{"a policy that can be followed", policy("p", "", "hostname: a.com, "+refs), nil, true},
		{"of one port", policy("p", ", sectionName: http", "hostname: a.com, "+refs), nil, true},
		{"of a port that there is not", policy("p", "", "hostname: a.com, "+refs) + policy("q", ", sectionName: htp", "hostname: a.com, "+refs), []string{"Accepted/TargetNotFound | no port named \"htp\""}, true},
		{
			"a second one for the same target loses to the first by name",
			policy("p", "", "hostname: a.com, "+refs) + policy("q", "", "hostname: b.com, "+refs),
			[]string{"Accepted/Conflicted | older BackendTLSPolicy, default/p"},
			true,
		},
		{
			"a missing ConfigMap", policy("p", "", "hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}]"),
			[]string{"ResolvedRefs/InvalidCACertificateRef | ConfigMap default/gone does not exist", "Accepted/NoValidCACertificate | 500"},
			false,
		},
		{
			"a missing ConfigMap beside one that is there", policy("p", "", "hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: gone}, {group: '', kind: ConfigMap, name: ca}]"),
			[]string{"ResolvedRefs/InvalidCACertificateRef | caCertificateRefs[0]"},
			true,
		},
		{
			"a ConfigMap without ca.crt", policy("p", "", "hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: empty}]"),
			[]string{"ResolvedRefs/InvalidCACertificateRef | holds no certificate", "Accepted/NoValidCACertificate"},
			false,
		},
		{
			"an unknown kind", policy("p", "", "hostname: a.com, caCertificateRefs: [{group: a.b, kind: C, name: d}]"),
			[]string{"ResolvedRefs/InvalidKind | names a C of group \"a.b\"", "Accepted/NoValidCACertificate"},
			false,
		},
		{
			"an unknown ClusterTrustBundle", policy("p", "", "hostname: a.com, caCertificateRefs: [{group: certificates.k8s.io, kind: ClusterTrustBundle, name: d}]"),
			[]string{"ResolvedRefs/InvalidCACertificateRef | ClusterTrustBundle d does not exist", "Accepted/NoValidCACertificate"},
			false,
		},
		{
			"system authorities that the image lacks", policy("p", "", "hostname: a.com, wellKnownCACertificates: System"),
			[]string{"Accepted/Invalid | holds no system certificates"},
			false,
		},
		{
			"other well-known authorities", policy("p", "", "hostname: a.com, wellKnownCACertificates: a.b/c"),
			[]string{"Accepted/Invalid | write System"},
			false,
		},
		{"options", policy("p", "", "hostname: a.com, "+refs, "options: {a.b/c: d}"), []string{"Accepted/Invalid | remove it"}, false},
		{"a hostname that is none", policy("p", "", "hostname: '*.a.com', "+refs), []string{"Accepted/Invalid | spec.validation.hostname"}, false},
		{
			"names of the certificate that are none", policy("p", "", "hostname: a.com, subjectAltNames: [{type: Hostname}, {type: URI}, {type: IP}], "+refs),
			[]string{"Accepted/Invalid | [0].hostname", "Accepted/Invalid | [1].uri", "Accepted/Invalid | [2].type"},
			false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := build(t, gateway(http), route(toShop), authority(t, "ca"), "---\nkind: ConfigMap\nmetadata: {name: empty}\n", tt.policy)
			var got []string
			for _, p := range g.Policies {
				for _, problem := range p.Problems {
					got = append(got, problem.Condition+"/"+problem.Reason+" "+problem.Message)
				}
				if len(p.Ancestors) != 1 || p.Ancestors[0].Key.Name != "web" {
					t.Errorf("the ancestors of %s are %v", p.Key, p.Ancestors)
				}
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
			}
			for i, want := range tt.want {
				start, words, _ := strings.Cut(want, " | ")
				if !strings.HasPrefix(got[i], start+" ") || !strings.Contains(got[i], words) {
					t.Errorf("problem %d is\n%s\nwant\n%s", i, got[i], want)
				}
			}
			b := g.Routes[0].Rules[0].Backends[0]
			if b.Valid != tt.tls || (b.TLS != nil) != tt.tls {
				t.Errorf("the backend is valid %v with TLS %+v, want %v", b.Valid, b.TLS, tt.tls)
			}
			if !tt.tls && !strings.Contains(fmt.Sprint(b.Problems), "InvalidBackendTLS") {
				t.Errorf("the backend's problems are %v", b.Problems)
			}
		})
	}
}

// TestSystemAuthorities follows a machine's bundle to a policy.
func TestSystemAuthorities(t *testing.T) {
	r := resources(t, gateway(http), route("rules: [{backendRefs: [{name: shop, port: 80}]}]"),
		policy("p", "", "hostname: a.com, wellKnownCACertificates: System"), authority(t, "ca"))
	var bundle strings.Builder
	for _, o := range r.ConfigMaps {
		bundle.WriteString("# a comment\n-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n" + o.Data["ca.crt"])
	}
	r.SystemAuthorities = graph.SystemAuthorities([]byte(bundle.String()))
	b := graph.Build(r).Routes[0].Rules[0].Backends[0]
	if b.TLS == nil || b.TLS.Trust.Name != "system" || strings.Count(string(b.TLS.Trust.PEM), "BEGIN CERTIFICATE") != 1 {
		t.Errorf("the backend has TLS %+v, want the one certificate that can be read", b.TLS)
	}
}

func TestClientCertificateProblems(t *testing.T) {
	const https = "- {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}"
	validation := func(ref string) string {
		return "tls: {frontend: {default: {validation: {caCertificateRefs: [" + ref + "]}}}}"
	}
	noCertificate := "listener s: ResolvedRefs/InvalidCertificateRef"
	checkProblems(t, []problemCase{
		{
			"clients' authorities do not concern HTTP", []string{gateway(http, validation("{group: '', kind: ConfigMap, name: gone}"))}, nil,
		},
		{
			"a listener whose clients cannot be validated is not accepted",
			[]string{gateway(https, validation("{group: '', kind: ConfigMap, name: gone}"))},
			[]string{"gateway web: Accepted/ListenersNotValid", noCertificate, "listener s: ResolvedRefs/InvalidCACertificateRef | spec.tls.frontend.default", "listener s: Accepted/NoValidCACertificate | nobody"},
		},
		{
			"an unknown kind of authority",
			[]string{gateway(https, validation("{group: '', kind: Service, name: shop}"))},
			[]string{"gateway web", noCertificate, "listener s: ResolvedRefs/InvalidCACertificateKind", "listener s: Accepted/NoValidCACertificate"},
		},
		{
			"an authority of another namespace",
			[]string{gateway(https, validation("{group: '', kind: ConfigMap, name: ca, namespace: finance}"))},
			[]string{"gateway web", noCertificate, "listener s: ResolvedRefs/RefNotPermitted | ConfigMap \"ca\"", "listener s: Accepted/NoValidCACertificate"},
		},
		{
			"the insecure fallback is told",
			[]string{gateway(http, "tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: []}}}}")},
			[]string{"gateway web: InsecureFrontendValidationMode/ConfigurationChanged | AllowValidOnly"},
		},
		{
			"a client certificate that is missing leaves the Gateway accepted",
			[]string{gateway(http, "tls: {backend: {clientCertificateRef: {name: gone}}}")},
			[]string{"gateway web: ResolvedRefs/InvalidClientCertificateRef | Secret default/gone does not exist"},
		},
		{
			"a client certificate of another kind",
			[]string{gateway(http, "tls: {backend: {clientCertificateRef: {group: a.b, kind: Secret, name: gone}}}")},
			[]string{"gateway web: ResolvedRefs/InvalidClientCertificateRef | names a Secret of group"},
		},
		{
			"a client certificate of another namespace",
			[]string{gateway(http, "tls: {backend: {clientCertificateRef: {name: c, namespace: finance}}}")},
			[]string{"gateway web: ResolvedRefs/RefNotPermitted | ReferenceGrant"},
		},
	})
}

func TestADeniedReferenceIsNotAMissingOne(t *testing.T) {
	r := resources(t, gateway(http, "tls: {backend: {clientCertificateRef: {name: c}}}"))
	for _, ref := range graph.Wanted(r) {
		r.Denied[ref] = true
	}
	got := problems(graph.Build(r))
	if len(got) != 1 || !strings.Contains(got[0], "Headgate may not read Secret default/c") {
		t.Errorf("the problems are %q", got)
	}
}

func TestWhatIsReadByNeed(t *testing.T) {
	r := resources(t, gateway("- {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}, {name: far, namespace: finance}]}}",
		"tls:\n  backend: {clientCertificateRef: {name: client}}\n  frontend:\n    default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}\n"+
			"    perPort: [{port: 443, tls: {validation: {caCertificateRefs: [{group: '', kind: Secret, name: clients}, {group: '', kind: Pod, name: x}]}}}]"),
		policy("p", "", "hostname: a.com, caCertificateRefs: [{group: certificates.k8s.io, kind: ClusterTrustBundle, name: b}]"))
	var got []string
	for _, ref := range graph.Wanted(r) {
		got = append(got, ref.String())
	}
	want := []string{"ClusterTrustBundle b", "ConfigMap default/ca", "Secret default/c", "Secret default/client", "Secret default/clients"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is read (-want +got):\n%s", diff)
	}
	// Gateways of others are not looked at.
	for _, gw := range r.Gateways {
		gw.Spec.GatewayClassName = gwv1.ObjectName("other")
	}
	if got := graph.Wanted(r); len(got) != 1 {
		t.Errorf("%v is read for a Gateway of another class", got)
	}
}
