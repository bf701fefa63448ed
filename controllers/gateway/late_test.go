// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestWhatTheCacheLacksIsNotMissingAtOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	api := fake.NewClientBuilder().Build()
	l := newLate(api, func() time.Time { return now }, newService)
	key := types.NamespacedName{Namespace: "default", Name: "shop"}
	// pass looks for the Service in a cache that has it or not.
	pass := func(cached *corev1.Service) (found bool, due time.Duration) {
		t.Helper()
		present := map[types.NamespacedName]*corev1.Service{}
		if cached != nil {
			present[key] = cached
		} else if s, ok, err := l.find(t.Context(), key); err != nil {
			t.Fatal(err)
		} else if ok {
			present[key] = s
		}
		return present[key] != nil, l.settle(present, func(types.NamespacedName) bool { return cached != nil })
	}
	expect := func(what string, cached *corev1.Service, wantFound bool, wantDue time.Duration) {
		t.Helper()
		if found, due := pass(cached); found != wantFound || due != wantDue {
			t.Errorf("%s: found %v, due %s; want %v, %s", what, found, due, wantFound, wantDue)
		}
	}
	expect("there is none", nil, false, 0)
	if err := api.Create(t.Context(), service(nil)); err != nil {
		t.Fatal(err)
	}
	expect("what the API server did not have is not asked for again: the cache will say", nil, false, 0)
	expect("the cache has it", service(nil), true, 0)
	if err := api.Delete(t.Context(), service(nil)); err != nil {
		t.Fatal(err)
	}
	expect("it is gone a moment ago", nil, true, goneGrace)
	now = now.Add(goneGrace / 2)
	expect("half of the grace later", nil, true, goneGrace/2)
	now = now.Add(goneGrace / 2)
	expect("the grace is over", nil, false, 0)
	expect("and stays over", nil, false, 0)
	expect("it is back", service(nil), true, 0)
	expect("and gone again", nil, true, goneGrace)
	expect("and back within the grace", service(nil), true, 0)

	ahead := newLate(api, func() time.Time { return now }, newService)
	if err := api.Create(t.Context(), service(nil)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := ahead.find(t.Context(), key); err != nil || !ok {
		t.Errorf("a Service that the cache does not have yet: found %v, %v", ok, err)
	}
}
