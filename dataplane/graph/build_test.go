// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

const class = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: headgate}
spec: {controllerName: headgate.dev/gateway-controller}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{name: http, port: 80}, {name: udp, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: billing, namespace: finance}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.org, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: secure}
spec: {ports: [{port: 443, appProtocol: https}, {port: 80, appProtocol: kubernetes.io/ws}]}
`

// gateway gives a Gateway with these listeners and other fields of its spec.
func gateway(listeners string, more ...string) string {
	return "---\nkind: Gateway\nmetadata: {name: web}\nspec:\n  gatewayClassName: headgate\n" + indented(more) + "  listeners:\n" + indented([]string{listeners})
}

func indented(parts []string) string {
	var out strings.Builder
	for _, part := range parts {
		for _, line := range strings.Split(strings.TrimSpace(part), "\n") {
			out.WriteString("  " + line + "\n")
		}
	}
	return out.String()
}

// route gives an HTTPRoute of that spec, attached to Gateway web.
func route(spec string) string {
	return "---\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: web}]\n" + indented([]string{spec})
}

// rule gives an HTTPRoute with one rule, to Service shop.
func rule(fields string) string {
	return route("rules:\n- backendRefs: [{name: shop, port: 80}]\n" + indented([]string{fields}))
}

const http = "- {name: http, port: 80, protocol: HTTP}"

func build(t *testing.T, docs ...string) *graph.Graph {
	t.Helper()
	return graph.Build(resources(t, docs...))
}

func resources(t *testing.T, docs ...string) graph.Resources {
	t.Helper()
	r, _, err := goldens.Parse([]byte(class + strings.Join(docs, "\n")))
	if err != nil {
		t.Fatalf("parsing the objects: %v", err)
	}
	return r
}

// problems lists everything that is wrong, as "where: Condition/Reason message".
func problems(g *graph.Graph) []string {
	var out []string
	add := func(where string, problems []graph.Problem) {
		for _, p := range problems {
			out = append(out, fmt.Sprintf("%s: %s/%s %s", where, p.Condition, p.Reason, p.Message))
		}
	}
	for _, c := range g.Classes {
		add("class "+c.Source.Name, c.Problems)
	}
	for _, gw := range g.Gateways {
		add("gateway "+gw.Key.Name, gw.Problems)
		for _, l := range gw.Listeners {
			add("listener "+string(l.Name), l.Problems)
		}
	}
	for _, r := range g.Routes {
		add("route "+r.Key.Name, r.Problems)
		for i, p := range r.Parents {
			add(fmt.Sprintf("parent %d", i), p.Problems)
		}
		for i, rule := range r.Rules {
			add(fmt.Sprintf("rule %d", i), rule.Problems)
			for j, b := range rule.Backends {
				add(fmt.Sprintf("backend %d.%d", i, j), b.Problems)
			}
			for j, m := range rule.Mirrors {
				add(fmt.Sprintf("mirror %d.%d", i, j), m.Problems)
			}
		}
	}
	return out
}

type problemCase struct {
	name string
	docs []string
	// want has one entry for each problem: "where: Condition/Reason" and, after a
	// "|", words that the message has.
	want []string
}

func checkProblems(t *testing.T, tests []problemCase) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := problems(build(t, tt.docs...))
			if len(got) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(got), len(tt.want), strings.Join(got, "\n"))
			}
			for i, want := range tt.want {
				start, words, _ := strings.Cut(want, "|")
				if !strings.HasPrefix(got[i], strings.TrimSpace(start)) || !strings.Contains(got[i], strings.TrimSpace(words)) {
					t.Errorf("problem %d is\n%s\nwant\n%s", i, got[i], want)
				}
			}
		})
	}
}

func TestGatewayProblems(t *testing.T) {
	checkProblems(t, []problemCase{
		{"a plain Gateway has none", []string{gateway(http)}, nil},
		{
			"parametersRef is refused",
			[]string{gateway(http, "infrastructure: {parametersRef: {group: a.b, kind: C, name: d}}")},
			[]string{"gateway web: Accepted/InvalidParameters | remove it"},
		},
		{
			"an address of an unknown type is refused",
			[]string{gateway(http, "addresses: [{type: a.b/c, value: x}]")},
			[]string{"gateway web: Accepted/UnsupportedAddress | only IPAddress"},
		},
		{"an empty address asks for any", []string{gateway(http, "addresses: [{type: IPAddress}]")}, nil},
		{
			"an address that is none is refused",
			[]string{gateway(http, "addresses: [{value: 10.0.0.256}]")},
			[]string{"gateway web: Accepted/UnsupportedAddress | IPv4 or IPv6"},
		},
		{
			"no listener that can be served: the Gateway is not accepted",
			[]string{gateway("- {name: a, port: 1, protocol: INVALID}")},
			[]string{"gateway web: Accepted/ListenersNotValid | no listener", "listener a: Accepted/UnsupportedProtocol | HTTP, HTTPS, TLS, TCP or UDP"},
		},
		{
			"one of two can be served",
			[]string{gateway(http + "\n- {name: a, port: 53, protocol: SCTP}")},
			[]string{`gateway web: Accepted/ListenersNotValid | listeners "a"`, "listener a: Accepted/UnsupportedProtocol"},
		},
	})
}

func TestListenerProblems(t *testing.T) {
	https := `- {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [%s]}}`
	checkProblems(t, []problemCase{
		{"different hosts share a port", []string{gateway("- {name: a, port: 80, protocol: HTTP, hostname: a.com}\n- {name: b, port: 80, protocol: HTTP, hostname: '*.a.com'}\n" + http)}, nil},
		{
			"two listeners with one host both lose",
			[]string{gateway("- {name: a, port: 80, protocol: HTTP, hostname: A.com}\n- {name: b, port: 80, protocol: HTTP, hostname: a.com}\n- {name: c, port: 81, protocol: HTTP}")},
			[]string{"gateway web: Accepted/ListenersNotValid", "listener a: Conflicted/HostnameConflict | host a.com", "listener b: Conflicted/HostnameConflict"},
		},
		{
			"different protocols on a port both lose",
			[]string{gateway(http + "\n" + strings.Replace(fmt.Sprintf(https, ""), "443", "80", 1))},
			[]string{
				"gateway web: Accepted/ListenersNotValid | no listener", "listener http: Conflicted/ProtocolConflict",
				"listener s: ResolvedRefs/InvalidCertificateRef", "listener s: Conflicted/ProtocolConflict",
			},
		},
		{
			"overlapping hosts of HTTPS are shown, and served",
			[]string{gateway("- {name: a, port: 443, protocol: HTTPS, hostname: a.b.com}\n- {name: b, port: 443, protocol: HTTPS, hostname: '*.b.com'}")},
			[]string{
				"listener a: ResolvedRefs/InvalidCertificateRef | certificateRefs is empty", "listener a: OverlappingTLSConfig/OverlappingHostnames | *.b.com",
				"listener b: ResolvedRefs/InvalidCertificateRef", "listener b: OverlappingTLSConfig/OverlappingHostnames",
			},
		},
		{"the proxy's own port is refused", []string{gateway("- {name: a, port: 19001, protocol: HTTP}\n" + http)}, []string{"gateway", "listener a: Accepted/PortUnavailable | proxy itself"}},
		{"the port that stands for a low one is refused", []string{gateway("- {name: a, port: 10080, protocol: HTTP}\n" + http)}, []string{"gateway", "listener a: Accepted/PortUnavailable | on port 80"}},
		{
			"an unknown kind of route is refused",
			[]string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: X}, {kind: HTTPRoute}]}}")},
			[]string{"listener a: ResolvedRefs/InvalidRouteKinds | names X"},
		},
		{
			"a bad selector is refused",
			[]string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: Like}]}}}}\n- {name: c, port: 81, protocol: HTTP}")},
			[]string{"gateway", "listener a: Accepted/UnsupportedValue | selector"},
		},
		{
			"filters of a listener are refused, not left out",
			[]string{gateway("- {name: a, port: 80, protocol: HTTP, filters: {requests: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: shop, port: 80}}}]}}")},
			[]string{"gateway", "listener a: Accepted/UnsupportedValue | filters.requests[0] is of type ExternalAuth"},
		},
		{"a Secret must exist", []string{gateway(fmt.Sprintf(https, "{name: gone}"))}, []string{"listener s: ResolvedRefs/InvalidCertificateRef | default/gone does not exist"}},
		{"a certificate is a Secret", []string{gateway(fmt.Sprintf(https, "{kind: ConfigMap, name: gone}"))}, []string{"listener s: ResolvedRefs/InvalidCertificateRef | ConfigMap"}},
		{"a certificate is of the core group", []string{gateway(fmt.Sprintf(https, "{group: a.b, name: gone}"))}, []string{"listener s: ResolvedRefs/InvalidCertificateRef | a.b"}},
		{"another namespace must permit", []string{gateway(fmt.Sprintf(https, "{name: gone, namespace: finance}"))}, []string{"listener s: ResolvedRefs/RefNotPermitted | finance"}},
		{
			"a Secret that was permitted must exist too",
			[]string{
				gateway(fmt.Sprintf(https, "{name: gone, namespace: finance}")),
				"---\nkind: ReferenceGrant\nmetadata: {name: g, namespace: finance}\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: '', kind: Secret, name: gone}]}",
			},
			[]string{"listener s: ResolvedRefs/InvalidCertificateRef | finance/gone does not exist"},
		},
		{
			"a Secret needs a key pair",
			[]string{gateway(fmt.Sprintf(https, "{name: bad}")), "---\nkind: Secret\nmetadata: {name: bad}\nstringData: {tls.crt: Hello, tls.key: Hello}"},
			[]string{"listener s: ResolvedRefs/InvalidCertificateRef | cannot be used"},
		},
		{"options are not ignored", []string{gateway("- {name: a, port: 443, protocol: HTTPS, tls: {options: {a.b/c: d}}}")}, []string{"gateway", "listener a: Accepted/UnsupportedValue | a.b/c", "listener a: ResolvedRefs/InvalidCertificateRef"}},
	})
}

func TestParentProblems(t *testing.T) {
	spec := func(parent, more string) string {
		return "---\nkind: HTTPRoute\nmetadata: {name: r, namespace: " + more + "}\nspec:\n  parentRefs: [" + parent + "]\n  hostnames: [a.example.com]\n  rules: [{backendRefs: [{name: shop, namespace: default, port: 80}]}]"
	}
	grant := "---\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: team}], to: [{group: '', kind: Service}]}"
	ns := "---\nkind: Namespace\nmetadata: {name: team, labels: {a: b}}"
	named := gateway("- {name: one, port: 80, protocol: HTTP}\n- {name: two, port: 81, protocol: HTTP, hostname: b.example.com}")
	checkProblems(t, []problemCase{
		{"the listener exists", []string{named, spec("{name: web, sectionName: one, port: 80}", "default")}, nil},
		{"the section does not exist", []string{named, spec("{name: web, sectionName: gone}", "default")}, []string{`parent 0: Accepted/NoMatchingParent | listener "gone"`}},
		{"the port does not exist", []string{named, spec("{name: web, port: 82}", "default")}, []string{"parent 0: Accepted/NoMatchingParent | port 82"}},
		{"section and port contradict", []string{named, spec("{name: web, sectionName: one, port: 81}", "default")}, []string{"parent 0: Accepted/NoMatchingParent"}},
		{"the host is another's", []string{named, spec("{name: web, sectionName: two}", "default")}, []string{"parent 0: Accepted/NoMatchingListenerHostname"}},
		{"the namespace is not allowed", []string{named, grant, spec("{name: web, namespace: default}", "team")}, []string{"parent 0: Accepted/NotAllowedByListeners | team"}},
		{"all namespaces are allowed", []string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}"), grant, spec("{name: web, namespace: default}", "team")}, nil},
		{"the selector selects", []string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}"), ns, grant, spec("{name: web, namespace: default}", "team")}, nil},
		{"the selector does not select", []string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: c}}}}}"), ns, grant, spec("{name: web, namespace: default}", "team")}, []string{"parent 0: Accepted/NotAllowedByListeners"}},
		{"the kind is not allowed", []string{gateway("- {name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}"), spec("{name: web}", "default")}, []string{"parent 0: Accepted/NotAllowedByListeners | HTTPRoute"}},
		{"other kinds of parents are not ours", []string{named, spec("{kind: Service, group: '', name: web}, {name: web, sectionName: one}", "default")}, nil},
		{"a bad hostname is refused and the good one serves", []string{gateway(http), route("hostnames: [10.0.0.1, a.example.com]\nrules: [{}]")}, []string{"route r: Accepted/UnsupportedValue | 10.0.0.1"}},
		{"a route whose only hostname is bad serves no host", []string{gateway(http), route("hostnames: [10.0.0.1]\nrules: [{}]")}, []string{"route r: Accepted/UnsupportedValue", "parent 0: Accepted/NoMatchingListenerHostname"}},
	})
}

func TestRuleProblems(t *testing.T) {
	two := func(fields string) string {
		return route("rules:\n- backendRefs: [{name: shop, port: 80}]\n- backendRefs: [{name: shop, port: 80}]\n" + indented([]string{fields}))
	}
	whole := func(fields string) []string { return []string{gateway(http), rule(fields)} }
	both := []string{"route r: Accepted/UnsupportedValue", "rule 0: Accepted/UnsupportedValue"}
	with := func(words string) []string { return []string{both[0] + "|" + words, both[1] + "|" + words} }
	checkProblems(t, []problemCase{
		{"several mirrors are fine", whole("filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shop, port: 80}}}, {type: RequestMirror, requestMirror: {percent: 20, backendRef: {name: shop, port: 80}}}]"), nil},
		{
			"a mirror to a Service that is not there takes no request away", whole("filters: [{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}]"),
			[]string{"mirror 0.0: ResolvedRefs/BackendNotFound | filters[0].requestMirror.backendRef"},
		},
		{
			"a mirror to another namespace needs a grant", whole("filters: [{type: RequestMirror, requestMirror: {backendRef: {name: billing, namespace: finance, port: 80}}}]"),
			[]string{"mirror 0.0: ResolvedRefs/RefNotPermitted | finance"},
		},
		{"a mirror's settings are needed", whole("filters: [{type: RequestMirror}]"), with("name a backendRef")},
		{"a percentage ends at 100", whole("filters: [{type: RequestMirror, requestMirror: {percent: 101, backendRef: {name: shop, port: 80}}}]"), with("percent")},
		{"a fraction is a part of the whole", whole("filters: [{type: RequestMirror, requestMirror: {fraction: {numerator: 3, denominator: 2}, backendRef: {name: shop, port: 80}}}]"), with("3/2")},
		{
			"what is redirected is not mirrored",
			[]string{gateway(http), route("rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: RequestMirror, requestMirror: {backendRef: {name: shop, port: 80}}}]}]")},
			[]string{"route r: Accepted/IncompatibleFilters", "rule 0: Accepted/IncompatibleFilters | not mirrored"},
		},
		{"CORS without origins lets nobody in, and is fine", whole("filters: [{type: CORS, cors: {}}]"), nil},
		{"an origin has a scheme", whole("filters: [{type: CORS, cors: {allowOrigins: [shop.example.com]}}]"), with("cors.allowOrigins[0]")},
		{"the asterisk of an origin stands in front", whole("filters: [{type: CORS, cors: {allowOrigins: ['https://a.*.com']}}]"), with("cors.allowOrigins[0]")},
		{"a port of an origin is a port", whole("filters: [{type: CORS, cors: {allowOrigins: ['https://a.com:99999']}}]"), with("cors.allowOrigins[0]")},
		{"an address is an origin", whole("filters: [{type: CORS, cors: {allowOrigins: ['http://127.0.0.1:3000']}}]"), nil},
		{"names of headers are names", whole("filters: [{type: CORS, cors: {allowHeaders: ['a, b']}}]"), with("cors.allowHeaders[0]")},
		{"an age is not negative", whole("filters: [{type: CORS, cors: {maxAge: -1}}]"), with("cors.maxAge")},
		{
			"a redirect has no CORS headers",
			[]string{gateway(http), route("rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: CORS, cors: {}}]}]")},
			[]string{"route r: Accepted/IncompatibleFilters", "rule 0: Accepted/IncompatibleFilters | remove CORS or RequestRedirect"},
		},
		{"an extension is refused", whole("filters: [{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]"), with("ExtensionRef")},
		{"external authorization needs settings", whole("filters: [{type: ExternalAuth}]"), with("settings are missing")},
		{"external authorization has a protocol", whole("filters: [{type: ExternalAuth, externalAuth: {backendRef: {name: shop, port: 80}}}]"), with("write HTTP or GRPC")},
		{"external authorization", whole("filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: shop, port: 80}}}]"), nil},
		{"a path of an authorization service is a path", whole("filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {path: check}, backendRef: {name: shop, port: 80}}}]"), with("http.path")},
		{"the answer may not change how a message is framed", whole("filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {allowedResponseHeaders: [Transfer-Encoding]}, backendRef: {name: shop, port: 80}}}]"), with("cannot be modified")},
		{"a body has no negative length", whole("filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, forwardBody: {maxSize: -1}, backendRef: {name: shop, port: 80}}}]"), with("forwardBody.maxSize")},
		{
			"without its authorization service a rule serves nothing",
			whole("filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: gone, port: 80}}}]"),
			[]string{"rule 0: ResolvedRefs/BackendNotFound | externalAuth.backendRef"},
		},
		{
			"an authorization service elsewhere needs a grant",
			whole("filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: billing, namespace: finance, port: 80}}}]"),
			[]string{"rule 0: ResolvedRefs/RefNotPermitted | finance"},
		},
		{"retries", whole("retry: {attempts: 2, codes: [503, 500], backoff: 10ms}"), nil},
		{"a success is not retried", whole("retry: {codes: [200]}"), with("spec.rules[0].retry.codes[0]")},
		{"retries are not negative", whole("retry: {attempts: -1}"), with("write 0 or more")},
		{"a backoff is a duration", whole("retry: {backoff: 1x}"), with("write 25ms")},
		{"a backoff is some time", whole("retry: {backoff: 0s}"), with("write 25ms")},
		{"session persistence is refused", whole("sessionPersistence: {}"), with("sessionPersistence")},
		{
			"one bad rule of two is partially invalid",
			[]string{gateway(http), two("sessionPersistence: {}")},
			[]string{"route r: PartiallyInvalid/UnsupportedValue | Dropped Rule", "rule 1: Accepted/UnsupportedValue | spec.rules[1]"},
		},
		{"a filter without settings is refused", whole("filters: [{type: URLRewrite}]"), with("settings are missing")},
		{
			"a filter that stands there twice is refused", whole("filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]"),
			[]string{"route r: Accepted/IncompatibleFilters", "rule 0: Accepted/IncompatibleFilters | filters[1]"},
		},
		{"Host cannot be modified", whole("filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}]"), with("URLRewrite")},
		{"what frames a message cannot be modified", whole("filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Content-Length, value: '0'}]}}]"), with("how a message is sent")},
		{"pseudo headers cannot be modified", whole("filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [':path']}}]"), with(":path")},
		{"a header's value has no line ends", whole("filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: \"b\\r\\nc\"}]}}]"), with("control characters")},
		{"a regular expression must be RE2", whole("matches: [{path: {type: RegularExpression, value: '/a(?=b)'}}]"), with("RE2")},
		{"a regular expression must be small", whole("matches: [{headers: [{type: RegularExpression, name: a, value: '" + strings.Repeat(`(\pL{500})`, 2) + "'}]}]"), with("too large")},
		{"classes that only Go knows are refused", whole(`matches: [{queryParams: [{type: RegularExpression, name: a, value: '\p{Letter}'}]}]`), with("RE2 does not know")},
		{"a path begins with a slash", whole("matches: [{path: {type: Exact, value: a}}]"), with("begin with /")},
		{"a path has no empty element", whole("matches: [{path: {value: /a//b}}]"), with("empty element")},
		{"a path has no query", whole("matches: [{path: {value: '/a?b'}}]"), with("no path has")},
		{"a path has no dots", whole("matches: [{path: {value: /a/../b}}]"), with("..")},
		{"a method is one of HTTP", whole("matches: [{method: BREW}]"), with("BREW")},
		{"durations are checked", whole("timeouts: {request: 1x}"), with("write 500ms")},
		{"a try is not longer than the whole", whole("timeouts: {request: 1s, backendRequest: 2s}"), with("longer than request")},
		{"no limit is not shorter than a limit", whole("timeouts: {request: 0s, backendRequest: 2s}"), nil},
		{"weights have a largest sum", []string{gateway(http), route("rules: [{backendRefs: [{name: shop, port: 80, weight: 2147483647}, {name: shop, port: 80, weight: 2147483647}, {name: shop, port: 80, weight: 2}]}]")}, with("4294967296")},
		{"weights of zero alone are no problem", []string{gateway(http), route("rules: [{backendRefs: [{name: shop, port: 80, weight: 0}]}]")}, nil},
		{
			"a redirect has no backends", whole("filters: [{type: RequestRedirect, requestRedirect: {}}]"),
			[]string{"route r: Accepted/IncompatibleFilters", "rule 0: Accepted/IncompatibleFilters"},
		},
		{"a redirect's scheme is known", []string{gateway(http), route("rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}]")}, with("http or https")},
		{
			"a prefix is replaced only where one is matched", whole("matches: [{path: {type: Exact, value: /a}}]\nfilters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]"),
			[]string{"route r: Accepted/IncompatibleFilters", "rule 0: Accepted/IncompatibleFilters | PathPrefix"},
		},
		{"a host that is rewritten is a name", whole("filters: [{type: URLRewrite, urlRewrite: {hostname: '*.a.com'}}]"), with("DNS name")},
	})
}

func TestBackendProblems(t *testing.T) {
	to := func(ref string) []string {
		return []string{gateway(http), route("rules: [{backendRefs: [" + ref + "]}]")}
	}
	checkProblems(t, []problemCase{
		{"a rewrite of one backend", to("{name: shop, port: 80}, {name: shop, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: a.b, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}"), nil},
		{"a Service that is not there", to("{name: gone, port: 80}"), []string{"backend 0.0: ResolvedRefs/BackendNotFound | default/gone"}},
		{"a port that is not there", to("{name: shop, port: 81}"), []string{"backend 0.0: ResolvedRefs/BackendNotFound | port 81"}},
		{"a port of UDP", to("{name: shop, port: 53}"), []string{"backend 0.0: ResolvedRefs/BackendNotFound | TCP port 53"}},
		{"no port", to("{name: shop}"), []string{"backend 0.0: ResolvedRefs/BackendNotFound | port is missing"}},
		{"another kind", to("{name: shop, kind: Bucket, group: a.b}"), []string{"backend 0.0: ResolvedRefs/InvalidKind | Bucket"}},
		{"another namespace", to("{name: billing, namespace: finance, port: 80}"), []string{"backend 0.0: ResolvedRefs/RefNotPermitted | finance"}},
		{"an external name", to("{name: outside, port: 80}"), []string{"backend 0.0: ResolvedRefs/InvalidKind | ExternalName"}},
		{"a protocol that is not spoken", to("{name: secure, port: 443}"), []string{"backend 0.0: ResolvedRefs/UnsupportedProtocol | https"}},
		{
			"WebSockets are not for gRPC",
			[]string{gateway(http), strings.Replace(route("rules: [{backendRefs: [{name: secure, port: 80}]}]"), "HTTPRoute", "GRPCRoute", 1)},
			[]string{"backend 0.0: ResolvedRefs/UnsupportedProtocol | kubernetes.io/ws"},
		},
		{
			"a prefix that was not matched spoils one backend's share alone",
			[]string{gateway(http), route("rules:\n- matches: [{path: {type: Exact, value: /a}}]\n  backendRefs: [{name: shop, port: 80}, {name: shop, port: 80, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}]")},
			[]string{"route r: PartiallyInvalid", "backend 0.1: Accepted/IncompatibleFilters | backendRefs[1]"},
		},
		{
			"a mirror of one backend spoils its share alone", to("{name: shop, port: 80}, {name: shop, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shop, port: 80}}}]}"),
			[]string{"route r: PartiallyInvalid/UnsupportedValue", "backend 0.1: Accepted/UnsupportedValue | write it into the rule's filters"},
		},
		{
			"a permitted namespace", append(to("{name: billing, namespace: finance, port: 80}"),
				"---\nkind: ReferenceGrant\nmetadata: {name: g, namespace: finance}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service, name: billing}]}"), nil,
		},
		{
			"a grant for another Service", append(to("{name: billing, namespace: finance, port: 80}"),
				"---\nkind: ReferenceGrant\nmetadata: {name: g, namespace: finance}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service, name: x}]}"),
			[]string{"backend 0.0: ResolvedRefs/RefNotPermitted"},
		},
		{
			"a grant for another kind of route", append(to("{name: billing, namespace: finance, port: 80}"),
				"---\nkind: ReferenceGrant\nmetadata: {name: g, namespace: finance}\nspec: {from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: default}], to: [{group: '', kind: Service}]}"),
			[]string{"backend 0.0: ResolvedRefs/RefNotPermitted"},
		},
	})
}

func TestOthersAreIgnored(t *testing.T) {
	g := build(t, gateway(http),
		"---\nkind: GatewayClass\nmetadata: {name: other}\nspec: {controllerName: example.com/x}",
		"---\nkind: Gateway\nmetadata: {name: theirs}\nspec: {gatewayClassName: other, listeners: [{name: a, port: 80, protocol: HTTP}]}",
		"---\nkind: HTTPRoute\nmetadata: {name: theirs}\nspec: {parentRefs: [{name: theirs}]}",
		"---\nkind: Gateway\nmetadata: {name: nobodys}\nspec: {gatewayClassName: none, listeners: [{name: a, port: 80, protocol: HTTP}]}")
	if len(g.Classes) != 1 || len(g.Gateways) != 1 || len(g.Routes) != 0 {
		t.Errorf("%d classes, %d Gateways, %d routes, want only ours", len(g.Classes), len(g.Gateways), len(g.Routes))
	}
}

func TestAttachmentsAreInOrderOfPrecedence(t *testing.T) {
	doc := func(kind, name, created string) string {
		return fmt.Sprintf("---\nkind: %s\nmetadata: {name: %s, creationTimestamp: %q}\nspec: {parentRefs: [{name: web}], rules: [{}]}", kind, name, created)
	}
	g := build(t, gateway(http), doc("HTTPRoute", "c", "2026-01-02T00:00:00Z"), doc("HTTPRoute", "b", "2026-01-02T00:00:00Z"),
		doc("HTTPRoute", "z", "2026-01-01T00:00:00Z"), doc("GRPCRoute", "x", "2026-01-01T00:00:00Z"))
	var got []string
	for _, a := range g.Gateways[0].Listeners[0].Attachments {
		got = append(got, a.Route.Key.Name)
	}
	if diff := cmp.Diff([]string{"x", "z", "b", "c"}, got); diff != "" {
		t.Errorf("older first, then by name (-want +got):\n%s", diff)
	}
}

func TestTwoParentRefsShareAnAttachment(t *testing.T) {
	g := build(t, gateway(http), "---\nkind: HTTPRoute\nmetadata: {name: r}\nspec: {parentRefs: [{name: web}, {name: web, sectionName: http}], rules: [{}]}")
	if n := len(g.Gateways[0].Listeners[0].Attachments); n != 1 {
		t.Errorf("the listener has %d attachments of one route, want 1", n)
	}
	if r := g.Routes[0]; !r.Parents[0].Accepted || !r.Parents[1].Accepted {
		t.Error("both parentRefs are accepted")
	}
}
