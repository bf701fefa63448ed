// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package goldens

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/randfill"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

// PlausibleGateway is the Gateway of Plausible.
var PlausibleGateway = types.NamespacedName{Namespace: "a", Name: "a"}

// Plausible gives resources as users write them, most of them well and some at the edge
// of what the API server lets pass: unlike Arbitrary's, nearly all of it is served. The
// ports are for HTTP, HTTP again, HTTPS and TLS, TCP and UDP; pair is the content of a
// kubernetes.io/tls Secret. Equal arguments give equal resources.
func Plausible(seed int64, ports [5]int32, pair map[string][]byte) graph.Resources {
	f := randfill.NewWithSeed(seed).NilChance(0.5).NumElements(0, 3).MaxDepth(30).Funcs(plausibleFuncs()...)
	r := Empty()
	class := &gwv1.GatewayClass{}
	class.Name, class.Spec.ControllerName = "a", gwv1.GatewayController(r.ControllerName)
	secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: pair}
	secret.Namespace, secret.Name = "a", "a"
	_, _ = Add(&r, class), Add(&r, secret)
	for _, name := range []string{"a", "b"} {
		svc := &corev1.Service{}
		svc.Namespace, svc.Name = "a", name
		h2c := "kubernetes.io/h2c"
		svc.Spec.Ports = []corev1.ServicePort{
			{Name: "http", Port: 80}, {Name: "h2c", Port: 8080, AppProtocol: &h2c}, {Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP},
		}
		_ = Add(&r, svc)
	}
	var choice struct{ Listeners, Hosts, Running [8]uint8 }
	f.Fill(&choice)
	_ = Add(&r, plausibleGateway(ports, choice.Listeners, choice.Hosts))
	for i := range 3 {
		route := &gwv1.HTTPRoute{}
		route.Namespace, route.Name = "a", fmt.Sprint("web-", i)
		f.Fill(&route.Spec)
		route.Spec.ParentRefs = []gwv1.ParentReference{{Name: "a"}}
		for n := range route.Spec.Rules {
			route.Spec.Rules[n].Name = nil
		}
		if choice.Running[i]%3 == 0 {
			route.Annotations = map[string]string{v1beta1.AnnotationRelease: "{}"}
		}
		_ = Add(&r, route)
	}
	for i := range 2 {
		route := &gwv1.GRPCRoute{}
		route.Namespace, route.Name = "a", fmt.Sprint("calls-", i)
		f.Fill(&route.Spec)
		route.Spec.ParentRefs = []gwv1.ParentReference{{Name: "a"}}
		for n := range route.Spec.Rules {
			route.Spec.Rules[n].Name = nil
		}
		_ = Add(&r, route)
	}
	addPlausibleStreams(&r, f)
	return r
}

// addPlausibleStreams adds routes of connections and of datagrams.
func addPlausibleStreams(r *graph.Resources, f *randfill.Filler) {
	parents := []gwv1.ParentReference{{Name: "a"}}
	for i := range 2 {
		name := fmt.Sprint("stream-", i)
		tls, tcp, udp := &gwv1.TLSRoute{}, &gwv1.TCPRoute{}, &gwv1.UDPRoute{}
		f.Fill(&tls.Spec)
		f.Fill(&tcp.Spec)
		f.Fill(&udp.Spec)
		tls.Spec.ParentRefs, tcp.Spec.ParentRefs, udp.Spec.ParentRefs = parents, parents, parents
		for n := range udp.Spec.Rules {
			for b := range udp.Spec.Rules[n].BackendRefs {
				udp.Spec.Rules[n].BackendRefs[b].Port = new(gwv1.PortNumber(53))
			}
		}
		for _, o := range []client.Object{tls, tcp, udp} {
			o.SetNamespace("a")
			o.SetName(name)
			_ = Add(r, o)
		}
	}
}

