// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

// crowd is a cluster in which many routes meet on few hosts of several listeners.
type crowd struct {
	*rand.Rand
	res     graph.Resources
	version int64
	touched []graph.RouteKey
}

func newCrowd(seed uint64) *crowd {
	w := &crowd{Rand: rand.New(rand.NewPCG(seed, 4)), res: goldens.Empty()}
	w.res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: w.meta("c"), Spec: gwv1.GatewayClassSpec{ControllerName: gwv1.GatewayController(w.res.ControllerName)}}
	for _, name := range []string{"edge", "inner"} {
		gw := &gwv1.Gateway{ObjectMeta: w.meta(name), Spec: gwv1.GatewaySpec{GatewayClassName: "c"}}
		for i, host := range []gwv1.Hostname{"", "*.example.com", "a.example.com", "*.b.example.com"} {
			if w.IntN(4) == 0 {
				continue
			}
			listener := gwv1.Listener{Name: gwv1.SectionName(fmt.Sprint("l", i)), Port: gwv1.PortNumber(80 + w.IntN(2)), Protocol: gwv1.HTTPProtocolType}
			if host != "" {
				listener.Hostname = &host
			}
			gw.Spec.Listeners = append(gw.Spec.Listeners, listener)
		}
		w.res.Gateways[types.NamespacedName{Namespace: "shop", Name: name}] = gw
	}
	for i := range 5 {
		service := &corev1.Service{ObjectMeta: w.meta(fmt.Sprint("s", i)), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		w.res.Services[types.NamespacedName{Namespace: "shop", Name: service.Name}] = service
	}
	for i := range 12 {
		w.put(w.route(fmt.Sprint("r", i)))
	}
	return w
}

func (w *crowd) meta(name string) metav1.ObjectMeta {
	w.version++
	return metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(fmt.Sprint("u", w.version)), ResourceVersion: fmt.Sprint(w.version), Generation: 1,
		CreationTimestamp: metav1.Unix(1e9+w.Int64N(3), 0),
	}
}

// route is a new route of random contents, at a random place.
func (w *crowd) route(name string) *gwv1.HTTPRoute {
	r := &gwv1.HTTPRoute{ObjectMeta: w.meta(name)}
	w.move(r)
	w.rewrite(r)
	return r
}

func (w *crowd) move(r *gwv1.HTTPRoute) {
	all := []gwv1.Hostname{"a.example.com", "b.example.com", "*.example.com", "*.b.example.com", "c.b.example.com", "other.org", "*.org", "*.com"}
	r.Spec.Hostnames = nil
	for range w.IntN(4) {
		r.Spec.Hostnames = append(r.Spec.Hostnames, all[w.IntN(len(all))])
	}
	r.Spec.ParentRefs = nil
	for range 1 + w.IntN(2) {
		ref := gwv1.ParentReference{Name: []gwv1.ObjectName{"edge", "edge", "inner", "another"}[w.IntN(4)]}
		if w.IntN(3) == 0 {
			ref.SectionName = new(gwv1.SectionName(fmt.Sprint("l", w.IntN(4))))
		}
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, ref)
	}
}

func (w *crowd) rewrite(r *gwv1.HTTPRoute) {
	r.Spec.Rules = nil
	for range w.IntN(3) {
		rule := gwv1.HTTPRouteRule{Matches: []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: new([]string{"/", "/one", "/two"}[w.IntN(3)])}}}}
		for range 1 + w.IntN(2) {
			rule.BackendRefs = append(rule.BackendRefs, gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{
				Weight: new(w.Int32N(10)),
				BackendObjectReference: gwv1.BackendObjectReference{
					Name: gwv1.ObjectName(fmt.Sprint("s", w.IntN(6))), Port: new(gwv1.PortNumber(80)), // s5 is missing
				},
			}})
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
}

func (w *crowd) put(r *gwv1.HTTPRoute) {
	w.version++
	r.ResourceVersion = fmt.Sprint(w.version)
	r.Generation++
	w.touch(r.Name)
	w.res.HTTPRoutes[types.NamespacedName{Namespace: "shop", Name: r.Name}] = r
}

func (w *crowd) touch(name string) {
	w.touched = append(w.touched, graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}})
}

func (w *crowd) change() {
	key := types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("r", w.IntN(15))}
	r := w.res.HTTPRoutes[key].DeepCopy()
	switch n := w.IntN(6); {
	case r == nil:
		r = w.route(key.Name)
	case n == 0:
		delete(w.res.HTTPRoutes, key)
		w.touch(key.Name)
		return
	case n == 1:
		r.Annotations = map[string]string{v1beta1.AnnotationRelease: "shop/web"}
	case n == 2:
		r.Annotations = nil
	case n == 3:
		w.rewrite(r)
	default:
		w.move(r)
	}
	w.put(r)
}

// TestRoutesMoveAmongHostsAsIfMadeAnew adds, removes and moves routes at random where they share hosts, fall
// through wildcards and belong to listeners that are isolated from each other, and compares with what
// a graph and a translation give that remember nothing.
func TestRoutesMoveAmongHostsAsIfMadeAnew(t *testing.T) {
	moves, scopes, gone := 0, 0, 0
	for seed := range uint64(60) {
		w := newCrowd(seed)
		builder, translator := graph.Builder{}, xds.Translator{}
		g := builder.Build(w.res)
		snaps := map[types.NamespacedName]xds.Snapshot{}
		for _, gw := range g.Gateways {
			snaps[gw.Key] = translator.Translate(g, gw.Key)
		}
		w.touched = nil
		for step := range 40 {
			for range 1 + w.IntN(3) {
				w.change()
			}
			changes, ok := builder.Renew(w.res, w.touched)
			if w.touched = nil; !ok {
				t.Fatalf("seed %d, step %d: the graph was not renewed", seed, step)
			}
			moves += moved(changes)
			fresh := graph.Build(w.res)
			for _, gw := range fresh.Gateways {
				d, ok := translator.Update(gw.Key, changes)
				if !ok {
					t.Fatalf("seed %d, step %d: there is no difference for Gateway %s", seed, step, gw.Key)
				}
				for _, scope := range d.Routes {
					if scopes++; scope == nil {
						gone++
					}
				}
				is, want := d.Apply(snaps[gw.Key]), xds.Translate(fresh, gw.Key)
				snaps[gw.Key] = is
				if names := differing(t, is, want); len(names) > 0 {
					t.Fatalf("seed %d, step %d: of Gateway %s differ %v", seed, step, gw.Key, names)
				}
				if !maps.Equal(is.ClusterKeys, want.ClusterKeys) {
					t.Fatalf("seed %d, step %d: of Gateway %s the upstreams differ", seed, step, gw.Key)
				}
			}
		}
	}
	t.Logf("%d routes moved; %d scopes were made anew, and %d of those went", moves, scopes-gone, gone)
	if moves < 1000 || gone < 100 {
		t.Error("that is too little to say anything")
	}
}
