// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func pod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "headgate-system", Name: name, Labels: labels}}
}

func TestTheLabelMovesToTheNewLeaderAlone(t *testing.T) {
	c := fake.NewClientBuilder().WithObjects(
		pod("a", map[string]string{Label: "true", "app": "headgate"}),
		pod("b", map[string]string{"app": "headgate"}),
		pod("bystander", map[string]string{"app": "other"}),
	).Build()
	m := &Marker{Client: c, Pod: types.NamespacedName{Namespace: "headgate-system", Name: "b"}}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	marked := func() []string {
		var pods corev1.PodList
		if err := c.List(ctx, &pods, client.MatchingLabels{Label: "true"}); err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, p := range pods.Items {
			names = append(names, p.Name)
		}
		return names
	}
	for !slices.Equal(marked(), []string{"b"}) {
		if ctx.Err() != nil {
			t.Fatalf("marked pods are %v, want only b", marked())
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("Start: %v", err)
	}

	ctx = context.Background()
	if err := m.Unmark(ctx); err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	if err := c.Get(ctx, client.ObjectKey{Namespace: "headgate-system", Name: "b"}, &p); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Labels[Label]; ok || p.Labels["app"] != "headgate" {
		t.Errorf("labels after Unmark: %v, want only app=headgate", p.Labels)
	}
}

func TestAPodThatIsGoneIsNothingToUnmark(t *testing.T) {
	m := &Marker{Client: fake.NewClientBuilder().Build(), Pod: types.NamespacedName{Namespace: "n", Name: "gone"}}
	if err := m.Unmark(context.Background()); err != nil {
		t.Fatalf("Unmark of a pod that is gone: %v", err)
	}
}
