// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// set creates a ListenerSet of Gateway web with one HTTP listener.
func (e *env) set(name string, port gwv1.PortNumber, hostname gwv1.Hostname) *gwv1.ListenerSet {
	e.Helper()
	s := &gwv1.ListenerSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec: gwv1.ListenerSetSpec{
			ParentRef: gwv1.ParentGatewayReference{Name: "web"},
			Listeners: []gwv1.ListenerEntry{{Name: "extra", Port: port, Protocol: gwv1.HTTPProtocolType, Hostname: &hostname}},
		},
	}
	e.must(e.Create(e.Context(), s))
	return s
}

func conditionsAre(conditions []metav1.Condition, want ...string) string {
	var got []string
	for _, c := range conditions {
		got = append(got, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	all := strings.Join(got, ", ")
	for _, w := range want {
		if !strings.Contains(all, w) {
			return fmt.Sprintf("conditions %s, want %s", all, w)
		}
	}
	return ""
}

func (e *env) setHas(name string, want ...string) {
	e.Helper()
	e.eventually("ListenerSet "+name, func() string {
		s := &gwv1.ListenerSet{}
		if err := e.get(name, s); err != nil {
			return err.Error()
		}
		return conditionsAre(s.Status.Conditions, want...)
	})
}

func (e *env) servicePorts(gateway string, want string) {
	e.Helper()
	e.eventually("the Service's ports", func() string {
		s := &corev1.Service{}
		if err := e.get(gateway+"-"+e.ns, s); err != nil {
			return err.Error()
		}
		var got []string
		for _, p := range s.Spec.Ports {
			got = append(got, fmt.Sprint(p.Port))
		}
		if text := strings.Join(got, " "); text != want {
			return fmt.Sprintf("%s, want %s", text, want)
		}
		return ""
	})
}

func TestListenerSetsJoinTheirGateway(t *testing.T) {
	e := start(t)
	from := gwv1.NamespacesFromNone
	gw := e.gateway("web", func(gw *gwv1.Gateway) {
		gw.Spec.AllowedListeners = &gwv1.AllowedListeners{Namespaces: &gwv1.ListenerNamespaces{From: &from}}
	})
	e.serve("web")
	e.gatewayHas("web", "Programmed=True Programmed")
	e.set("first", 8080, "a.example.com")
	e.setHas("first", "Accepted=False NotAllowed", "Programmed=False NotAllowed")

	same := gwv1.NamespacesFromSame
	e.must(e.get("web", gw))
	before := gw.DeepCopy() // the status may be written in between
	gw.Spec.AllowedListeners.Namespaces.From = &same
	e.must(e.Patch(e.Context(), gw, client.MergeFrom(before)))
	e.setHas("first", "Accepted=True Accepted", "Programmed=True Programmed")
	e.servicePorts("web", "80 8080")

	second := e.set("second", 8080, "a.example.com")
	e.setHas("second", "Accepted=False ListenersNotValid", "Programmed=False ListenersNotValid")

	kind := gwv1.Kind("ListenerSet")
	e.route("by-set", func(r *gwv1.HTTPRoute) {
		r.Spec.ParentRefs = []gwv1.ParentReference{{Kind: &kind, Name: "first"}}
	})
	e.eventually("the route attaches to the set alone", func() string {
		r, s, gw := &gwv1.HTTPRoute{}, &gwv1.ListenerSet{}, &gwv1.Gateway{}
		for name, o := range map[string]client.Object{"by-set": r, "first": s, "web": gw} {
			if err := e.get(name, o); err != nil {
				return err.Error()
			}
		}
		if n := len(r.Status.Parents); n != 1 {
			return fmt.Sprintf("%d parents", n)
		}
		if why := conditionsAre(r.Status.Parents[0].Conditions, "Accepted=True Accepted"); why != "" {
			return why
		}
		if len(s.Status.Listeners) != 1 || s.Status.Listeners[0].AttachedRoutes != 1 || gw.Status.Listeners[0].AttachedRoutes != 0 {
			return fmt.Sprintf("listeners of the set %v, of the Gateway %v", s.Status.Listeners, gw.Status.Listeners)
		}
		if n := gw.Status.AttachedListenerSets; n == nil || *n != 1 || len(gw.Status.Listeners) != 1 {
			return fmt.Sprintf("attached sets %v, %d listeners", n, len(gw.Status.Listeners))
		}
		return ""
	})

	// The next one takes over when the winner goes; the last takes its port along.
	e.must(e.Delete(e.Context(), &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "first"}}))
	e.setHas("second", "Accepted=True Accepted", "Programmed=True Programmed")
	e.must(e.Delete(e.Context(), second))
	e.servicePorts("web", "80")
}

func TestClassesSayWhichDefinitionsTheyFound(t *testing.T) {
	e := start(t)
	e.eventually("the class", func() string {
		class := &gwv1.GatewayClass{}
		if err := e.Get(e.Context(), client.ObjectKey{Name: e.ns}, class); err != nil {
			return err.Error()
		}
		return conditionsAre(class.Status.Conditions, "Accepted=True Accepted", "SupportedVersion=True SupportedVersion")
	})
}
