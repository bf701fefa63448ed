// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

func TestWhatIsNotTheNewsOfARouteAloneNeedsALookAtEverything(t *testing.T) {
	route := graph.RouteKey{Kind: graph.KindHTTPRoute, NamespacedName: types.NamespacedName{Namespace: "shop", Name: "web"}}
	for name, row := range map[string]struct {
		happens func(*news)
		keys    int
		only    bool
	}{
		"nothing happened, so the pass has another reason": {func(*news) {}, 0, false},
		"a route changed":                                            {func(n *news) { n.route(route); n.route(route) }, 1, true},
		"something else changed":                                     {func(n *news) { n.anything() }, 0, false},
		"a route and something else changed":                         {func(n *news) { n.route(route); n.anything() }, 1, false},
		"the event of a route":                                       {func(n *news) { see(n, kind{route: graph.KindHTTPRoute}) }, 1, true},
		"the event of a Gateway, and one of a route":                 {func(n *news) { see(n, kind{parent: graph.KindGateway}); n.route(route) }, 2, true},
		"the event of a Gateway":                                     {func(n *news) { see(n, kind{parent: graph.KindGateway}) }, 1, true},
		"an object of a Gateway's infrastructure":                    {func(n *news) { n.infrastructure(owned("Gateway")) }, 1, true},
		"one of it and a route":                                      {func(n *news) { n.infrastructure(owned("Gateway")); n.route(route) }, 2, true},
		"an object that should be a Gateway's, and is not":           {func(n *news) { n.infrastructure(owned("Deployment")) }, 0, false},
		"the event of a kind of which single objects cannot be read": {func(n *news) { see(n, kind{}) }, 0, false},
	} {
		n := newNews()
		if _, only := n.take(); only {
			t.Errorf("%s: the first pass looks at routes alone", name)
		}
		row.happens(n)
		if all, only := n.take(); len(all.routes)+len(all.parents)+len(all.proxies) != row.keys || only != row.only {
			t.Errorf("%s: %v, %v", name, all, only)
		}
		if all, only := n.take(); len(all.routes)+len(all.parents)+len(all.proxies) != 0 || only {
			t.Errorf("%s: told twice", name)
		}
	}
}

func TestWhatNothingReadsIsNoNews(t *testing.T) {
	of := map[string]kind{}
	for _, k := range graphKinds(newWritten()) {
		of[fmt.Sprintf("%T", k.object)] = k
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	annotated, ported := service.DeepCopy(), service.DeepCopy()
	annotated.Annotations = map[string]string{"seen": "yes"}
	ported.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	policy := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 1}}
	told := policy.DeepCopy()
	told.Status.Ancestors = []gwv1.PolicyAncestorStatus{{}}
	for name, row := range map[string]struct {
		was, is client.Object
		other   bool
	}{
		"an annotation of a Service":                             {service, annotated, false},
		"a port of a Service":                                    {service, ported, true},
		"a status of an object of which we write the status too": {policy, told, true},
	} {
		n := newNews()
		n.take()
		for _, p := range of[fmt.Sprintf("%T", row.was)].predicates(n) {
			if !p.Update(event.UpdateEvent{ObjectOld: row.was, ObjectNew: row.is}) {
				break
			}
		}
		if n.other != row.other {
			t.Errorf("%s asks for a look at everything: %v", name, n.other)
		}
	}
}

// owned is an object whose controller is of a kind of the Gateway API.
func owned(by string) client.Object {
	o := &gwv1.HTTPRoute{}
	o.Namespace, o.Name = "shop", "web"
	o.OwnerReferences = []metav1.OwnerReference{{APIVersion: gwv1.GroupVersion.String(), Kind: by, Name: "web", Controller: new(true)}}
	return o
}

func see(n *news, of kind) {
	o := &gwv1.HTTPRoute{}
	o.Namespace, o.Name = "shop", "web"
	n.watching(of).Generic(event.GenericEvent{Object: o})
}

