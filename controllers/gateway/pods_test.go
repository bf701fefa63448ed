// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/dataplane/graph"
)

// TestPodsOfAnXBackend follows the pods that an XBackend selects on a real API server: they
// become ready, are others after a change of the labels, and go.
func TestPodsOfAnXBackend(t *testing.T) {
	installExperimental(t, "gateway.networking.x-k8s.io_xbackends.yaml")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	scheme := runtime.NewScheme()
	must(clientgoscheme.AddToScheme(scheme))
	must(gwxv1alpha1.Install(scheme))
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := newPods(c)
	go func() { _ = p.Start(ctx) }()
	server := &recorder{fakeServer: &fakeServer{endpoints: map[graph.ClusterKey]int{}}, last: map[graph.ClusterKey]*endpointv3.ClusterLoadAssignment{}}
	e := newEndpoints(c, server, p, 0)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "pods-"}}
	must(c.Create(ctx, ns))

	backend := &gwxv1alpha1.XBackend{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "shop"}}
	backend.Spec.Type, backend.Spec.Port.Number = gwxv1alpha1.BackendTypeEndpointSelector, 8080
	backend.Spec.EndpointSelector = &gwxv1alpha1.EndpointSelectorBackend{LabelSelector: gwxv1alpha1.LabelSelector{MatchLabels: map[gwv1.LabelKey]gwv1.LabelValue{"track": "stable"}}}
	must(c.Create(ctx, backend))
	pod := func(name, track, ip string, ready corev1.ConditionStatus) {
		t.Helper()
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: name, Labels: map[string]string{"track": track}}}
		o.Spec.Containers = []corev1.Container{{Name: "a", Image: "a"}}
		must(c.Create(ctx, o))
		o.Status.PodIP, o.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}}
		o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
		must(c.Status().Update(ctx, o))
	}
	pod("one", "stable", "10.0.0.1", corev1.ConditionTrue)
	pod("two", "stable", "10.0.0.2", corev1.ConditionFalse)
	pod("three", "canary", "10.0.0.3", corev1.ConditionTrue)

	gateway := types.NamespacedName{Namespace: ns.Name, Name: "web"}
	key := graph.ClusterKey{Kind: graph.UpstreamXBackend, Namespace: ns.Name, Service: "shop", Port: 8080}
	used := map[string]graph.ClusterKey{key.Name(): key}
	// settle handles what wakes the reconciler until the endpoints are as wanted.
	settle := func(want string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			var got []string
			for _, l := range server.last[key].GetEndpoints() {
				for _, at := range l.LbEndpoints {
					socket := at.GetEndpoint().Address.GetSocketAddress()
					got = append(got, fmt.Sprintf("%s:%d", socket.Address, socket.GetPortValue()))
				}
			}
			if server.last[key] != nil && strings.Join(got, " ") == want {
				return
			}
			select {
			case news := <-p.changed:
				_, err := e.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(news.Object)})
				must(err)
			case <-deadline:
				t.Fatalf("the endpoints are %q, want %q", got, want)
			}
		}
	}
	must(e.ensure(ctx, gateway, used))
	settle("10.0.0.1:8080")
	two := &corev1.Pod{}
	must(c.Get(ctx, types.NamespacedName{Namespace: ns.Name, Name: "two"}, two))
	two.Status.Conditions[0].Status = corev1.ConditionTrue
	must(c.Status().Update(ctx, two))
	settle("10.0.0.1:8080 10.0.0.2:8080")
	must(c.Delete(ctx, two, client.GracePeriodSeconds(0)))
	settle("10.0.0.1:8080")
	backend.Spec.EndpointSelector.MatchLabels["track"] = "canary"
	must(c.Update(ctx, backend))
	must(e.ensure(ctx, gateway, used))
	settle("10.0.0.3:8080")
	backend.Spec.EndpointSelector.MatchLabels["track"] = "nobody"
	must(c.Update(ctx, backend))
	must(e.ensure(ctx, gateway, used))
	settle("")
	e.forget(gateway)
	e.collect(time.Now())
	e.collect(time.Now().Add(endpointsLinger))
	if len(p.sets) != 0 {
		t.Errorf("%d watches remain of an XBackend that nothing uses", len(p.sets))
	}
}
