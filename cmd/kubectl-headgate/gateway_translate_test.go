// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

const edge = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: headgate
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
`

const webRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
`

const webSlice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.7]}]
ports: [{port: 8080}]
---
`

const (
	policy  = `{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{group: "", kind: Service, name: web}], validation: {hostname: a.example.com, wellKnownCACertificates: System}}}` + "\n"
	outside = "{apiVersion: gateway.networking.x-k8s.io/v1alpha1, kind: XBackend, metadata: {name: out, namespace: shop}, spec: {type: ExternalHostname, protocol: HTTP, port: {number: 80}, externalHostname: {hostname: kubernetes.default.svc}}}\n"
)

// offline runs the plugin in this process, with standard input.
func offline(t *testing.T, input string, args ...string) answer {
	t.Helper()
	var out, errOut bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(input), Out: &out, ErrOut: &errOut}
	code := run(t.Context(), streams, args)
	return answer{code, out.String(), errOut.String()}
}

func TestTranslateJudgesManifestsWithoutACluster(t *testing.T) {
	for _, row := range []struct {
		name, input string
		code        int
		// says is in what is printed, on either stream.
		says []string
	}{
		{
			"what is fine is fine, with what was assumed", edge + webRoute + webSlice, exitOK,
			[]string{`Note: GatewayClass "headgate" is not in the input: it is taken to be Headgate's`, `Note: Namespace "shop" is not in the input`},
		},
		{"a list as kubectl prints it", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}\n---\n" + strings.ReplaceAll(edge, "kind: Service", "kind: Pod") + webRoute, exitOK, []string{"document 3, Pod web"}},
		{"a Service that is missing", strings.Replace(edge, "name: web,", "name: other,", 1) + webRoute, exitError, []string{"HTTPRoute shop/web: spec.rules[0].backendRefs[0]: Service shop/web does not exist (BackendNotFound)"}},
		{
			"a Gateway of another namespace", edge + strings.Replace(webRoute, "name: web, namespace: shop", "name: web, namespace: team", 1), exitError,
			[]string{"HTTPRoute team/web, parent Gateway team/edge: Gateway team/edge does not exist, but shop/edge does: write parentRefs[].namespace"},
		},
		{"a class of another controller", edge + "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: headgate}, spec: {controllerName: example.com/other}}\n---\n" + webRoute, exitError, []string{"belongs to the controller example.com/other"}},
		{"a listener that serves another host", strings.Replace(edge, "protocol: HTTP", "protocol: HTTP, hostname: a.example.com", 1) + strings.Replace(webRoute, "  rules", "  hostnames: [b.example.com]\n  rules", 1), exitError, []string{`listener "http" serves host a.example.com`}},
		{"no Gateway", webRoute, exitError, []string{"it has no Gateway", "Gateway shop/edge does not exist"}},
		{"a field that does not exist", edge + strings.Replace(webRoute, "name: web, port", "nmae: web, port", 1), exitUsage, []string{"standard input, document 3, HTTPRoute web: ", `unknown field "spec.rules[0].backendRefs[0].nmae"`}},
		{"a word where a number belongs", strings.Replace(edge, "port: 80, protocol", "port: high, protocol", 1), exitUsage, []string{"document 1, Gateway edge: spec.listeners.port cannot be what stands there (string): write a whole number"}},
		{"a number where a word belongs", strings.Replace(edge, "name: http,", "name: 80,", 1), exitUsage, []string{"spec.listeners.name cannot be what stands there (number): write a string, in quotes"}},
		{"a list where a map belongs", edge + "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: m}, spec: [a]}\n", exitUsage, []string{"spec cannot be what stands there (array): write a map"}},
		{"two listeners of one name", strings.Replace(edge, "{name: http, port: 80,", "{name: http, port: 81, protocol: HTTP}, {name: http, port: 80,", 1), exitUsage, []string{`spec.listeners[1].name is "http", which an earlier listener has`}},
		{"a default Gateway that is missing", edge + "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: any, namespace: shop}, spec: {useDefaultGateways: All}}\n", exitError, []string{"HTTPRoute shop/any: spec.useDefaultGateways is All, but no Gateway has spec.defaultScope: All"}},
		{"a policy for a port that the Service does not have", edge + webRoute + strings.Replace(policy, "name: web}", "name: web, sectionName: https}", 1), exitError, []string{`BackendTLSPolicy shop/p: Service shop/web has no port named "https"`}},
		{"a policy for a Service that is missing", edge + webRoute + strings.Replace(policy, "name: web}", "name: wbe}", 1), exitError, []string{"BackendTLSPolicy shop/p: spec.targetRefs[0]: Service shop/wbe does not exist"}},
		{"a policy that no route leads to is told", edge + policy, exitOK, []string{"Warning: BackendTLSPolicy shop/p: no route sends to what spec.targetRefs names"}},
		{"an XBackend that is refused, with the reason", edge + strings.Replace(webRoute, "name: web, port: 80", "group: gateway.networking.x-k8s.io, kind: XBackend, name: out", 1) + outside, exitError, []string{"XBackend shop/out: spec.externalHostname.hostname"}},
		{"an XBackend that no route leads to is told", edge + outside, exitOK, []string{"Warning: XBackend shop/out: no route sends to it"}},
		{"a Secret that is not base64", edge + "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {tls.crt: '%'}}\n", exitUsage, []string{"data holds what is not base64", "stringData"}},
		{"a duration with a blank", edge + "{apiVersion: headgate.dev/v1beta1, kind: ProxyConfig, metadata: {name: s}, spec: {drain: {idle: 5 min}}}\n", exitUsage, []string{"write a duration such as 500ms"}},
		{
			"clients that are let in without a certificate are told, as it is what was asked for",
			strings.Replace(edge, "gatewayClassName: headgate", "gatewayClassName: headgate\n  tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]}}}}", 1) + webRoute, exitOK,
			[]string{"Warning: Gateway shop/edge: spec.tls.frontend.default.validation.mode is AllowInsecureFallback"},
		},
		{"a kind in other letters", edge + "{apiVersion: gateway.networking.k8s.io/v1, kind: HttpRoute, metadata: {name: m}}\n", exitUsage, []string{"there is no kind HttpRoute: write kind: HTTPRoute"}},
		{"a key that stands twice", "kind: Service\nkind: Service\n", exitUsage, []string{"document 1: ", `"kind" already set`}},
		{"the same object twice", edge + webRoute + webRoute, exitUsage, []string{"HTTPRoute shop/web stands in the input twice: remove one"}},
		{"no kind", edge + "metadata: {name: x}\n", exitUsage, []string{"apiVersion or kind is missing"}},
		{"no name", strings.Replace(edge, "name: edge, ", "", 1), exitUsage, []string{`metadata.name is ""`}},
		{"a version that is not served", strings.Replace(webRoute, "k8s.io/v1\n", "k8s.io/v1alpha2\n", 1), exitUsage, []string{`version "v1alpha2" of this kind is not known: write v1 or v1beta1`}},
		{"a kind of the Gateway API that is not served", edge + "{apiVersion: gateway.networking.k8s.io/v1, kind: XMesh, metadata: {name: m}}\n", exitUsage, []string{"Headgate does not serve kind XMesh", "it serves BackendTLSPolicy, GRPCRoute, Gateway, "}},
		{"a kind that does not matter is told, not skipped in silence", edge + webRoute + "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n", exitOK, []string{"Deployment web: apps/v1 Deployment does not shape the gateway's configuration"}},
		{"nothing at all", "---\n", exitUsage, []string{"there is no object of the Gateway API"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := offline(t, row.input, "gateway", "translate", "-f", "-", "--problems-only")
			if got.code != row.code {
				t.Errorf("exit code %d, want %d: %+v", got.code, row.code, got)
			}
			for _, says := range row.says {
				if !strings.Contains(got.out+got.errOut, says) {
					t.Errorf("%+v does not say %q", got, says)
				}
			}
		})
	}
}