// plausibleGateway has listeners whose hostnames hide and overlap each other.
func plausibleGateway(ports [5]int32, listeners, hosts [8]uint8) *gwv1.Gateway {
	gw := &gwv1.Gateway{}
	gw.Namespace, gw.Name = PlausibleGateway.Namespace, PlausibleGateway.Name
	gw.Spec.GatewayClassName = "a"
	names := []gwv1.Hostname{"a.com", "*.a.com", "*.com", "b.a.com", "*.b.a.com", "xn--bcher-kva.com"}
	used := map[string]bool{}
	for i := range 2 + int(listeners[0])%6 {
		l := plausibleListener(fmt.Sprint("l", i), ports, int(listeners[i]))
		if l.Protocol == gwv1.TCPProtocolType || l.Protocol == gwv1.UDPProtocolType {
			// has no hostname
		} else if host := int(hosts[i]) % (len(names) + 1); host < len(names) {
			l.Hostname = &names[host]
		}
		if id := fmt.Sprint(l.Port, ptrText(l.Hostname)); !used[id] {
			used[id] = true
			gw.Spec.Listeners = append(gw.Spec.Listeners, l)
		}
	}
	return gw
}

// plausibleListener is one of the kinds of listeners that there are.
func plausibleListener(name string, ports [5]int32, choice int) gwv1.Listener {
	l := gwv1.Listener{Name: gwv1.SectionName(name)}
	certificates := &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "a"}}}
	switch choice % 8 {
	case 0, 1:
		l.Port, l.Protocol = ports[0], gwv1.HTTPProtocolType
	case 2:
		l.Port, l.Protocol = ports[1], gwv1.HTTPProtocolType
	case 3, 4:
		l.Port, l.Protocol, l.TLS = ports[2], gwv1.HTTPSProtocolType, certificates
	case 5:
		l.Port, l.Protocol, l.TLS = ports[2], gwv1.TLSProtocolType, certificates
		mode := gwv1.TLSModePassthrough
		if choice%16 < 8 {
			l.TLS = &gwv1.ListenerTLSConfig{Mode: &mode}
		}
	case 6:
		l.Port, l.Protocol = ports[3], gwv1.TCPProtocolType
	case 7:
		l.Port, l.Protocol = ports[4], gwv1.UDPProtocolType
	}
	return l
}

func ptrText(h *gwv1.Hostname) string {
	if h == nil {
		return ""
	}
	return string(*h)
}

// The values that strings have: what is usual first, then the edge.
var (
	plausiblePaths = []string{
		"/", "/a", "/a/", "/a/b", "/v2", "", "//", "/a//b", "/%2F", "/a%20b", "/~", "/a;b=c", "/a:b@c", "/.hidden", "/a'()*+,=",
		"/é", "/a?b", "/a#b", "/..", "/a b", "/\\1", "/%", "/%zz", "/$1", "\\0",
		"/[a-z]+", "/a|/b", "(", "[a", "a{2,1}", "(?i)/A", "(?=x)", "\\pN", "(?P<n>x)", "^/a$", "", ".*", "(a{100}){100}", "\\C",
	}
	plausibleValues = []string{
		"a", "1", "x y", "\"q\"", "a,b", "%", "%%", "%REQ(:path)%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%NONSENSE%", "%START_TIME(", "{a}", "é", "\t", " a ", "[", "a\nb", "a\x00b", "a\rb",
	}
	plausibleHeaders = []string{
		"X-A", "x-b", "content-type", "Host", "host", "User-Agent", "x_under", "Cookie", "connection", "transfer-encoding", "te", "Content-Length",
		"upgrade", ":path", ":authority", "!#$%&'*+-.^_`|~", "x-envoy-retry-on", "x-forwarded-for", "grpc-timeout", "grpc-status", "1",
	}
	plausibleDurations = []string{"1s", "0s", "10ms", "1h30m", "99999h", "99999h99999m", "1ms", "0h0m0s", "500ms1s"}
)

