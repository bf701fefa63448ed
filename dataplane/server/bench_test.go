// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/xds"
)

var benchGateway = types.NamespacedName{Namespace: "shop", Name: "edge"}

// pipeline is what the operator does for an event, from the objects in its cache to the
// message for a proxy, and a proxy that acknowledges everything.
type pipeline struct {
	b          *testing.B
	resources  graph.Resources
	builder    graph.Builder
	translator xds.Translator
	server     *Server
	proxy      *stream
	version    int
	touched    []graph.RouteKey
	// pushed is when the first message after a change was ready, bytes are those of all.
	pushed time.Time
	bytes  int
}

func benchMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), ResourceVersion: "1", Generation: 1}
}

func newPipeline(b *testing.B, routes int) *pipeline {
	p := &pipeline{b: b, resources: graph.NewResources("headgate.dev/bench"), server: New(Options{}), version: 1}
	p.resources.GatewayClasses["c"] = &gwv1.GatewayClass{
		ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/bench"},
	}
	p.resources.Gateways[benchGateway] = &gwv1.Gateway{ObjectMeta: benchMeta("edge"), Spec: gwv1.GatewaySpec{
		GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}},
	}}
	for i := range 1000 {
		service := &corev1.Service{ObjectMeta: benchMeta(fmt.Sprintf("s%d", i)), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		p.resources.Services[types.NamespacedName{Namespace: "shop", Name: service.Name}] = service
	}
	for i := range routes {
		p.route(i, func(*gwv1.HTTPRoute) {})
	}
	p.proxy = p.server.attach(benchGateway, "bench")
	p.answer(request{kind: kindRuntime, subscribe: xds.RuntimeLayers()})
	for _, k := range []kind{kindCluster, kindListener, kindRoute} {
		p.answer(request{kind: k})
	}
	p.push()
	return p
}

// route writes a route as the API server would: as a new object with a new version.
func (p *pipeline) route(i int, change func(*gwv1.HTTPRoute)) {
	key := types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("r%d", i)}
	route := p.resources.HTTPRoutes[key].DeepCopy()
	if route == nil {
		ref := func(service int, weight int32) gwv1.HTTPBackendRef {
			return gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{Weight: new(weight), BackendObjectReference: gwv1.BackendObjectReference{
				Name: gwv1.ObjectName(fmt.Sprintf("s%d", service%1000)), Port: new(gwv1.PortNumber(80)),
			}}}
		}
		route = &gwv1.HTTPRoute{ObjectMeta: benchMeta(key.Name), Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "edge"}}},
			Hostnames:       []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", i))},
			Rules:           []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{ref(i, 90), ref(i+1, 10)}}},
		}}
	}
	change(route)
	p.version++
	route.Generation++
	route.ResourceVersion = fmt.Sprint(p.version)
	p.resources.HTTPRoutes[key] = route
	p.touched = append(p.touched, graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key})
}

func (p *pipeline) remove(i int) {
	key := types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("r%d", i)}
	delete(p.resources.HTTPRoutes, key)
	p.touched = append(p.touched, graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key})
}

// push brings the resources to the proxy, and the proxy's answers back.
func (p *pipeline) push() {
	if changed, ok := p.builder.Renew(p.resources, p.touched); ok {
		if delta, ok := p.translator.Update(benchGateway, changed); ok {
			if _, ok := p.server.Update(delta); ok {
				p.touched = nil
				p.deliver()
				return
			}
		}
	}
	p.server.Publish(p.translator.Translate(p.builder.Build(p.resources), benchGateway))
	p.touched = nil
	p.deliver()
}

