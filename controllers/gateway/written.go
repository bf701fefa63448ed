// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// written remembers the objects whose status we wrote, until the cache has
// them too: the next pass starts from what we wrote, not from what the
// cache still has, and our own writes are no news.
type written struct {
	mu      sync.Mutex
	objects map[types.UID]client.Object
}

func newWritten() *written { return &written{objects: map[types.UID]client.Object{}} }

func (w *written) add(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects[o.GetUID()] = o
}

// latest gives o, or what we wrote when that is newer.
func (w *written) latest(o client.Object) client.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := w.objects[o.GetUID()]
	if ours == nil {
		return o
	}
	order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), ours.GetResourceVersion())
	if o == ours || err == nil && order < 0 {
		return ours
	}
	delete(w.objects, o.GetUID()) // the cache has caught up
	return o
}

// predicate lets updates pass that are not our own.
func (w *written) predicate() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return true },
		GenericFunc: func(event.GenericEvent) bool { return true },
		UpdateFunc: func(e event.UpdateEvent) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			ours := w.objects[e.ObjectNew.GetUID()]
			return ours == nil || ours.GetResourceVersion() != e.ObjectNew.GetResourceVersion()
		},
		DeleteFunc: func(e event.DeleteEvent) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.objects, e.Object.GetUID())
			return true
		},
	}
}
