// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package loadbalancer

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// The loop on a model API server: addresses come, collide, go and are given again.
func TestRunKeepsAddresses(t *testing.T) {
	ctx := t.Context()
	client := fake.NewClientset()
	done := make(chan error, 1)
	go func() { done <- run(ctx, client, netip.MustParsePrefix("10.250.0.0/24")) }()

	create := func(name, asks string) {
		t.Helper()
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: asks}}
		if _, err := client.CoreV1().Services("ns").Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(name, want string) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			s, err := client.CoreV1().Services("ns").Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got = ""; len(s.Status.LoadBalancer.Ingress) > 0 {
				got = s.Status.LoadBalancer.Ingress[0].IP
			}
			if got == want {
				return
			}
		}
		t.Fatalf("Service %s shows %q, want %q", name, got, want)
	}

	create("a", "")
	shows("a", "10.250.0.1")
	create("fixed", "10.250.0.1")
	create("b", "")
	shows("b", "10.250.0.2")
	shows("fixed", "")
	if err := client.CoreV1().Services("ns").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	shows("fixed", "10.250.0.1")

	b, err := client.CoreV1().Services("ns").Get(ctx, "b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.Spec.Type = corev1.ServiceTypeClusterIP
	if _, err := client.CoreV1().Services("ns").Update(ctx, b, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	shows("b", "")
	select {
	case err := <-done:
		t.Errorf("the loop ended: %v", err)
	default:
	}
}

func TestAnotherClassIsNotOurs(t *testing.T) {
	class := "example.com/other"
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class}}
	if ours(s) {
		t.Error("a Service of another load balancer class is taken")
	}
}
