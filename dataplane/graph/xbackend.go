// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// UpstreamKind tells what kind of object stands for an upstream.
type UpstreamKind string

// The kinds of objects that routes send to.
const (
	// UpstreamService is a Service of the core group.
	UpstreamService UpstreamKind = ""
	// UpstreamXBackend is an XBackend: pods by label, or a host outside of the cluster.
	UpstreamXBackend UpstreamKind = "xbackend"
)

// XBackend is an XBackend that a route of ours sends to, or one that carries a status
// of ours from the time when a route did; then Ancestors is empty.
type XBackend struct {
	Key    types.NamespacedName
	Source *gwxv1alpha1.XBackend
	// Ancestors are the Gateways whose routes send to it, by name.
	Ancestors []*Gateway
	Problems  []Problem

	port    int32
	host    string
	tls     *UpstreamTLS
	session *Session
}

// buildXBackend reads an XBackend. One with Problems serves nothing.
func buildXBackend(src *gwxv1alpha1.XBackend, refs references) *XBackend {
	x := &XBackend{Key: keyOf(src), Source: src, port: int32(src.Spec.Port.Number)}
	if x.port < 1 || x.port > 65535 {
		x.Problems = append(x.Problems, xbackendInvalid("spec.port.number is %d: write a number from 1 to 65535", x.port))
	}
	switch {
	case src.Spec.Type == gwxv1alpha1.BackendTypeExternalHostname && src.Spec.ExternalHostname != nil:
		host, why := externalHost(string(src.Spec.ExternalHostname.Hostname), x.port)
		if why != "" {
			x.Problems = append(x.Problems, xbackendInvalid("spec.externalHostname.hostname %s", why))
		}
		x.host = host
	case src.Spec.Type == gwxv1alpha1.BackendTypeEndpointSelector && src.Spec.EndpointSelector != nil:
		if len(src.Spec.EndpointSelector.MatchLabels) == 0 {
			x.Problems = append(x.Problems, xbackendInvalid("spec.endpointSelector.matchLabels is empty: name a label that the pods have"))
		}
	default:
		x.Problems = append(x.Problems, xbackendInvalid("spec.type is %q: write ExternalHostname or EndpointSelector, with the settings of the same name", src.Spec.Type))
	}
	var problems []Problem
	x.tls, problems = readXBackendTLS(src, refs)
	x.Problems = append(x.Problems, problems...)
	if src.Spec.SessionPersistence != nil {
		x.session, problems = readSession("spec.sessionPersistence", x.Key, src.Spec.SessionPersistence)
		x.Problems = append(x.Problems, problems...)
		if x.host != "" {
			x.Problems = append(x.Problems, xbackendInvalid("spec.sessionPersistence needs type EndpointSelector: remove it"))
		}
	}
	if _, ok := x.protocol(KindHTTPRoute); !ok {
		if _, ok := x.protocol(KindTCPRoute); !ok {
			x.Problems = append(x.Problems, xbackendInvalid("spec.protocol is %q: write HTTP, HTTP11, HTTP2, H2C, GRPC, TCP or WSS", deref(src.Spec.Protocol, "")))
		}
	}
	return x
}

// protocol is what routes of a kind speak to it.
func (x *XBackend) protocol(kind RouteKind) (UpstreamProtocol, bool) {
	web := kind == KindHTTPRoute || kind == KindGRPCRoute
	protocol := UpstreamHTTP
	var ok bool
	switch deref(x.Source.Spec.Protocol, "") {
	case "":
		ok = kind != KindUDPRoute // there is no such protocol
	case gwxv1alpha1.BackendProtocolHTTP, gwxv1alpha1.BackendProtocolHTTP11:
		ok = web
	case gwxv1alpha1.BackendProtocolHTTP2, gwxv1alpha1.BackendProtocolH2C, gwxv1alpha1.BackendProtocolGRPC:
		protocol, ok = UpstreamH2C, web
	case gwxv1alpha1.BackendProtocolWSS:
		protocol, ok = UpstreamWebSocket, kind == KindHTTPRoute
	case gwxv1alpha1.BackendProtocolTCP:
		ok = kind == KindTCPRoute || kind == KindTLSRoute
	default:
		ok = false
	}
	switch kind {
	case KindGRPCRoute:
		protocol = UpstreamH2C // gRPC has no other form
	case KindTCPRoute, KindTLSRoute:
		protocol = UpstreamTCP
	}
	return protocol, ok
}

// XBackendKey is the XBackend that a backendRef of a route in the namespace names, and
// whether it names one at all.
func XBackendKey(namespace string, ref gwv1.BackendObjectReference) (types.NamespacedName, bool) {
	key := types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}
	return key, deref(ref.Group, "") == gwxv1alpha1.GroupName && deref(ref.Kind, "Service") == xbackendKind
}

const xbackendKind = "XBackend"