func TestAChangeOfARouteIsBroughtAlone(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.service("other")
	e.route("shop", nil)
	e.route("steady", func(r *gwv1.HTTPRoute) { r.Spec.Hostnames = []gwv1.Hostname{"steady.example.com"} })
	programmed := v1beta1.RouteConditionProgrammed + "=True Programmed"
	e.routeHas("shop", programmed)
	e.routeHas("steady", programmed)
	e.gatewayHas("web", "Programmed=True Programmed")
	key := types.NamespacedName{Namespace: e.ns, Name: "web"}
	change := func(change func(*gwv1.HTTPRoute)) {
		e.Helper()
		r := &gwv1.HTTPRoute{}
		e.must(e.get("shop", r))
		before := r.DeepCopy()
		change(r)
		e.must(e.Patch(e.Context(), r, client.MergeFrom(before)))
		e.routeHas("shop", programmed)
	}
	before := e.updates()
	for i := range 4 {
		change(func(r *gwv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].Weight = ptr.To(int32(i + 10)) })
	}
	change(func(r *gwv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].Name = "other" })
	if n := e.updates() - before; n == 0 {
		t.Error("every change of the route was a look at everything")
	}
	snap := e.server.snapshot(key)
	if name := fmt.Sprintf("%s/other/80", e.ns); snap.Clusters[name] == nil || snap.ClusterKeys[name].Service != "other" {
		t.Errorf("the new backend has no cluster among %d", len(snap.Clusters))
	}
	if name := fmt.Sprintf("%s/shop/80", e.ns); snap.Clusters[name] == nil {
		t.Error("the backend that another route sends to has no cluster any more")
	}

	// A Service that is not there answers 500, and the route says so; then it comes.
	change(func(r *gwv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].Name = "late" })
	e.routeHas("shop", "ResolvedRefs=False BackendNotFound")
	change(func(r *gwv1.HTTPRoute) { r.Spec.Rules[0].BackendRefs[0].Weight = ptr.To(int32(3)) })
	e.service("late")
	e.routeHas("shop", "ResolvedRefs=True ResolvedRefs")

	// What somebody else makes of the status is repaired.
	r := &gwv1.HTTPRoute{}
	e.must(e.get("steady", r))
	r.Status.Parents = []gwv1.RouteParentStatus{}
	e.must(e.Status().Update(e.Context(), r))
	e.routeHas("steady", programmed)
}

func TestRoutesThatComeGoAndMoveAreBroughtAlone(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.route("first", nil)
	e.routeHas("first", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.attached("web", 1)
	key := types.NamespacedName{Namespace: e.ns, Name: "web"}
	alone := func(what string, change func(i int)) {
		e.Helper()
		before := e.updates()
		for i := range 4 {
			change(i)
		}
		if e.updates() == before {
			t.Errorf("%s: every one was a look at everything", what)
		}
	}
	name := func(i int) string { return fmt.Sprint("more-", i) }
	alone("routes that come", func(i int) {
		e.route(name(i), func(r *gwv1.HTTPRoute) { r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(name(i) + ".example.com")} })
		e.routeHas(name(i), v1beta1.RouteConditionProgrammed+"=True Programmed")
	})
	e.attached("web", 5)
	if e.server.snapshot(key).Routes["http-80/more-3.example.com"] == nil {
		t.Error("a route that came is not served")
	}
	alone("routes that get other hostnames", func(i int) {
		r := &gwv1.HTTPRoute{}
		e.must(e.get(name(i), r))
		before := r.DeepCopy()
		r.Spec.Hostnames[0] = gwv1.Hostname(name(i) + ".example.org")
		e.must(e.Patch(e.Context(), r, client.MergeFrom(before)))
		e.routeHas(name(i), v1beta1.RouteConditionProgrammed+"=True Programmed")
	})
	if scopes := e.server.snapshot(key).Routes; scopes["http-80/more-3.example.com"] != nil || scopes["http-80/more-3.example.org"] == nil {
		t.Error("a route is not served under its new hostname, or under the former one too")
	}
	alone("routes that go", func(i int) {
		e.must(e.Delete(e.Context(), &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name(i)}}))
		e.attached("web", int32(4-i))
	})
	if e.server.snapshot(key).Routes["http-80/more-3.example.org"] != nil {
		t.Error("a route that went is served")
	}
}

// TestProxiesThatComeAndGoNeedNoOtherGraph changes what a Deployment says of its pods: the Gateway tells of it, and
// nothing is published.
func TestProxiesThatComeAndGoNeedNoOtherGraph(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	e.service("shop")
	e.route("shop", nil)
	e.routeHas("shop", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.attached("web", 1)
	key := types.NamespacedName{Namespace: e.ns, Name: "web"}
	ready := func(n int32) {
		e.Helper()
		e.eventually("the Deployment has another number of pods", func() string {
			d := &appsv1.Deployment{}
			if err := e.get("web-"+e.ns, d); err != nil {
				return err.Error()
			}
			before := d.DeepCopy()
			d.Status.Replicas, d.Status.ReadyReplicas = 1, n
			if err := e.Status().Patch(e.Context(), d, client.MergeFrom(before)); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	// A pass over everything may still be due from before (a Service seen late, a status that was written against an older
	// version): so one round of several that publishes nothing is asked for. Where the events themselves ask for a graph,
	// each round publishes.
	unpublished := func(what string, change func()) {
		e.Helper()
		for range 5 {
			version := e.server.State(key).Published
			change()
			if e.server.State(key).Published == version {
				return
			}
		}
		e.Errorf("%s published a configuration each of five times", what)
	}
	unpublished("a Deployment whose pods came and went", func() {
		ready(0)
		e.gatewayHas("web", "Programmed=False Pending")
		ready(1)
		e.gatewayHas("web", "Programmed=True Programmed")
	})
	unpublished("a ServiceAccount that was deleted by somebody else", func() {
		e.must(e.Delete(e.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "web-" + e.ns}}))
		e.eventually("the ServiceAccount is there again", func() string {
			if err := e.get("web-"+e.ns, &corev1.ServiceAccount{}); err != nil {
				return err.Error()
			}
			return ""
		})
	})
}

func (e *env) updates() int {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	return e.server.updates
}
