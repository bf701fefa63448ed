// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// The Gateways of the world below: the proxies of one are told differences, those of the
// other the whole of every configuration.
var (
	updatedKey   = types.NamespacedName{Namespace: "shop", Name: "updated"}
	publishedKey = types.NamespacedName{Namespace: "shop", Name: "published"}
)

// updateHosts are the hostnames that routes may have; the last one is nobody's.
var updateHosts = []string{"a.example.org", "b.example.org", "*.example.org", "c.example.net", "unknown.example"}

// changingWorld is a cluster of two Gateways with the same routes.
type changingWorld struct {
	*rand.Rand
	res      graph.Resources
	services []string
	version  int64
	touched  []graph.RouteKey
}

func newChangingWorld(updated, published uint32) *changingWorld {
	w := &changingWorld{
		Rand: rand.New(rand.NewPCG(1, 1)), res: graph.NewResources("headgate.dev/test"),
		services: []string{"red", "green", "blue", "white"},
	}
	w.res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: w.meta("c"), Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/test"}}
	for key, port := range map[types.NamespacedName]uint32{updatedKey: updated, publishedKey: published} {
		w.res.Gateways[key] = &gwv1.Gateway{ObjectMeta: w.meta(key.Name), Spec: gwv1.GatewaySpec{
			GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: gwv1.PortNumber(port), Protocol: gwv1.HTTPProtocolType}},
		}}
	}
	for _, name := range append(w.services, "steady") {
		key := types.NamespacedName{Namespace: "shop", Name: name}
		w.res.Services[key] = &corev1.Service{ObjectMeta: w.meta(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	steady := w.route("steady")
	steady.Spec.Hostnames, steady.Spec.Rules = []gwv1.Hostname{"example.com"}, []gwv1.HTTPRouteRule{rule("/", backendRef("steady", 1))}
	w.put(steady)
	for i := range 6 {
		w.put(w.route(fmt.Sprint("route-", i)))
	}
	return w
}

func (w *changingWorld) meta(name string) metav1.ObjectMeta {
	w.version++
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(fmt.Sprint("u", w.version)), ResourceVersion: fmt.Sprint(w.version), Generation: 1}
}

// route is a new route of random contents.
func (w *changingWorld) route(name string) *gwv1.HTTPRoute {
	r := &gwv1.HTTPRoute{ObjectMeta: w.meta(name), Spec: gwv1.HTTPRouteSpec{
		CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{
			{Name: gwv1.ObjectName(updatedKey.Name)}, {Name: gwv1.ObjectName(publishedKey.Name)},
		}},
	}}
	w.rename(r)
	w.rewrite(r)
	return r
}

func (w *changingWorld) put(r *gwv1.HTTPRoute) {
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	w.version++
	r.ResourceVersion = fmt.Sprint(w.version)
	r.Generation++
	w.res.HTTPRoutes[key] = r
	w.touched = append(w.touched, graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key})
}

// rename gives a route other hostnames.
func (w *changingWorld) rename(r *gwv1.HTTPRoute) {
	r.Spec.Hostnames = nil
	for _, i := range w.Perm(len(updateHosts) - 1)[:1+w.IntN(2)] {
		r.Spec.Hostnames = append(r.Spec.Hostnames, gwv1.Hostname(updateHosts[i]))
	}
}

// rewrite gives a route other rules. Weights are 0 or 1, so that a request has one right answer.
func (w *changingWorld) rewrite(r *gwv1.HTTPRoute) {
	r.Spec.Rules = nil
	for range 1 + w.IntN(2) {
		canary := int32(w.IntN(2))
		p := w.Perm(len(w.services))
		r.Spec.Rules = append(r.Spec.Rules, rule([]string{"/", "/one", "/one/two"}[w.IntN(3)],
			backendRef(w.services[p[0]], 1-canary), backendRef(w.services[p[1]], canary)))
	}
	if w.IntN(4) == 0 {
		r.Spec.Rules[0].Filters = []gwv1.HTTPRouteFilter{{
			Type: gwv1.HTTPRouteFilterURLRewrite, URLRewrite: &gwv1.HTTPURLRewriteFilter{Hostname: new(gwv1.PreciseHostname("inside.example"))},
		}}
	}
}

