// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// swap takes some objects out of one set of the same kind and puts those of another in.
func swap[K comparable, V any](r *rand.Rand, into, from map[K]V) map[K]V {
	out := maps.Clone(into)
	if out == nil {
		out = map[K]V{}
	}
	for key := range into {
		if r.IntN(6) == 0 {
			delete(out, key)
		}
	}
	for key, object := range from {
		if r.IntN(3) == 0 {
			out[key] = object
		}
	}
	return out
}

// TestWhatIsRememberedEqualsWhatIsMadeAnew goes through random changes of every kind of
// object, and compares with a graph and a translation that remember nothing.
func TestWhatIsRememberedEqualsWhatIsMadeAnew(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		var worlds []graph.Resources
		for i := range int64(4) {
			worlds = append(worlds, goldens.Arbitrary(int64(seed)*4+i))
		}
		for _, c := range goldens.Cases(t) {
			worlds = append(worlds, c.Resources)
		}
		builder, translator := graph.Builder{}, xds.Translator{}
		res := worlds[r.IntN(len(worlds))]
		for step := range 12 {
			other := worlds[r.IntN(len(worlds))]
			switch r.IntN(9) {
			case 0:
				res.Gateways = swap(r, res.Gateways, other.Gateways)
			case 1:
				res.Services = swap(r, res.Services, other.Services)
			case 2:
				res.ReferenceGrants = swap(r, res.ReferenceGrants, other.ReferenceGrants)
			case 3:
				res.Secrets = swap(r, res.Secrets, other.Secrets)
			case 4:
				res.BackendTLSPolicies = swap(r, res.BackendTLSPolicies, other.BackendTLSPolicies)
			case 5:
				res.ListenerSets = swap(r, res.ListenerSets, other.ListenerSets)
			case 6:
				res.Namespaces = swap(r, res.Namespaces, other.Namespaces)
			case 7:
				res.GRPCRoutes = swap(r, res.GRPCRoutes, other.GRPCRoutes)
			default:
				res.HTTPRoutes = swap(r, res.HTTPRoutes, other.HTTPRoutes)
			}
			remembered, fresh := builder.Build(res), graph.Build(res)
			if len(remembered.Routes) != len(fresh.Routes) || len(remembered.Gateways) != len(fresh.Gateways) {
				t.Fatalf("seed %d, step %d: the graph differs", seed, step)
			}
			for _, gw := range fresh.Gateways {
				if changed := differing(t, translator.Translate(remembered, gw.Key), xds.Translate(fresh, gw.Key)); len(changed) > 0 {
					t.Fatalf("seed %d, step %d: of Gateway %s differ %v", seed, step, gw.Key, changed)
				}
			}
		}
	}
}

// manyRoutes is one Gateway, and routes with hosts of their own over 10 Services.
func manyRoutes(n int) graph.Resources {
	res := goldens.Empty()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), ResourceVersion: "1"}
	}
	class := &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: gwv1.GatewayController(res.ControllerName)}}
	res.GatewayClasses["c"] = class
	gateway := &gwv1.Gateway{ObjectMeta: meta("edge"), Spec: gwv1.GatewaySpec{GatewayClassName: "c", Listeners: []gwv1.Listener{{
		Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType,
	}}}}
	res.Gateways[types.NamespacedName{Namespace: "shop", Name: "edge"}] = gateway
	for i := range 10 {
		service := &corev1.Service{ObjectMeta: meta(fmt.Sprintf("s%d", i)), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		res.Services[types.NamespacedName{Namespace: "shop", Name: service.Name}] = service
	}
	for i := range n {
		route := &gwv1.HTTPRoute{ObjectMeta: meta(fmt.Sprintf("r%d", i)), Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "edge"}}},
			Hostnames:       []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", i))},
			Rules: []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{
				BackendObjectReference: gwv1.BackendObjectReference{Name: gwv1.ObjectName(fmt.Sprintf("s%d", i%10)), Port: new(gwv1.PortNumber(80))},
			}}}}},
		}}
		res.HTTPRoutes[types.NamespacedName{Namespace: "shop", Name: route.Name}] = route
	}
	return res
}

// TestAListenerThatComesChangesTheHostsOfTheOthers adds listeners to an HTTPS port: whose
// requests are misdirected depends on all of them.
func TestAListenerThatComesChangesTheHostsOfTheOthers(t *testing.T) {
	cert := graph.Certificate{Secret: types.NamespacedName{Namespace: "shop", Name: "c"}}
	route := graphtest.Route("r", []string{"a.example.com", "*.example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1)))
	all := func(hosts ...string) *graph.Graph {
		var listeners []*graph.Listener
		for _, host := range hosts {
			listeners = append(listeners, graphtest.HTTPS("l"+strings.Trim(host, "*."), 443, host, cert, route))
		}
		return graphtest.Graph(listeners...)
	}
	translator := xds.Translator{}
	for _, g := range []*graph.Graph{
		all("*.example.com"), all("*.example.com", "a.example.com"), all("*.example.com", "a.example.com", "*.com"), all("a.example.com", "*.com"), all("a.example.com"),
	} {
		if changed := differing(t, translator.Translate(g, graphtest.GatewayKey), xds.Translate(g, graphtest.GatewayKey)); len(changed) > 0 {
			t.Errorf("of %d listeners differ %v", len(g.Gateways[0].Listeners), changed)
		}
	}
}

// changeRoute gives route r0 another match, as a new version of the object.
func changeRoute(res graph.Resources, version int) {
	key := types.NamespacedName{Namespace: "shop", Name: "r0"}
	route := res.HTTPRoutes[key].DeepCopy()
	route.ResourceVersion = fmt.Sprintf("%d", version)
	route.Spec.Rules[0].Matches = []gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Value: new(fmt.Sprintf("/v%d", version))}}}
	res.HTTPRoutes[key] = route
}

// TestAChangeOfOneRouteIsTheWorkOfOneRoute counts the messages that are made anew.
func TestAChangeOfOneRouteIsTheWorkOfOneRoute(t *testing.T) {
	res := manyRoutes(300)
	gateway := types.NamespacedName{Namespace: "shop", Name: "edge"}
	builder, translator := graph.Builder{}, xds.Translator{}
	before := translator.Translate(builder.Build(res), gateway)
	changeRoute(res, 2)
	after := translator.Translate(builder.Build(res), gateway)
	var made []string
	for name, m := range after.Routes {
		if before.Routes[name] != m {
			made = append(made, name)
		}
	}
	if want := []string{"http-80/h0.example.com"}; !slices.Equal(made, want) {
		t.Errorf("made anew were %v, want %v", made, want)
	}
	for name, m := range after.Clusters {
		if before.Clusters[name] != m {
			t.Errorf("cluster %s was made anew", name)
		}
	}
}

// BenchmarkChangeOfOneRoute measures what a changed route costs among many, before a proxy
// is told: the graph, and its translation.
func BenchmarkChangeOfOneRoute(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			res := manyRoutes(n)
			gateway := types.NamespacedName{Namespace: "shop", Name: "edge"}
			builder, translator := graph.Builder{}, xds.Translator{}
			translator.Translate(builder.Build(res), gateway)
			version := 1
			for b.Loop() {
				version++
				changeRoute(res, version)
				translator.Translate(builder.Build(res), gateway)
			}
		})
	}
}