func TestTranslateKnowsWhetherExternalNamesAreServed(t *testing.T) {
	input := strings.Replace(edge, "spec: {ports: [", "spec: {type: ExternalName, externalName: api.example.com, ports: [", 1) + webRoute
	if got := offline(t, input, "gateway", "translate", "-f", "-", "--problems-only"); got.code != exitError || !strings.Contains(got.out+got.errOut, "gateway.externalNameServices") {
		t.Errorf("by default: %+v", got)
	}
	if got := offline(t, input, "gateway", "translate", "-f", "-", "--external-name-services"); got.code != exitOK || !strings.Contains(got.out, "api.example.com.") {
		t.Errorf("where they are served: %+v", got)
	}
}

func TestTranslatePrintsEnvoyConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a/edge.yaml": edge, "a/b/route.yml": webRoute, "slice.yaml": webSlice, "notes.txt": "no manifest"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := offline(t, "", "gateway", "translate", "-f", dir, "-q")
	if got.code != exitOK || got.errOut != "" {
		t.Fatalf("got %+v", got)
	}
	var one translation
	if err := yaml.UnmarshalStrict([]byte(got.out), &one); err != nil {
		t.Fatal(err)
	}
	if one.Gateway != "shop/edge" || len(one.Config["listeners"].([]any)) != 1 || len(one.Config["routes"].([]any)) != 1 || len(one.Config["clusters"].([]any)) != 1 {
		t.Errorf("got %s", got.out)
	}
	for _, part := range []string{"name: shop/web/80", "address: 10.0.0.7", "port_value: 8080", "name: HTTPRoute/shop/web/0/0"} {
		if !strings.Contains(got.out, part) {
			t.Errorf("no %q in\n%s", part, got.out)
		}
	}
	var list []translation
	if got := offline(t, "", "gateway", "translate", "-f", dir, "-q", "-o", "json"); json.Unmarshal([]byte(got.out), &list) != nil || len(list) != 1 || list[0].Gateway != one.Gateway {
		t.Errorf("json: %+v", got)
	}
	var problems struct{ Problems []map[string]any }
	if got := offline(t, webRoute, "gateway", "translate", "-f", "-", "-o", "json", "--problems-only"); json.Unmarshal([]byte(got.out), &problems) != nil || len(problems.Problems) != 2 {
		t.Errorf("problems as json: %+v", got)
	}
}

func TestTranslateNeedsToBeToldWhat(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{nil, "name the manifests: -f FILE"},
		{[]string{"-f", filepath.Join(t.TempDir(), "gone")}, "there is no file or directory"},
		{[]string{"shop.yaml"}, `write -f before "shop.yaml"`},
		{[]string{"-f", t.TempDir()}, "has no file that ends in .yaml"},
		{[]string{"-f", "-", "-o", "xml"}, "write json or yaml"},
	} {
		if got := offline(t, "", append([]string{"gateway", "translate"}, row.args...)...); got.code != exitUsage || !strings.Contains(got.errOut, row.want) {
			t.Errorf("%v: got %+v, want exit code 2 and %q", row.args, got, row.want)
		}
	}
}

func TestCommandsWithoutArgumentsSayWhatIsTooMuch(t *testing.T) {
	for _, args := range [][]string{{"version", "more"}, {"gateway", "list", "more"}} {
		if got := offline(t, "", args...); got.code != exitUsage || !strings.Contains(got.errOut, `takes no arguments, only flags: remove "more"`) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}
