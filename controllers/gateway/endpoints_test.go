// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

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

// TestAServiceThatComesBackHasItsEndpointsAtOnce deletes a Service and makes it anew. The
// configuration may notice that before the endpoints' own path does, and must not
// take the endpoints of the time without a Service for the present ones.
func TestAServiceThatComesBackHasItsEndpointsAtOnce(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithIndex(newSlice(), indexService, func(o client.Object) []string {
		return []string{o.GetLabels()[serviceLabel]}
	}).Build()
	server := &recorder{last: map[graph.ClusterKey]*endpointv3.ClusterLoadAssignment{}}
	e := newEndpoints(c, server)
	web := types.NamespacedName{Namespace: "default", Name: "web"}
	key := graph.ClusterKey{Namespace: "default", Service: "shop", Port: 80}
	used := map[string]graph.ClusterKey{key.Name(): key}
	service := func() *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	published := func() int { return len(server.last[key].GetEndpoints()) }
	must(c.Create(t.Context(), service()))
	must(c.Create(t.Context(), slice("default", "shop", "10.1.2.3")))
	must(e.ensure(t.Context(), web, used))
	if published() != 1 {
		t.Fatalf("published %v at first", server.last[key])
	}
	must(c.Delete(t.Context(), service()))
	must(e.ensure(t.Context(), web, map[string]graph.ClusterKey{}))
	_, err := e.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "shop"}})
	must(err)
	if published() != 0 {
		t.Fatalf("published %v without a Service", server.last[key])
	}
	must(c.Create(t.Context(), service()))
	must(e.ensure(t.Context(), web, used))
	if published() != 1 {
		t.Errorf("published %v for the Service that came back", server.last[key])
	}
}
