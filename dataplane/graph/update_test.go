// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/dataplane/graph"
)

func TestOnlyRoutesOfOursAskForAnotherGraph(t *testing.T) {
	key := types.NamespacedName{Namespace: "shop", Name: "web"}
	route := func(version, parent string) *gwv1.HTTPRoute {
		return &gwv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "u", ResourceVersion: version, Generation: 1},
			Spec:       gwv1.HTTPRouteSpec{CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: gwv1.ObjectName(parent)}}}},
		}
	}
	ours := route("2", "other")
	ours.Status.Parents = []gwv1.RouteParentStatus{{ControllerName: "headgate.dev/test"}}
	for name, row := range map[string]struct {
		was, is *gwv1.HTTPRoute
		renewed bool
	}{
		"a route of another Gateway changed":      {route("1", "other"), route("2", "other"), true},
		"a route of another Gateway came":         {nil, route("2", "other"), true},
		"a route of another Gateway came to ours": {route("1", "other"), route("2", "edge"), false},
		"a route of ours went to another Gateway": {route("1", "edge"), route("2", "other"), false},
		"a route of ours came":                    {nil, route("2", "edge"), false},
		"a route of ours went":                    {route("1", "edge"), nil, false},
		"a route of another has a status of ours": {route("1", "other"), ours, false},
		"a route of ours has another version":     {route("1", "edge"), route("2", "edge"), true},
	} {
		t.Run(name, func(t *testing.T) {
			res := graph.NewResources("headgate.dev/test")
			res.GatewayClasses["c"] = &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gwv1.GatewayClassSpec{ControllerName: "headgate.dev/test"}}
			res.Gateways[types.NamespacedName{Namespace: "shop", Name: "edge"}] = &gwv1.Gateway{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "edge"},
				Spec:       gwv1.GatewaySpec{GatewayClassName: "c", Listeners: []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}}},
			}
			if row.was != nil {
				res.HTTPRoutes[key] = row.was
			}
			b := graph.Builder{}
			b.Build(res)
			delete(res.HTTPRoutes, key)
			if row.is != nil {
				res.HTTPRoutes[key] = row.is
			}
			changed, ok := b.Renew(res, []graph.RouteKey{{Kind: graph.KindHTTPRoute, NamespacedName: key}})
			if ok != row.renewed || len(changed) > 0 {
				t.Errorf("renewed %v with %d changed routes", ok, len(changed))
			}
		})
	}
}
