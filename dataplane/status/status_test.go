// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
)

var (
	now   = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	later = metav1.NewTime(now.Add(time.Hour))
)

// confirmed is a state in which the proxies acknowledged everything.
func confirmed(g *graph.Graph) Programmed {
	p := Programmed{}
	for _, gw := range g.Gateways {
		s := State{Addresses: []string{"192.0.2.1"}, Ready: 2, Acked: 7, Since: map[ObjectKey]uint64{
			{Kind: "Gateway", NamespacedName: gw.Key}: 7,
		}}
		for _, set := range g.ListenerSets {
			s.Since[ObjectKey{Kind: "ListenerSet", NamespacedName: set.Key}] = 7
		}
		for _, r := range g.Routes {
			s.Since[ObjectKey{Kind: string(r.Kind), NamespacedName: r.Key}] = 7
		}
		p[gw.Key] = s
	}
	return p
}

func TestStatusesOfTheCases(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			g := graph.Build(c.Resources)
			var out bytes.Buffer
			for _, u := range Updates(g, confirmed(g), v1beta1.ControllerName, now) {
				data, err := yaml.Marshal(view(u.New))
				if err != nil {
					t.Fatal(err)
				}
				out.WriteString("---\n")
				out.Write(data)
			}
			c.Compare(t, "status.yaml", out.Bytes())
		})
	}
}

// view is what a reader of the goldens wants to see: a line for each condition.
func view(o client.Object) map[string]any {
	v := map[string]any{"object": fmt.Sprintf("%T %s", o, client.ObjectKeyFromObject(o))}
	routeView := func(parents []gwv1.RouteParentStatus) {
		for i, p := range parents {
			v[fmt.Sprintf("parents[%d]", i)] = map[string]any{"parentRef": p.ParentRef, "conditions": lines(p.Conditions)}
		}
	}
	switch o := o.(type) {
	case *gwv1.GatewayClass: // the features have a test of their own
		v["conditions"] = lines(o.Status.Conditions)
	case *gwv1.Gateway:
		v["conditions"], v["addresses"] = lines(o.Status.Conditions), o.Status.Addresses
		for i, l := range o.Status.Listeners {
			var kinds []string
			for _, k := range l.SupportedKinds {
				kinds = append(kinds, string(k.Kind))
			}
			v[fmt.Sprintf("listeners[%d]", i)] = map[string]any{
				"name": l.Name, "attachedRoutes": l.AttachedRoutes, "supportedKinds": strings.Join(kinds, ", "), "conditions": lines(l.Conditions),
			}
		}
		if n := o.Status.AttachedListenerSets; n != nil {
			v["attachedListenerSets"] = *n
		}
	case *gwv1.ListenerSet:
		v["conditions"] = lines(o.Status.Conditions)
		for i, l := range o.Status.Listeners {
			v[fmt.Sprintf("listeners[%d]", i)] = map[string]any{"name": l.Name, "attachedRoutes": l.AttachedRoutes, "conditions": lines(l.Conditions)}
		}
	case *gwxv1alpha1.XBackend:
		for i, a := range o.Status.Ancestors {
			v[fmt.Sprintf("ancestors[%d]", i)] = map[string]any{"ancestorRef": a.AncestorRef.Name, "conditions": lines(a.Conditions)}
		}
	case *gwxv1alpha1.XBackendTrafficPolicy:
		for i, a := range o.Status.Ancestors {
			v[fmt.Sprintf("ancestors[%d]", i)] = map[string]any{"ancestorRef": a.AncestorRef.Name, "conditions": lines(a.Conditions)}
		}
	case *gwv1.HTTPRoute:
		routeView(o.Status.Parents)
	case *gwv1.GRPCRoute:
		routeView(o.Status.Parents)
	case *gwv1.TLSRoute:
		routeView(o.Status.Parents)
	case *gwv1.TCPRoute:
		routeView(o.Status.Parents)
	case *gwv1.UDPRoute:
		routeView(o.Status.Parents)
	case *gwv1.BackendTLSPolicy:
		for i, a := range o.Status.Ancestors {
			v[fmt.Sprintf("ancestors[%d]", i)] = map[string]any{"ancestorRef": a.AncestorRef, "controllerName": a.ControllerName, "conditions": lines(a.Conditions)}
		}
	}
	return v
}

func lines(conditions []metav1.Condition) []string {
	var out []string
	for _, c := range conditions {
		line := fmt.Sprintf("%s=%s %s (generation %d)", c.Type, c.Status, c.Reason, c.ObservedGeneration)
		if c.Message != "" {
			line += ": " + c.Message
		}
		out = append(out, line)
	}
	return out
}

