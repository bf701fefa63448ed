// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/status"
)

func TestSinceWhenTheProxiesHaveAnObject(t *testing.T) {
	key := status.ObjectKey{Kind: "Gateway", NamespacedName: types.NamespacedName{Namespace: "default", Name: "web"}}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	now := carried{version: 9, at: noon.Add(time.Second)}
	for _, c := range []struct {
		name     string
		before   map[status.ObjectKey]carried
		answered uint64
		want     carried
	}{
		{
			name: "a new object, since now",
			want: carried{uid: "a", generation: 2, version: 9, at: now.at},
		},
		{
			name:     "an object that did not change, since then",
			before:   map[status.ObjectKey]carried{key: {uid: "a", generation: 2, version: 7, at: noon}},
			answered: 8,
			want:     carried{uid: "a", generation: 2, version: 7, at: noon},
		},
		{
			name:     "an object that changed, since now",
			before:   map[status.ObjectKey]carried{key: {uid: "a", generation: 1, version: 7, at: noon}},
			answered: 7,
			want:     carried{uid: "a", generation: 2, version: 9, at: now.at},
		},
		{
			name:     "an object that changes faster than the proxies answer waits since its first change",
			before:   map[status.ObjectKey]carried{key: {uid: "a", generation: 1, version: 7, at: noon}},
			answered: 6,
			want:     carried{uid: "a", generation: 2, version: 9, at: noon},
		},
		{
			name:     "another object of the same name and generation, since now",
			before:   map[status.ObjectKey]carried{key: {uid: "b", generation: 2, version: 7, at: noon}},
			answered: 8,
			want:     carried{uid: "a", generation: 2, version: 9, at: now.at},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			gw := &graph.Gateway{Key: key.NamespacedName, Source: &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{UID: "a", Generation: 2}}}
			if got := since(gw, c.before, now, c.answered)[key]; got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