func (p *pipeline) deliver() {
	p.pushed = time.Time{}
	for {
		p.proxy.mu.Lock()
		r, _ := p.proxy.session.next(time.Now())
		p.proxy.mu.Unlock()
		if r == nil {
			return
		}
		body, err := proto.Marshal(r.message())
		if err != nil {
			p.b.Fatal(err)
		}
		if p.bytes += len(body); p.pushed.IsZero() {
			p.pushed = time.Now()
		}
		if r.kind == kindCluster {
			var names []string
			for _, c := range r.resources {
				names = append(names, c.name)
			}
			if len(names) > 0 {
				p.server.endpointsKnown(names)
				p.answer(request{kind: kindEndpoints, subscribe: names})
			}
		}
		p.answer(request{kind: r.kind, nonce: nonceString(r.nonce)})
	}
}

// endpointsKnown publishes some endpoints of each cluster.
func (s *Server) endpointsKnown(clusters []string) {
	for _, name := range clusters {
		s.endpoints.set(newResource(kindEndpoints, name, &endpointv3.ClusterLoadAssignment{ClusterName: name}, 0))
	}
}

func (p *pipeline) answer(r request) { p.proxy.do(func(s *session) { s.receive(r) }) }

// BenchmarkFromEventToPush measures from when the cache has a new object until the message for
// a proxy is packed, among routes at rest. The proxy's acknowledgement is part of the
// operation's time and not of the percentiles. The gathering from the cache and the
// statuses are not in it.
func BenchmarkFromEventToPush(b *testing.B) {
	changes := []struct {
		name   string
		change func(p *pipeline, routes, i int)
	}{
		{"match", func(p *pipeline, routes, i int) {
			p.route(i%routes, func(r *gwv1.HTTPRoute) {
				r.Spec.Rules[0].Matches = []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: new(fmt.Sprintf("/v%d", p.version))}}}
			})
		}},
		{"weight", func(p *pipeline, _, i int) {
			p.route(0, func(r *gwv1.HTTPRoute) {
				r.Annotations = map[string]string{v1beta1.AnnotationRelease: "shop/web"}
				r.Spec.Rules[0].BackendRefs[1].Weight = new(int32(i%100 + 1))
			})
		}},
		{"backend", func(p *pipeline, routes, i int) {
			p.route(i%routes, func(r *gwv1.HTTPRoute) {
				r.Spec.Rules[0].BackendRefs[0].Name = gwv1.ObjectName(fmt.Sprintf("s%d", p.version%1000))
			})
		}},
		{"hostname", func(p *pipeline, routes, i int) {
			p.route(i%routes, func(r *gwv1.HTTPRoute) {
				r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("v%d.example.com", p.version))}
			})
		}},
		{"parent", func(p *pipeline, routes, i int) { // to a Gateway of others and back
			p.route(i/2%routes, func(r *gwv1.HTTPRoute) { r.Spec.ParentRefs[0].Name = []gwv1.ObjectName{"another", "edge"}[i%2] })
		}},
		{"added", func(p *pipeline, routes, i int) { p.route(routes+i, func(*gwv1.HTTPRoute) {}) }},
		{"removed and added again", func(p *pipeline, routes, i int) {
			if i%2 == 0 {
				p.remove(i / 2 % routes)
				return
			}
			p.route(i/2%routes, func(*gwv1.HTTPRoute) {})
		}},
	}
	for _, c := range changes {
		for _, n := range []int{10, 500, 5000} {
			b.Run(fmt.Sprintf("%s/routes=%d", c.name, n), func(b *testing.B) {
				p := newPipeline(b, n)
				p.bytes = 0
				var times []time.Duration
				for b.Loop() {
					c.change(p, n, len(times))
					start := time.Now()
					p.push()
					if p.pushed.IsZero() {
						b.Fatal("the change was not pushed")
					}
					times = append(times, p.pushed.Sub(start))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "push-p50-ms")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "push-p99-ms")
				b.ReportMetric(float64(p.bytes)/float64(len(times)), "bytes/change")
				b.ReportMetric(resident(b), "RSS-MB")
			})
		}
	}
}

// resident is this process's resident memory in megabytes.
func resident(b *testing.B) float64 {
	account, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("resident memory is read from /proc:", err)
	}
	_, rest, _ := strings.Cut(string(account), "VmRSS:")
	kilobytes := 0.0
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}