// resolveXBackend finds the XBackend, or the first reason why it cannot be used.
func (b *Backend) resolveXBackend(field string, kind RouteKind, namespace string, key types.NamespacedName, ref gwv1.BackendObjectReference, refs references) *Problem {
	b.Cluster = ClusterKey{Kind: UpstreamXBackend, Namespace: key.Namespace, Service: key.Name}
	if !refs.permittedTo(string(kind), namespace, gwxv1alpha1.GroupName, xbackendKind, key) {
		p := xbackendNotPermitted(field, kind, namespace, key)
		return &p
	}
	x := refs.xbackends[key]
	if x == nil {
		p := xbackendNotFound(field, key)
		return &p
	}
	b.Cluster.Port = x.port
	if ref.Port != nil {
		p := xbackendPortGiven(field)
		return &p
	}
	if len(x.Problems) > 0 {
		p := xbackendUnusable(field, key)
		return &p
	}
	protocol, ok := x.protocol(kind)
	if !ok {
		p := xbackendProtocolUnsupported(field, key, string(deref(x.Source.Spec.Protocol, "TCP or HTTP")), kind)
		return &p
	}
	b.setProtocol(protocol, x.tls != nil)
	b.Host, b.TLS = x.host, x.tls
	b.Filters.Session = x.session
	return nil
}

func buildXBackends(sources map[types.NamespacedName]*gwxv1alpha1.XBackend, refs references) map[types.NamespacedName]*XBackend {
	out := map[types.NamespacedName]*XBackend{}
	for key, src := range sources {
		if src != nil {
			out[key] = buildXBackend(src, refs)
		}
	}
	return out
}

// linkXBackends finds the Gateways that each XBackend concerns, and keeps the XBackends
// that have one, or had.
func (g *Graph) linkXBackends(all map[types.NamespacedName]*XBackend, controllerName string) {
	used := g.gatewaysOf(UpstreamXBackend)
	for _, key := range sortedKeys(all) {
		x := all[key]
		x.Ancestors = used[key]
		had := slices.ContainsFunc(x.Source.Status.Ancestors, func(a gwxv1alpha1.BackendAncestorStatus) bool {
			return string(a.ControllerName) == controllerName
		})
		if len(x.Ancestors) > 0 || had {
			g.XBackends = append(g.XBackends, x)
		}
	}
}

// gatewaysOf gives, for each object of a kind that routes send to, the Gateways that
// have accepted such a route, by name.
func (g *Graph) gatewaysOf(kind UpstreamKind) map[types.NamespacedName][]*Gateway {
	sets := map[types.NamespacedName]map[*Gateway]bool{}
	for _, route := range g.Routes {
		for _, key := range route.upstreams() {
			if key.Kind != kind {
				continue
			}
			name := types.NamespacedName{Namespace: key.Namespace, Name: key.Service}
			if sets[name] == nil {
				sets[name] = map[*Gateway]bool{}
			}
			for _, parent := range route.Parents {
				if parent.Accepted {
					sets[name][parent.Gateway] = true
				}
			}
		}
	}
	out := map[types.NamespacedName][]*Gateway{}
	for name, set := range sets {
		out[name] = slices.SortedFunc(maps.Keys(set), func(a, b *Gateway) int { return compareKeys(a.Key, b.Key) })
	}
	return out
}

// upstreams are what a route names and may name, valid or not.
func (r *Route) upstreams() []ClusterKey {
	var keys []ClusterKey
	add := func(key ClusterKey, problems ...Problem) {
		refused := slices.ContainsFunc(problems, func(p Problem) bool { return p.Reason == string(gwv1.RouteReasonRefNotPermitted) })
		if key != (ClusterKey{}) && !refused {
			keys = append(keys, key)
		}
	}
	for _, rule := range r.Rules {
		if rule.Filters.Auth != nil {
			add(rule.Filters.Auth.Cluster, rule.Problems...)
		}
		for _, b := range rule.Backends {
			add(b.Cluster, b.Problems...)
			if b.Filters.Auth != nil {
				add(b.Filters.Auth.Cluster, b.Problems...)
			}
		}
		for _, m := range rule.Mirrors {
			add(m.Cluster, m.Problems...)
		}
	}
	return keys
}

// externalHost checks the name of a host outside of the cluster, and gives it in the form
// that no search domain is tried for. Why is empty when it can be used. What is in the
// cluster is refused: a name is not subject to ReferenceGrants and would lead around them
// (CVE-2021-25740), or to the proxy itself.
func externalHost(hostname string, port int32) (host, why string) {
	name := strings.TrimSuffix(strings.ToLower(hostname), ".")
	quoted := `is "` + hostname + `": `
	under := func(suffixes ...string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return name == s || strings.HasSuffix(name, "."+s) })
	}
	switch {
	case strings.HasPrefix(name, "*") || !validHostname(name) || likeAddress(name):
		return "", quoted + "write a DNS name such as api.example.com"
	case under("cluster.local", "svc"):
		return "", quoted + "it is a name of the cluster: name the Service in the backendRef"
	case under("localhost", "localdomain"):
		return "", quoted + "it is the proxy itself"
	case under("metadata.google.internal", "metadata.goog", "instance-data", "ec2.internal", "metadata.azure.internal"):
		return "", quoted + "it is a service that gives out the node's credentials"
	case !strings.Contains(name, "."):
		return "", quoted + "write the whole name, such as api.example.com"
	case port >= AdminPort && port <= DrainPort:
		return "", quoted + "port " + itoa(port) + " is one that the proxy itself uses: a name could lead back to it"
	}
	return name + ".", ""
}

// likeAddress tells whether a name is one that some resolvers take for an address, such as
// 127.1, 0177.0.0.1 and 0x7f.1: its last label is a number (URL Standard, "ends in a number").
// No such name exists in DNS.
func likeAddress(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == ""
}
