// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/xds"
)

// holding is a Server whose Publish does not come back until it may.
type holding struct {
	*recorder
	entered, may chan struct{}
}

func (h holding) Publish(xds.Snapshot) uint64 {
	close(h.entered)
	<-h.may
	return 1
}

// TestEndpointsAreReadAndPublishedDuringAPassOverTheWorld holds a pass where it publishes a
// configuration, and lets a pod come meanwhile.
func TestEndpointsAreReadAndPublishedDuringAPassOverTheWorld(t *testing.T) {
	c, e, server := newEndpointsWorld(t)
	held := holding{recorder: server, entered: make(chan struct{}), may: make(chan struct{})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Create(t.Context(), service(map[string]string{"app": "shop"})))
	pod := slice("default", "shop", "10.1.2.3")
	must(c.Create(t.Context(), pod))
	key, port := types.NamespacedName{Namespace: "default", Name: "r"}, gwv1.PortNumber(80)
	res := graph.NewResources("headgate.dev/test")
	res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/test"}}
	res.Gateways[webGateway] = &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: gwv1.GatewaySpec{
		GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}},
	}}
	res.Services[shopService] = service(nil)
	res.HTTPRoutes[key] = &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: gwv1.HTTPRouteSpec{
		CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "web"}}},
		Rules: []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{
			BackendObjectReference: gwv1.BackendObjectReference{Name: "shop", Port: &port},
		}}}}},
	}}
	g := graph.Build(res)
	r := &reconciler{endpoints: e, options: Options{Server: held, Metrics: measure.New(time.Now), Now: time.Now}, published: map[types.NamespacedName]*published{}}
	done := make(chan error, 1)
	go func() { done <- r.publish(t.Context(), g, time.Time{}) }()
	<-held.entered
	if got := server.address(shopKey); got != "10.1.2.3" {
		t.Errorf("before the configuration the endpoints are %q", got)
	}

	must(c.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	pod.Endpoints[0].Addresses = []string{"10.1.2.4"}
	must(c.Update(t.Context(), pod))
	published := make(chan error, 1)
	go func() {
		_, err := e.Reconcile(t.Context(), reconcile.Request{NamespacedName: shopService})
		published <- err
	}()
	select {
	case err := <-published:
		must(err)
	case <-time.After(10 * time.Second):
		t.Fatal("the endpoints wait for the pass")
	}
	if got := server.address(shopKey); got != "10.1.2.4" {
		t.Errorf("during the pass the endpoints are %q", got)
	}
	close(held.may)
	must(<-done)
}
