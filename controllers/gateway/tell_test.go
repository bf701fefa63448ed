// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

func TestARefusedRuleIsShownOnItsRouteAlone(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.service("shop")
	e.route("bad", nil)
	e.route("good", nil)
	e.serve("web")
	e.routeHas("bad", v1beta1.RouteConditionProgrammed+"=True Programmed")
	rule := server.Isolated{
		Rule:    xds.Rule{Kind: "HTTPRoute", Route: types.NamespacedName{Namespace: e.ns, Name: "bad"}, Index: 0},
		Message: "missing ): (unclosed",
	}
	e.server.refuse(rule)
	e.routeHas("bad", v1beta1.RouteConditionProgrammed+"=False "+v1beta1.ReasonRuleRefused)
	e.routeHas("bad", "PartiallyInvalid=True UnsupportedValue")
	e.routeHas("bad", "Accepted=True Accepted")
	e.routeHas("good", v1beta1.RouteConditionProgrammed+"=True Programmed")
	e.eventually("an event has Envoy's words", func() string {
		var events eventsv1.EventList
		if err := e.List(e.Context(), &events, client.InNamespace(e.ns)); err != nil {
			return err.Error()
		}
		found := 0
		for _, event := range events.Items {
			if event.Reason != v1beta1.ReasonRuleRefused {
				continue
			}
			found++
			if event.Regarding.Name != "bad" || event.Regarding.Kind != "HTTPRoute" || !strings.Contains(event.Note, rule.Message) || !strings.Contains(event.Note, "spec.rules[0]") {
				e.Errorf("event %q on %s %s", event.Note, event.Regarding.Kind, event.Regarding.Name)
			}
		}
		if found != 1 {
			return fmt.Sprintf("%d events", found)
		}
		return ""
	})
	e.server.refuse()
	e.routeHas("bad", v1beta1.RouteConditionProgrammed+"=True Programmed")
	var route gwv1.HTTPRoute
	e.must(e.get("bad", &route))
	if c := meta.FindStatusCondition(route.Status.Parents[0].Conditions, "PartiallyInvalid"); c != nil {
		t.Errorf("the condition outlives its cause: %+v", c)
	}
}
