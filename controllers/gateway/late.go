// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/dataplane/graph"
)

// goneGrace is how long what was there a moment ago counts as being there.
const goneGrace = 500 * time.Millisecond

// late knows what the cache says to be missing and what may only look so. The watches
// of different kinds are not in step: a route may be seen before the Service that was
// written first, and a Service's end before the route that left it first. Both would
// answer 500 for some milliseconds.
type late[T client.Object] struct {
	direct client.Reader
	now    func() time.Time
	empty  func() T

	// was is what there was in the last pass.
	was map[types.NamespacedName]T
	// gone is until when something that is missing counts as being there.
	gone map[types.NamespacedName]time.Time
	// absent is what the API server itself does not have. News come through the cache.
	absent map[types.NamespacedName]bool
}

func newLate[T client.Object](direct client.Reader, now func() time.Time, empty func() T) *late[T] {
	return &late[T]{
		direct: direct, now: now, empty: empty,
		was: map[types.NamespacedName]T{}, gone: map[types.NamespacedName]time.Time{}, absent: map[types.NamespacedName]bool{},
	}
}

// find gives an object that the cache does not have, if it is there all the same.
func (l *late[T]) find(ctx context.Context, key types.NamespacedName) (o T, ok bool, err error) {
	if was, ok := l.was[key]; ok {
		if _, ok := l.gone[key]; !ok {
			l.gone[key] = l.now().Add(goneGrace)
		}
		if l.now().Before(l.gone[key]) {
			return was, true, nil
		}
	}
	if l.absent[key] {
		return o, false, nil
	}
	live := l.empty()
	err = l.direct.Get(ctx, key, live)
	switch {
	case apierrors.IsNotFound(err):
		l.absent[key] = true
		return o, false, nil
	case err != nil:
		return o, false, fmt.Errorf("reading %T %s: %w", live, key, err)
	}
	return live, true, nil
}

// settle ends a pass: present is what there is, with what was found, and cached tells what
// of it the cache has. It gives the time until a look at what is gone is due, 0 for none.
func (l *late[T]) settle(present map[types.NamespacedName]T, cached func(types.NamespacedName) bool) time.Duration {
	l.was = present
	maps.DeleteFunc(l.absent, func(key types.NamespacedName, _ bool) bool { return cached(key) })
	var due time.Duration
	for key, until := range l.gone {
		wait := until.Sub(l.now())
		switch _, is := present[key]; {
		case !is || cached(key):
			delete(l.gone, key)
		case due == 0 || wait < due:
			due = max(wait, time.Millisecond)
		}
	}
	return due
}

// build makes the graph, with the Services that only seem to be missing. It gives the
// time after which it has to be made anew, 0 for never.
func (r *reconciler) build(ctx context.Context, res graph.Resources) (*graph.Graph, time.Duration, error) {
	g := r.builder.Build(res)
	missing := graph.MissingServices(g.Routes, res)
	found := map[types.NamespacedName]bool{}
	for _, key := range missing {
		service, ok, err := r.lateServices.find(ctx, key)
		if err != nil {
			return nil, 0, err
		}
		if ok {
			res.Services[key], found[key] = service, true // gather has made the map for this pass
		}
	}
	due := r.lateServices.settle(res.Services, func(key types.NamespacedName) bool { return res.Services[key] != nil && !found[key] })
	if len(found) > 0 {
		g = r.builder.Build(res)
	}
	return g, due, nil
}

func newService() *corev1.Service { return &corev1.Service{} }
