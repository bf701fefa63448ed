// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"headgate.dev/headgate/dataplane/graph"
)

// recorder keeps the endpoints that were published last.
type recorder struct {
	*fakeServer
	last map[graph.ClusterKey]*endpointv3.ClusterLoadAssignment
}

func (r *recorder) PublishEndpoints(key graph.ClusterKey, cla *endpointv3.ClusterLoadAssignment) {
	r.last[key] = cla
}

// address is the only endpoint that was published last, or empty.
func (r *recorder) address(key graph.ClusterKey) string {
	if endpoints := r.last[key].GetEndpoints(); len(endpoints) == 1 && len(endpoints[0].LbEndpoints) == 1 {
		return endpoints[0].LbEndpoints[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
	}
	return ""
}

func newEndpointsWorld(t *testing.T) (client.Client, *endpoints, *recorder) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithIndex(newSlice(), indexService, func(o client.Object) []string {
		return []string{o.GetLabels()[serviceLabel]}
	}).Build()
	server := &recorder{last: map[graph.ClusterKey]*endpointv3.ClusterLoadAssignment{}}
	return c, newEndpoints(c, server, newPods(c), 0), server
}

var (
	webGateway  = types.NamespacedName{Namespace: "default", Name: "web"}
	shopService = types.NamespacedName{Namespace: "default", Name: "shop"}
	shopKey     = graph.ClusterKey{Namespace: "default", Service: "shop", Port: 80}
)

func service(selector map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// TestAServiceThatComesBackHasItsEndpointsAtOnce deletes a Service and makes it anew. The
// configuration may notice that before the endpoints' own path does, and must not
// take the endpoints of the time before for the present ones. Until the proxies have
// left the Service, they need those: nothing that they still ask it may fail.
func TestAServiceThatComesBackHasItsEndpointsAtOnce(t *testing.T) {
	c, e, server := newEndpointsWorld(t)
	used := map[string]graph.ClusterKey{shopKey.Name(): shopKey}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Create(t.Context(), service(nil)))
	must(c.Create(t.Context(), slice("default", "shop", "10.1.2.3")))
	must(e.ensure(t.Context(), webGateway, used))
	if got := server.address(shopKey); got != "10.1.2.3" {
		t.Fatalf("published %q at first", got)
	}
	must(c.Delete(t.Context(), service(nil)))
	must(c.Delete(t.Context(), slice("default", "shop", "10.1.2.3")))
	must(e.ensure(t.Context(), webGateway, map[string]graph.ClusterKey{}))
	_, err := e.Reconcile(t.Context(), reconcile.Request{NamespacedName: shopService})
	must(err)
	if got := server.address(shopKey); got != "10.1.2.3" {
		t.Fatalf("published %q while proxies may still send requests there", got)
	}
	must(c.Create(t.Context(), service(nil)))
	must(c.Create(t.Context(), slice("default", "shop", "10.1.2.4")))
	must(e.ensure(t.Context(), webGateway, used))
	if got := server.address(shopKey); got != "10.1.2.4" {
		t.Errorf("published %q for the Service that came back", got)
	}
}

// A Service and the route that moves to it may be written in one breath. Kubernetes
// finds its pods some milliseconds later, and a proxy that is told that there are none
// meanwhile answers 503.
func TestAServiceWithoutSlicesIsNotKnownToHaveNoEndpoints(t *testing.T) {
	tests := []struct {
		name     string
		selector map[string]string
		want     bool
	}{
		{"Kubernetes will make slices for what it selects", map[string]string{"app": "shop"}, false},
		{"nobody will make slices for a Service that selects nothing", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, e, server := newEndpointsWorld(t)
			if err := c.Create(t.Context(), service(tt.selector)); err != nil {
				t.Fatal(err)
			}
			if err := e.ensure(t.Context(), webGateway, map[string]graph.ClusterKey{shopKey.Name(): shopKey}); err != nil {
				t.Fatal(err)
			}
			if got := server.last[shopKey] != nil; got != tt.want {
				t.Errorf("published as having none: %v, want %v", got, tt.want)
			}
			if err := c.Create(t.Context(), slice("default", "shop", "10.1.2.3")); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Reconcile(t.Context(), reconcile.Request{NamespacedName: shopService}); err != nil {
				t.Fatal(err)
			}
			if got := server.address(shopKey); got != "10.1.2.3" {
				t.Errorf("published %q once the slice was there", got)
			}
		})
	}
}

// A request that waits for its retry goes to an upstream that no configuration has any more.
func TestEndpointsOutliveTheConfigurationThatUsedThem(t *testing.T) {
	c, e, server := newEndpointsWorld(t)
	server.fakeServer = &fakeServer{endpoints: map[graph.ClusterKey]int{}}
	used, nothing := map[string]graph.ClusterKey{shopKey.Name(): shopKey}, map[string]graph.ClusterKey{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	start := time.Unix(1000, 0)
	at := func(d time.Duration, wantAgain time.Duration, wantKnown bool) {
		t.Helper()
		if again := e.collect(start.Add(d)); again != wantAgain {
			t.Errorf("after %s it asks to be called again in %s, want %s", d, again, wantAgain)
		}
		if known := len(e.known) > 0; known != wantKnown {
			t.Errorf("after %s the endpoints are known: %v, want %v", d, known, wantKnown)
		}
	}
	must(c.Create(t.Context(), service(nil)))
	must(c.Create(t.Context(), slice("default", "shop", "10.1.2.3")))
	must(e.ensure(t.Context(), webGateway, used))
	at(0, 0, true)
	must(e.ensure(t.Context(), webGateway, nothing))
	at(0, endpointsLinger, true)

	must(c.Delete(t.Context(), slice("default", "shop", "10.1.2.3")))
	must(c.Create(t.Context(), slice("default", "shop", "10.1.2.4")))
	_, err := e.Reconcile(t.Context(), reconcile.Request{NamespacedName: shopService})
	must(err)
	if got := server.address(shopKey); got != "10.1.2.4" {
		t.Errorf("published %q for an upstream that lingers, want the pods of now", got)
	}
	at(endpointsLinger/2, 0, true)

	// In use again for a moment: it is kept for as long as after the last use.
	must(e.ensure(t.Context(), webGateway, used))
	must(e.ensure(t.Context(), webGateway, nothing))
	at(endpointsLinger, endpointsLinger, true)
	at(endpointsLinger*3/2, 0, true)
	at(endpointsLinger*2, 0, false)
	at(endpointsLinger*4, 0, false)
}
