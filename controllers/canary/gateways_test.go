// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// shelf is an API server that has one ListenerSet, or refuses to show it.
type shelf struct {
	client.Reader
	refused error
}

func (s *shelf) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if s.refused != nil {
		return s.refused
	}
	return unstructured.SetNestedField(o.(*unstructured.Unstructured).Object, "edge", "spec", "parentRef", "name")
}

// TestAListenerSetThatCannotBeReadStopsNothing: a pass that fails for it could not take traffic back.
func TestAListenerSetThatCannotBeReadStopsNothing(t *testing.T) {
	route := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": "shop", "name": "web"},
		"spec": map[string]any{"parentRefs": []any{
			map[string]any{"kind": "ListenerSet", "name": "extra"}, map[string]any{"name": "main"},
		}},
	}}
	s := &shelf{refused: errors.New("forbidden")}
	r, w := &reconciler{live: s}, &world{routes: []*unstructured.Unstructured{route}}
	now := time.Now()
	for _, tt := range []struct {
		name    string
		refused error
		after   time.Duration
		want    []types.NamespacedName
	}{
		{"nothing is known of it yet", s.refused, 0, []types.NamespacedName{{Namespace: "shop", Name: "main"}}},
		{"it can be read", nil, time.Second, []types.NamespacedName{{Namespace: "shop", Name: "edge"}, {Namespace: "shop", Name: "main"}}},
		{"what was known stays", s.refused, time.Hour, []types.NamespacedName{{Namespace: "shop", Name: "edge"}, {Namespace: "shop", Name: "main"}}},
	} {
		s.refused = tt.refused
		if got := r.gateways(t.Context(), w, now.Add(tt.after)); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
