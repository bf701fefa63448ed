// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

// cached is a cache of routes and Services, and an API server that takes every status.
type cached struct {
	client.Client
	resources graph.Resources

	mu       sync.Mutex
	statuses int
	version  int
	// wrote are the objects whose statuses were written.
	wrote []client.Object
	// written is called for each, if it is set.
	written func()
}

func (c *cached) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch o := into.(type) {
	case *gwv1.HTTPRoute:
		route := c.resources.HTTPRoutes[key]
		if route == nil {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "httproutes"}, key.Name)
		}
		*o = *route
	case *gwv1.Gateway:
		*o = *c.resources.Gateways[key]
	case *corev1.Service:
		*o = *c.resources.Services[key]
	}
	return nil
}

func (c *cached) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func (c *cached) Status() client.SubResourceWriter { return statusWriter{c: c} }

type statusWriter struct {
	client.SubResourceWriter
	c *cached
}

func (w statusWriter) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.statuses++
	w.c.version++
	o.SetResourceVersion(fmt.Sprint(w.c.version))
	w.c.wrote = append(w.c.wrote, o)
	if w.c.written != nil {
		w.c.written()
	}
	switch o := o.(type) {
	case *gwv1.HTTPRoute:
		w.c.resources.HTTPRoutes[client.ObjectKeyFromObject(o)] = o
	case *gwv1.Gateway:
		w.c.resources.Gateways[client.ObjectKeyFromObject(o)] = o
	case *gwv1.GatewayClass:
		w.c.resources.GatewayClasses[o.Name] = o
	}
	return nil
}

// timed is a server that remembers when it had taken the last difference.
type timed struct {
	*server.Server
	at time.Time
}

func (s *timed) Update(d xds.Delta) (uint64, bool) {
	version, ok := s.Server.Update(d)
	s.at = time.Now()
	return version, ok
}

// BenchmarkAPassOverOneRoute measures from the event of a route, with all that the reconciler does before:
// the reading from the cache, the graph, the translation; until the server has the difference packed and
// its proxies' streams are told (push-…), and until the pass has written the status (ns/op).
func BenchmarkAPassOverOneRoute(b *testing.B) {
	for _, change := range []struct {
		name string
		// make changes one of n routes for the ith time, and names it.
		make func(c *cached, n, i int) types.NamespacedName
	}{
		{"match", func(c *cached, n, i int) types.NamespacedName {
			changed := c.resources.HTTPRoutes[types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("r%d", i%n)}].DeepCopy()
			changed.Spec.Rules[0].Matches = []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: new(fmt.Sprintf("/v%d", i))}}}
			return c.put(changed)
		}},
		{"added", func(c *cached, n, i int) types.NamespacedName { return c.put(benchRoute(n + i)) }},
	} {
		for _, n := range []int{10, 500, 5000} {
			b.Run(fmt.Sprintf("%s/routes=%d", change.name, n), func(b *testing.B) {
				c := &cached{resources: benchResources(n), version: 1}
				s := &timed{Server: server.New(server.Options{})}
				r := benchReconciler(b, c, s)
				var times []time.Duration
				for i := 0; b.Loop(); i++ {
					route := change.make(c, n, i)
					statuses, event := c.statuses, time.Now()
					r.happened.route(graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: route})
					if _, err := r.Reconcile(b.Context(), worldKey); err != nil {
						b.Fatal(err)
					}
					if s.at.Before(event) || c.statuses == statuses {
						b.Fatalf("an event was pushed: %v, with %d statuses", s.at.After(event), c.statuses-statuses)
					}
					times = append(times, s.at.Sub(event))
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "push-p50-ms")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "push-p99-ms")
			})
		}
	}
}

// put writes a route, as the API server does, and names it.
func (c *cached) put(route *gwv1.HTTPRoute) types.NamespacedName {
	c.version++
	route.ResourceVersion = fmt.Sprint(c.version)
	route.Generation++
	c.resources.HTTPRoutes[client.ObjectKeyFromObject(route)] = route
	return client.ObjectKeyFromObject(route)
}

// benchReconciler has made its first pass.
func benchReconciler(b testing.TB, c *cached, s Server) *reconciler {
	r := &reconciler{
		client: c, endpoints: newEndpoints(c, s, nil, 0), controller: "headgate.dev/bench", happened: newNews(), written: newWritten(),
		options:   Options{Server: s, Metrics: measure.New(time.Now), Now: time.Now, Changes: NewChanges()},
		published: map[types.NamespacedName]*published{}, proxies: map[types.NamespacedName]proxies{}, told: map[string]bool{}, wrote: map[types.UID]time.Time{},
	}
	r.kinds = &kinds{client: c, served: graphKinds(r.written)}
	r.resources = c.resources
	r.graph = r.builder.Build(r.resources)
	if err := r.publish(b.Context(), r.graph, time.Time{}); err != nil || len(r.published) != 1 {
		b.Fatalf("nothing was published: %v", err)
	}
	if _, err := r.record(b.Context()); err != nil {
		b.Fatal(err)
	}
	r.happened.take()
	return r
}

func benchResources(routes int) graph.Resources {
	res := graph.NewResources("headgate.dev/bench")
	res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/bench"}}
	res.Gateways[types.NamespacedName{Namespace: "shop", Name: "edge"}] = &gwv1.Gateway{ObjectMeta: benchMeta("edge"), Spec: gwv1.GatewaySpec{
		GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}},
	}}
	for i := range 1000 {
		service := &corev1.Service{ObjectMeta: benchMeta(fmt.Sprintf("s%d", i)), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		res.Services[client.ObjectKeyFromObject(service)] = service
	}
	for i := range routes {
		route := benchRoute(i)
		res.HTTPRoutes[client.ObjectKeyFromObject(route)] = route
	}
	return res
}

func benchRoute(i int) *gwv1.HTTPRoute {
	return &gwv1.HTTPRoute{ObjectMeta: benchMeta(fmt.Sprintf("r%d", i)), Spec: gwv1.HTTPRouteSpec{
		CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "edge"}}},
		Hostnames:       []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", i))},
		Rules: []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{
			Name: gwv1.ObjectName(fmt.Sprintf("s%d", i%1000)), Port: new(gwv1.PortNumber(80)),
		}}}}}},
	}}
}

func benchMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), ResourceVersion: "1", Generation: 1}
}