const simple = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: headgate}
spec: {controllerName: headgate.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, generation: 4}
spec:
  gatewayClassName: headgate
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, generation: 2}
spec:
  parentRefs: [{name: web}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
`

func resources(t *testing.T) graph.Resources {
	t.Helper()
	r, _, err := goldens.Parse([]byte(simple))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take puts what was updated back into the resources, as the API server would.
func take(t *testing.T, r *graph.Resources, updates []Update) {
	t.Helper()
	for _, u := range updates {
		if err := goldens.Add(r, u.New); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	webKey   = types.NamespacedName{Namespace: "default", Name: "web"}
	routeKey = types.NamespacedName{Namespace: "default", Name: "shop"}
)

func TestNothingIsWrittenTwice(t *testing.T) {
	r := resources(t)
	g := graph.Build(r)
	first := Updates(g, confirmed(g), v1beta1.ControllerName, now)
	if len(first) != 3 {
		t.Fatalf("the first pass gave %d updates, want class, Gateway and route", len(first))
	}
	take(t, &r, first)
	g = graph.Build(r)
	if again := Updates(g, confirmed(g), v1beta1.ControllerName, later); len(again) != 0 {
		t.Errorf("the second pass gave %d updates, want none: %v", len(again), again)
	}
}

func TestOthersEntriesStay(t *testing.T) {
	r := resources(t)
	foreign := metav1.Condition{Type: "example.com/Seen", Status: metav1.ConditionTrue, Reason: "Seen", ObservedGeneration: 1, LastTransitionTime: later}
	gw := r.Gateways[webKey]
	gw.Status.Conditions = []metav1.Condition{foreign}
	gw.Status.Listeners = []gwv1.ListenerStatus{{Name: "http", Conditions: []metav1.Condition{foreign}}, {Name: "gone"}}
	route := r.HTTPRoutes[routeKey]
	other := gwv1.RouteParentStatus{ParentRef: gwv1.ParentReference{Name: "web"}, ControllerName: "example.com/other", Conditions: []metav1.Condition{foreign}}
	stale := gwv1.RouteParentStatus{ParentRef: gwv1.ParentReference{Name: "gone"}, ControllerName: v1beta1.ControllerName}
	ours := gwv1.RouteParentStatus{ParentRef: gwv1.ParentReference{Name: "web"}, ControllerName: v1beta1.ControllerName, Conditions: []metav1.Condition{foreign}}
	route.Status.Parents = []gwv1.RouteParentStatus{stale, other, ours}

	g := graph.Build(r)
	take(t, &r, Updates(g, confirmed(g), v1beta1.ControllerName, now))
	gw, route = r.Gateways[webKey], r.HTTPRoutes[routeKey]
	if diff := cmp.Diff(foreign, gw.Status.Conditions[0]); diff != "" {
		t.Errorf("the Gateway's foreign condition changed:\n%s", diff)
	}
	if len(gw.Status.Listeners) != 1 || gw.Status.Listeners[0].Conditions[0] != foreign {
		t.Errorf("listeners = %v, want only http with its foreign condition first", gw.Status.Listeners)
	}
	if len(route.Status.Parents) != 2 {
		t.Fatalf("the route has %d parents, want the foreign one and ours", len(route.Status.Parents))
	}
	if diff := cmp.Diff(other, route.Status.Parents[0]); diff != "" {
		t.Errorf("the foreign parent changed:\n%s", diff)
	}
	if got := route.Status.Parents[1].Conditions[0]; got != foreign {
		t.Errorf("our parent's first condition = %v, want the foreign one kept", got)
	}
}

func TestAStatusOfARouteThatLeftIsRemoved(t *testing.T) {
	r := resources(t)
	route := r.HTTPRoutes[routeKey]
	route.Spec.ParentRefs[0].Name = "elsewhere"
	route.Status.Parents = []gwv1.RouteParentStatus{{ParentRef: gwv1.ParentReference{Name: "web"}, ControllerName: v1beta1.ControllerName}}
	take(t, &r, Updates(graph.Build(r), Programmed{}, v1beta1.ControllerName, now))
	if got := r.HTTPRoutes[routeKey].Status.Parents; len(got) != 0 {
		t.Errorf("parents = %v, want none", got)
	}
}

func TestANewerConditionIsNotOverwritten(t *testing.T) {
	r := resources(t)
	newer := metav1.Condition{Type: "Accepted", Status: metav1.ConditionFalse, Reason: "Newer", ObservedGeneration: 5, LastTransitionTime: later}
	r.Gateways[webKey].Status.Conditions = []metav1.Condition{newer}
	take(t, &r, Updates(graph.Build(r), Programmed{}, v1beta1.ControllerName, now))
	if got := r.Gateways[webKey].Status.Conditions[0]; got != newer {
		t.Errorf("condition = %v, want the newer one: our copy is stale", got)
	}
}

func TestProgrammed(t *testing.T) {
	full := func() State {
		return State{Addresses: []string{"192.0.2.1"}, Ready: 1, Acked: 5, Since: map[ObjectKey]uint64{
			{Kind: "Gateway", NamespacedName: webKey}: 3, {Kind: "HTTPRoute", NamespacedName: routeKey}: 5,
		}}
	}
	yes := []metav1.Condition{{Type: v1beta1.RouteConditionProgrammed, Status: metav1.ConditionTrue, Reason: "Programmed", ObservedGeneration: 2, LastTransitionTime: now}}
	tests := []struct {
		name           string
		state          func(*State)
		routeHas       []metav1.Condition
		gateway, route string // reasons
	}{
		{"when everything is acknowledged", func(*State) {}, nil, "Programmed", "Programmed"},
		{"not before the route's own change is acknowledged", func(s *State) { s.Acked = 4 }, nil, "Programmed", "Pending"},
		{"not while no proxy is connected", func(s *State) { s.Acked = 0 }, nil, "Pending", "Pending"},
		{"a restart of Headgate does not take it back", func(s *State) { s.Acked = 0 }, yes, "Pending", "Programmed"},
		{"not without an address", func(s *State) { s.Addresses = nil }, nil, "AddressNotAssigned", "Programmed"},
		{"not without a ready proxy", func(s *State) { s.Ready = 0 }, nil, "Pending", "Programmed"},
		{"not when the proxies refuse the route", func(s *State) {
			s.Refusal, s.Acked, s.Answered = "bad", 4, 5
			s.Harmed = map[ObjectKey]string{{Kind: "HTTPRoute", NamespacedName: routeKey}: "bad"}
		}, nil, "Invalid", "Pending"},
		{"not when the proxies refuse one of its rules, also if they did not before", func(s *State) {
			s.Refused = map[ObjectKey][]graph.Problem{{Kind: "HTTPRoute", NamespacedName: routeKey}: {graph.RuleRefused(0, "bad")}}
		}, yes, "Programmed", v1beta1.ReasonRuleRefused},
		{"also while the proxies refuse what is another's", func(s *State) { s.Refusal, s.Acked, s.Answered = "bad", 2, 5 }, nil, "Invalid", "Programmed"},
		{"not when the infrastructure failed", func(s *State) { s.Problem = "quota" }, nil, "NoResources", "Programmed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := resources(t)
			if tt.routeHas != nil {
				r.HTTPRoutes[routeKey].Status.Parents = []gwv1.RouteParentStatus{{
					ParentRef: gwv1.ParentReference{Name: "web"}, ControllerName: v1beta1.ControllerName, Conditions: tt.routeHas,
				}}
			}
			s := full()
			tt.state(&s)
			take(t, &r, Updates(graph.Build(r), Programmed{webKey: s}, v1beta1.ControllerName, now))
			if got := reason(r.Gateways[webKey].Status.Conditions, "Programmed"); got != tt.gateway {
				t.Errorf("the Gateway's reason is %q, want %q", got, tt.gateway)
			}
			if got := reason(r.HTTPRoutes[routeKey].Status.Parents[0].Conditions, v1beta1.RouteConditionProgrammed); got != tt.route {
				t.Errorf("the route's reason is %q, want %q", got, tt.route)
			}
		})
	}
}

func reason(conditions []metav1.Condition, conditionType string) string {
	for _, c := range conditions {
		if c.Type == conditionType {
			return c.Reason
		}
	}
	return ""
}

func TestRequestedAddresses(t *testing.T) {
	tests := []struct {
		name     string
		ask      []string
		assigned []string
		want     string
		status   []string
	}{
		{"any address will do", []string{""}, []string{"192.0.2.1", "lb.example.com"}, "Programmed", []string{"192.0.2.1", "lb.example.com"}},
		{"the one that was asked for", []string{"192.0.2.1"}, []string{"192.0.2.1"}, "Programmed", []string{"192.0.2.1"}},
		{"another than asked for", []string{"192.0.2.9"}, []string{"192.0.2.1"}, "AddressNotUsable", nil},
		{"one of two", []string{"192.0.2.9", "192.0.2.1"}, []string{"192.0.2.1"}, "AddressNotUsable", []string{"192.0.2.1"}},
		{"none yet", []string{"192.0.2.9"}, nil, "AddressNotUsable", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := resources(t)
			for _, a := range tt.ask {
				r.Gateways[webKey].Spec.Addresses = append(r.Gateways[webKey].Spec.Addresses, gwv1.GatewaySpecAddress{Value: a})
			}
			g := graph.Build(r)
			p := confirmed(g)
			s := p[webKey]
			s.Addresses = tt.assigned
			p[webKey] = s
			take(t, &r, Updates(g, p, v1beta1.ControllerName, now))
			if got := reason(r.Gateways[webKey].Status.Conditions, "Programmed"); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
			var got []string
			for _, a := range r.Gateways[webKey].Status.Addresses {
				got = append(got, a.Value)
			}
			if diff := cmp.Diff(tt.status, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSupportedFeaturesAreSortedAndFit(t *testing.T) {
	list := SupportedFeatures(true)
	if len(list) > 64 {
		t.Errorf("%d features, the API takes 64", len(list))
	}
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			t.Errorf("%s stands before %s: sorted and once each, please", list[i-1], list[i])
		}
	}
	standard := SupportedFeatures(false)
	for _, f := range features.AllFeatures.UnsortedList() {
		if !slices.Contains(list, f.Name) {
			continue
		}
		if want := f.Channel == features.FeatureChannelStandard; slices.Contains(standard, f.Name) != want {
			t.Errorf("%s is of channel %s: published with standard CRDs %v, want %v", f.Name, f.Channel, !want, want)
		}
	}
}

func TestTheVersionOfTheDefinitions(t *testing.T) {
	definition := func(version, channel string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			consts.BundleVersionAnnotation: version, consts.ChannelAnnotation: channel,
		}}}
	}
	for _, tt := range []struct {
		name         string
		definitions  map[string]*metav1.PartialObjectMetadata
		want         string
		experimental bool
	}{
		{"not known: nothing is said", nil, "", false},
		{"ours", map[string]*metav1.PartialObjectMetadata{"gateways.gateway.networking.k8s.io": definition(consts.BundleVersion, "standard")}, "SupportedVersion=True", false},
		{"the experimental channel", map[string]*metav1.PartialObjectMetadata{"gateways.gateway.networking.k8s.io": definition(consts.BundleVersion, "experimental")}, "SupportedVersion=True", true},
		{"a patch release of ours", map[string]*metav1.PartialObjectMetadata{"gateways.gateway.networking.k8s.io": definition("v1.7.9", "standard")}, "SupportedVersion=True", false},
		{"another one is named, and served", map[string]*metav1.PartialObjectMetadata{"gateways.gateway.networking.k8s.io": definition("v1.6.0", "standard")}, "SupportedVersion=False UnsupportedVersion (generation 0): Headgate supports the CRDs of Gateway API v1.7.0 and does what it can with others: the cluster has gateways.gateway.networking.k8s.io (v1.6.0)", false},
		{"one without a version", map[string]*metav1.PartialObjectMetadata{"tcproutes.gateway.networking.k8s.io": {}}, "SupportedVersion=False", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := resources(t)
			r.Definitions = tt.definitions
			class := graph.Build(r).Classes[0]
			status := classStatus(class, now)
			if got := strings.Join(lines(status.Conditions), "\n"); !strings.Contains(got, tt.want) || !strings.HasPrefix(got, "Accepted=True") || tt.want == "" && strings.Contains(got, "SupportedVersion") {
				t.Errorf("conditions\n%s\nwant %q", got, tt.want)
			}
			if n := len(SupportedFeatures(tt.experimental)); len(status.SupportedFeatures) != n {
				t.Errorf("%d features are published, want %d", len(status.SupportedFeatures), n)
			}
		})
	}
}

func TestArbitraryObjectsGetTheSameStatusTwice(t *testing.T) {
	for seed := range int64(200) {
		r := goldens.Arbitrary(seed)
		g := graph.Build(r)
		take(t, &r, Updates(g, confirmed(g), v1beta1.ControllerName, now))
		g = graph.Build(r)
		if again := Updates(g, confirmed(g), v1beta1.ControllerName, later); len(again) != 0 {
			t.Fatalf("seed %d: %d statuses are written again though nothing changed; the first:\n%s", seed, len(again), cmp.Diff(again[0].Old, again[0].New))
		}
	}
}

func TestTheOrderOfObjectsDoesNotMatter(t *testing.T) {
	for _, c := range goldens.Cases(t) {
		g := graph.Build(c.Resources)
		want := Updates(g, confirmed(g), v1beta1.ControllerName, now)
		g = graph.Build(goldens.Shuffled(c.Resources))
		if diff := cmp.Diff(want, Updates(g, confirmed(g), v1beta1.ControllerName, now)); diff != "" {
			t.Errorf("%s: the statuses depend on the order:\n%s", c.Name, diff)
		}
	}
}
