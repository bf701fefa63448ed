// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/status"
)

// writes counts, by name, how often the objects of a kind are changed.
type writes struct {
	mu       sync.Mutex
	counts   map[string]int
	versions map[string]string // that were seen last
}

// countWrites counts from now on, in the test's namespace. The API server's watch leaves
// no change out.
func (e *env) countWrites(list client.ObjectList) *writes {
	e.Helper()
	c, err := client.NewWithWatch(config, client.Options{Scheme: e.Scheme()})
	e.must(err)
	e.must(c.List(e.Context(), list, client.InNamespace(e.ns)))
	ctx, stop := context.WithCancel(e.Context())
	w, from := &writes{counts: map[string]int{}, versions: map[string]string{}}, list.GetResourceVersion()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // the API server ends a watch that it finds too slow
			watch, err := c.Watch(ctx, list, client.InNamespace(e.ns), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: from}})
			if err != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			for event := range watch.ResultChan() {
				if version, ok := w.note(event); ok {
					from = version
				}
			}
		}
	}()
	e.Cleanup(func() {
		stop()
		<-done
	})
	return w
}

// note takes an event, and gives the version after which the watch goes on.
func (w *writes) note(event apiwatch.Event) (version string, ok bool) {
	o, ok := event.Object.(client.Object)
	if !ok {
		return "", false // the watch broke
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[o.GetName()] = o.GetResourceVersion()
	if event.Type == apiwatch.Modified {
		w.counts[o.GetName()]++
	}
	return o.GetResourceVersion(), true
}

// of tells how often an object was changed until now.
func (w *writes) of(e *env, o client.Object) int {
	e.Helper()
	e.eventually("every change is seen", func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		if seen := w.versions[o.GetName()]; seen != o.GetResourceVersion() {
			return fmt.Sprintf("%s is at %s, seen at %q", o.GetName(), o.GetResourceVersion(), seen)
		}
		return ""
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[o.GetName()]
}

// TestAThousandRoutesAtOnceCostOneWriteEach lets the proxies take longer for an answer
// than statuses wait for all of them.
func TestAThousandRoutesAtOnceCostOneWriteEach(t *testing.T) {
	const routes, creators = 1000, 8
	e := start(t)
	t.Cleanup(func() { // else the reconcilers of other tests write that the routes have no Gateway
		_ = e.DeleteAllOf(context.Background(), &gwv1.HTTPRoute{}, client.InNamespace(e.ns))
	})
	e.server.acknowledgeAfter(ackPatience + 50*time.Millisecond)
	e.service("shop")
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	routeWrites, gatewayWrites := e.countWrites(&gwv1.HTTPRouteList{}), e.countWrites(&gwv1.GatewayList{})

	begin := time.Now()
	var creating sync.WaitGroup
	for c := range creators {
		creating.Go(func() {
			for i := c; i < routes; i += creators {
				e.numbered(i)
			}
		})
	}
	creating.Wait()
	created := time.Since(begin)
	e.eventuallyWithin(time.Minute, "every route is programmed", e.unprogrammed)
	e.attached("web", routes)
	t.Logf("%d routes were created in %s and programmed after %s", routes, created, time.Since(begin))
	var list gwv1.HTTPRouteList
	e.must(e.List(e.Context(), &list, client.InNamespace(e.ns)))
	for i := range list.Items {
		if n := routeWrites.of(e, &list.Items[i]); n != 1 {
			t.Errorf("%s was written %d times, want once", list.Items[i].Name, n)
		}
	}
	gw := &gwv1.Gateway{}
	e.must(e.get("web", gw))
	if n := gatewayWrites.of(e, gw); n > 10 {
		t.Errorf("the Gateway was written %d times, want at most 10", n)
	} else {
		t.Logf("the Gateway was written %d times", n)
	}
}

// TestRoutesInARowAreCountedTogether lets each route have a pass of its own.
func TestRoutesInARowAreCountedTogether(t *testing.T) {
	const routes = 50
	e := start(t)
	e.service("shop")
	e.gateway("web", nil)
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	gatewayWrites := e.countWrites(&gwv1.GatewayList{})
	begin := time.Now()
	for i := range routes {
		e.numbered(i)
		e.routeHas(numberedName(i), v1beta1.RouteConditionProgrammed+"=True Programmed")
	}
	e.attached("web", routes)
	limit := 2 + int(time.Since(begin)/status.Settling)
	gw := &gwv1.Gateway{}
	e.must(e.get("web", gw))
	if n := gatewayWrites.of(e, gw); n > limit {
		t.Errorf("the Gateway was written %d times within %s, want at most %d", n, time.Since(begin), limit)
	} else {
		t.Logf("the Gateway was written %d times within %s", n, time.Since(begin))
	}
}

func numberedName(i int) string { return fmt.Sprintf("r%d", i) }

// numbered creates a route with a host of its own.
func (e *env) numbered(i int) {
	e.Helper()
	e.route(numberedName(i), func(r *gwv1.HTTPRoute) {
		r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(numberedName(i) + ".example.com")}
	})
}

// unprogrammed tells of a route that is not programmed.
func (e *env) unprogrammed() string {
	var list gwv1.HTTPRouteList
	e.must(e.List(e.Context(), &list, client.InNamespace(e.ns)))
	for _, r := range list.Items {
		if len(r.Status.Parents) == 0 || !meta.IsStatusConditionTrue(r.Status.Parents[0].Conditions, v1beta1.RouteConditionProgrammed) {
			return fmt.Sprintf("%s has %+v", r.Name, r.Status.Parents)
		}
	}
	return ""
}