func plausibleFuncs() []any {
	return []any{
		func(s *string, c randfill.Continue) { *s = pick(c, plausiblePaths...) },
		func(n *gwv1.HTTPHeaderName, c randfill.Continue) {
			*n = gwv1.HTTPHeaderName(pick(c, plausibleHeaders...))
		},
		func(n *gwv1.GRPCHeaderName, c randfill.Continue) {
			*n = gwv1.GRPCHeaderName(pick(c, plausibleHeaders...))
		},
		func(h *gwv1.HTTPHeader, c randfill.Continue) {
			h.Name, h.Value = gwv1.HTTPHeaderName(pick(c, plausibleHeaders...)), pick(c, plausibleValues...)
		},
		func(n *gwv1.Hostname, c randfill.Continue) {
			*n = gwv1.Hostname(pick(c, "a.com", "*.a.com", "*.com", "b.a.com", "c.b.a.com", "other.org", "A.com"))
		},
		func(n *gwv1.PreciseHostname, c randfill.Continue) {
			*n = gwv1.PreciseHostname(pick(c, "a.com", "b.org", "1.2.3.4", "a"))
		},
		func(n *gwv1.Duration, c randfill.Continue) { *n = gwv1.Duration(pick(c, plausibleDurations...)) },
		func(n *gwv1.HTTPMethod, c randfill.Continue) {
			*n = gwv1.HTTPMethod(pick(c, "GET", "POST", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
		},
		func(n *gwv1.HTTPMethodWithWildcard, c randfill.Continue) {
			*n = gwv1.HTTPMethodWithWildcard(pick(c, "GET", "POST", "*", "CONNECT"))
		},
		func(n *gwv1.CORSOrigin, c randfill.Continue) {
			*n = gwv1.CORSOrigin(pick(c, "*", "https://a.com", "https://*.a.com", "http://a.com:8080", "http://*", "ab://x", "https://*.a.com:443"))
		},
		func(n *gwv1.PathMatchType, c randfill.Continue) {
			*n = gwv1.PathMatchType(pick(c, "PathPrefix", "PathPrefix", "Exact", "RegularExpression"))
		},
		func(n *gwv1.HeaderMatchType, c randfill.Continue) {
			*n = gwv1.HeaderMatchType(pick(c, "Exact", "RegularExpression"))
		},
		func(n *gwv1.GRPCHeaderMatchType, c randfill.Continue) {
			*n = gwv1.GRPCHeaderMatchType(pick(c, "Exact", "RegularExpression"))
		},
		func(n *gwv1.QueryParamMatchType, c randfill.Continue) {
			*n = gwv1.QueryParamMatchType(pick(c, "Exact", "RegularExpression"))
		},
		func(n *gwv1.GRPCMethodMatchType, c randfill.Continue) {
			*n = gwv1.GRPCMethodMatchType(pick(c, "Exact", "RegularExpression"))
		},
		func(n *gwv1.HTTPPathModifierType, c randfill.Continue) {
			*n = gwv1.HTTPPathModifierType(pick(c, "ReplaceFullPath", "ReplacePrefixMatch"))
		},
		func(n *gwv1.HTTPRouteExternalAuthProtocol, c randfill.Continue) {
			*n = gwv1.HTTPRouteExternalAuthProtocol(pick(c, "HTTP", "GRPC"))
		},
		func(n *gwv1.HTTPRouteRetryStatusCode, c randfill.Continue) {
			*n = gwv1.HTTPRouteRetryStatusCode(400 + c.Intn(200))
		},
		func(n *gwv1.Fraction, c randfill.Continue) {
			denominator := int32(1 + c.Intn(1000))
			n.Numerator, n.Denominator = int32(c.Intn(int(denominator)+1)), &denominator
		},
		plausibleBackend, plausibleHTTPFilter, plausibleGRPCFilter, plausibleRedirect, plausibleBackendRef,
	}
}

func plausibleBackend(b *gwv1.BackendObjectReference, c randfill.Continue) {
	port := []gwv1.PortNumber{80, 80, 8080, 9}[c.Intn(4)]
	*b = gwv1.BackendObjectReference{Name: gwv1.ObjectName(pick(c, "a", "a", "b", "missing")), Port: &port}
}

func plausibleBackendRef(b *gwv1.BackendRef, c randfill.Continue) {
	plausibleBackend(&b.BackendObjectReference, c)
	if weight := []int32{1, 10, 0, 100, 1_000_000}[c.Intn(5)]; c.Intn(3) > 0 {
		b.Weight = &weight
	}
}

func plausibleRedirect(r *gwv1.HTTPRequestRedirectFilter, c randfill.Continue) {
	if c.Intn(2) == 0 {
		scheme := pick(c, "http", "https")
		r.Scheme = &scheme
	}
	c.Fill(&r.Hostname)
	c.Fill(&r.Path)
	if port := []gwv1.PortNumber{80, 443, 8443, 65535}[c.Intn(4)]; c.Intn(2) == 0 {
		r.Port = &port
	}
	if code := []int{301, 302, 303, 307, 308}[c.Intn(5)]; c.Intn(2) == 0 {
		r.StatusCode = &code
	}
}

// A filter has the one field that its type says: the API server sees to it.
func plausibleHTTPFilter(f *gwv1.HTTPRouteFilter, c randfill.Continue) {
	switch c.Intn(7) {
	case 0:
		f.Type, f.RequestHeaderModifier = gwv1.HTTPRouteFilterRequestHeaderModifier, filled[gwv1.HTTPHeaderFilter](c)
	case 1:
		f.Type, f.ResponseHeaderModifier = gwv1.HTTPRouteFilterResponseHeaderModifier, filled[gwv1.HTTPHeaderFilter](c)
	case 2:
		f.Type, f.RequestMirror = gwv1.HTTPRouteFilterRequestMirror, filled[gwv1.HTTPRequestMirrorFilter](c)
		if f.RequestMirror.Percent != nil {
			percent := int32(c.Intn(101))
			f.RequestMirror.Percent, f.RequestMirror.Fraction = &percent, nil
		}
	case 3:
		f.Type, f.RequestRedirect = gwv1.HTTPRouteFilterRequestRedirect, filled[gwv1.HTTPRequestRedirectFilter](c)
	case 4:
		f.Type, f.URLRewrite = gwv1.HTTPRouteFilterURLRewrite, filled[gwv1.HTTPURLRewriteFilter](c)
	case 5:
		f.Type, f.CORS = gwv1.HTTPRouteFilterCORS, filled[gwv1.HTTPCORSFilter](c)
		f.CORS.MaxAge = int32(c.Intn(100_000))
	case 6:
		f.Type, f.ExternalAuth = gwv1.HTTPRouteFilterExternalAuth, filled[gwv1.HTTPExternalAuthFilter](c)
	}
}

func plausibleGRPCFilter(f *gwv1.GRPCRouteFilter, c randfill.Continue) {
	switch c.Intn(3) {
	case 0:
		f.Type, f.RequestHeaderModifier = gwv1.GRPCRouteFilterRequestHeaderModifier, filled[gwv1.HTTPHeaderFilter](c)
	case 1:
		f.Type, f.ResponseHeaderModifier = gwv1.GRPCRouteFilterResponseHeaderModifier, filled[gwv1.HTTPHeaderFilter](c)
	case 2:
		f.Type, f.RequestMirror = gwv1.GRPCRouteFilterRequestMirror, filled[gwv1.HTTPRequestMirrorFilter](c)
		if f.RequestMirror.Percent != nil {
			f.RequestMirror.Fraction = nil
		}
	}
}

func filled[T any](c randfill.Continue) *T {
	var t T
	c.Fill(&t)
	return &t
}