func rule(prefix string, backends ...gwv1.HTTPBackendRef) gwv1.HTTPRouteRule {
	return gwv1.HTTPRouteRule{
		Matches:     []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: &prefix}}},
		BackendRefs: backends,
	}
}

func backendRef(service string, weight int32) gwv1.HTTPBackendRef {
	return gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{Weight: &weight, BackendObjectReference: gwv1.BackendObjectReference{
		Name: gwv1.ObjectName(service), Port: new(gwv1.PortNumber(80)),
	}}}
}

// change does one thing to a route.
func (w *changingWorld) change() {
	key := types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("route-", w.IntN(8))}
	r := w.res.HTTPRoutes[key].DeepCopy()
	if r == nil {
		w.put(w.route(key.Name))
		return
	}
	switch w.IntN(7) {
	case 0:
		delete(w.res.HTTPRoutes, key)
		w.touched = append(w.touched, graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: key})
		return
	case 1:
		w.rename(r)
	case 2: // a release begins
		r.Annotations = map[string]string{v1beta1.AnnotationRelease: "shop/web"}
	case 3:
		r.Annotations = nil
	case 4: // a weight changes
		refs := r.Spec.Rules[0].BackendRefs
		refs[0].Weight, refs[1].Weight = refs[1].Weight, refs[0].Weight
	default:
		w.rewrite(r)
	}
	w.put(r)
}

// bring tells one Gateway's proxies what changed, where that is possible, and the other's everything.
func (w *changingWorld) bring(r *World, builder *graph.Builder, translator *xds.Translator) (updated bool) {
	changed, renewed := builder.Renew(w.res, w.touched)
	w.touched = nil
	var version uint64
	if renewed {
		if d, ok := translator.Update(updatedKey, changed); ok {
			version, updated = r.Server.Update(d)
		}
	}
	if !updated {
		g := builder.Build(w.res)
		version = r.Server.Publish(translator.Translate(g, updatedKey))
	}
	other := r.Server.Publish(xds.Translate(graph.Build(w.res), publishedKey))
	r.AwaitAck(updatedKey, version)
	r.AwaitAck(publishedKey, other)
	return updated
}

// TestDifferencesAreServedAsTheWhole makes random changes of routes. One Envoy is told what differs, and
// another one everything anew; both have to answer every request alike, and none that was under way is lost.
func TestDifferencesAreServedAsTheWhole(t *testing.T) {
	r := NewWorld(t)
	updated, published := FreePort(t), FreePort(t)
	w := newChangingWorld(updated, published)
	for _, service := range append(w.services, "steady") {
		key := graphtest.Key(service)
		r.Server.PublishEndpoints(key, Endpoints(key, NewBackend(t, service)))
	}
	for _, gateway := range []types.NamespacedName{updatedKey, publishedKey} {
		r.StartProxy(gateway)
	}
	builder, translator := graph.Builder{}, xds.Translator{}
	w.bring(r, &builder, &translator)
	l := startLoad(t, updated)
	const steps = 150
	updates := 0
	statuses := map[int]int{}
	for step := range steps {
		for range 1 + w.IntN(2) {
			w.change()
		}
		if w.bring(r, &builder, &translator) {
			updates++
		}
		for _, host := range updateHosts {
			for _, path := range []string{"/", "/one", "/one/two/three"} {
				is, err := send(call{port: updated, host: host, path: path})
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				want, err := send(call{port: published, host: host, path: path})
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				statuses[want.status]++
				if is.status != want.status || is.seen.Backend != want.seen.Backend || is.seen.Host != want.seen.Host {
					t.Fatalf("step %d: %s%s is answered %d by %q as %q, want %d by %q as %q", step, host, path,
						is.status, is.seen.Backend, is.seen.Host, want.status, want.seen.Backend, want.seen.Host)
				}
			}
		}
	}
	l.stop()
	t.Logf("%d of %d changes were told as differences; answers by status: %v", updates, steps, statuses)
	if updates < steps*3/4 || statuses[200] < steps || statuses[404] == 0 {
		t.Error("that is too little to say anything")
	}
}
