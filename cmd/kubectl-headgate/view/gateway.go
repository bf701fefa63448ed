// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Gateway is a Gateway, the pods of its proxies, and the routes that name it.
type Gateway struct {
	Object  *gwv1.Gateway
	Proxies []corev1.Pod
	Routes  []AttachedRoute
}

// AttachedRoute is a route and what its status says under the Gateway.
type AttachedRoute struct {
	Name       string
	Conditions []metav1.Condition
}

// Name is namespace/name.
func (g Gateway) Name() string { return g.Object.Namespace + "/" + g.Object.Name }

func (g Gateway) ready() int {
	n := 0
	for _, p := range g.Proxies {
		if podReady(p) {
			n++
		}
	}
	return n
}

func podReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (g Gateway) addresses() string {
	var out []string
	for _, a := range g.Object.Status.Addresses {
		out = append(out, a.Value)
	}
	return strings.Join(out, ",")
}

// Gateways is one line per Gateway, in the order given.
func Gateways(list []Gateway, withNamespace bool, now time.Time, s Style) string {
	head := []string{"NAME", "ADDRESS", "LISTENERS", "ROUTES", "PROXIES", "AGE", "MESSAGE"}
	if withNamespace {
		head = append([]string{"NAMESPACE"}, head...)
	}
	g := grid{rows: [][]string{head}}
	for _, one := range list {
		programmed := 0
		for _, l := range one.Object.Status.Listeners {
			if isTrue(l.Conditions, string(gwv1.ListenerConditionProgrammed)) {
				programmed++
			}
		}
		message := "served"
		if wrong := one.wrong(); len(wrong) > 0 {
			message = wrong[0]
		}
		row := []string{
			one.Object.Name, dash(one.addresses()), fmt.Sprintf("%d/%d", programmed, len(one.Object.Status.Listeners)),
			fmt.Sprint(len(one.Routes)), fmt.Sprintf("%d/%d", one.ready(), len(one.Proxies)),
			span(now.Sub(one.Object.CreationTimestamp.Time)), message,
		}
		if withNamespace {
			row = append([]string{one.Object.Namespace}, row...)
		}
		g.rows = append(g.rows, row)
	}
	g.paint = func(row, column int, cell string) string {
		switch {
		case row == 0 || column != len(head)-1:
			return cell
		case cell == "served":
			return s.good(cell)
		}
		return s.bad(cell)
	}
	return g.String()
}

// GatewayStatus shows a Gateway whole.
func GatewayStatus(g Gateway, now time.Time, s Style) string {
	var b strings.Builder
	state := s.good("served")
	if len(g.wrong()) > 0 {
		state = s.bad("not served as written")
	}
	fmt.Fprintf(&b, "%s  %s\n", s.bold("Gateway "+g.Name()), state)
	fmt.Fprintf(&b, "class %s, age %s, address %s\n", g.Object.Spec.GatewayClassName, span(now.Sub(g.Object.CreationTimestamp.Time)), dash(g.addresses()))

	listeners := grid{rows: [][]string{{"LISTENER", "PORT", "PROTOCOL", "HOSTNAME", "ROUTES"}}}
	for _, l := range g.Object.Spec.Listeners {
		hostname := "*"
		if l.Hostname != nil && *l.Hostname != "" {
			hostname = string(*l.Hostname)
		}
		attached := "-"
		for _, status := range g.Object.Status.Listeners {
			if status.Name == l.Name {
				attached = fmt.Sprint(status.AttachedRoutes)
			}
		}
		listeners.rows = append(listeners.rows, []string{string(l.Name), fmt.Sprint(l.Port), string(l.Protocol), hostname, attached})
	}
	b.WriteString("\n" + listeners.String())

	proxies := grid{rows: [][]string{{"PROXY", "READY", "NODE", "AGE"}}}
	for _, p := range g.Proxies {
		ready := "no"
		if podReady(p) {
			ready = "yes"
		}
		proxies.rows = append(proxies.rows, []string{p.Name, ready, dash(p.Spec.NodeName), span(now.Sub(p.CreationTimestamp.Time))})
	}
	if len(g.Proxies) > 0 {
		b.WriteString("\n" + proxies.String())
	}
	b.WriteString("\n" + routeTable(g.Routes, s))
	if wrong := g.wrong(); len(wrong) > 0 {
		b.WriteString("\n" + s.bold("What is wrong") + "\n" + indent(strings.Join(wrong, "\n")+"\n"))
	}
	if advice := g.advice(); len(advice) > 0 {
		b.WriteString("\n" + s.bold("What to do") + "\n" + indent(strings.Join(advice, "\n")+"\n"))
	}
	return b.String()
}

func routeTable(routes []AttachedRoute, s Style) string {
	if len(routes) == 0 {
		return "No route names this Gateway.\n"
	}
	g := grid{rows: [][]string{{"ROUTE", "STATE"}}}
	for _, r := range routes {
		g.rows = append(g.rows, []string{r.Name, r.state()})
	}
	g.paint = func(row, column int, cell string) string {
		switch {
		case row == 0 || column == 0:
			return cell
		case cell == "served":
			return s.good(cell)
		}
		return s.bad(cell)
	}
	return g.String()
}

// state is what is wrong with the route first of all.
func (r AttachedRoute) state() string {
	for _, c := range r.Conditions {
		bad := c.Status == metav1.ConditionFalse
		if c.Type == string(gwv1.RouteConditionPartiallyInvalid) {
			bad = c.Status == metav1.ConditionTrue
		}
		if bad {
			return c.Message
		}
	}
	return "served"
}

// wrong are the sentences of the conditions that should not be as they are.
func (g Gateway) wrong() []string {
	var out []string
	add := func(where string, list []metav1.Condition) {
		for _, c := range list {
			negative := slices.Contains([]string{
				string(gwv1.ListenerConditionConflicted), string(gwv1.ListenerConditionOverlappingTLSConfig),
			}, c.Type)
			if negative == (c.Status == metav1.ConditionTrue) && c.Status != metav1.ConditionUnknown && c.Message != "" {
				if text := where + c.Message; !slices.Contains(out, text) {
					out = append(out, text)
				}
			}
		}
	}
	for _, l := range g.Object.Status.Listeners {
		add("listener "+string(l.Name)+": ", slices.DeleteFunc(slices.Clone(l.Conditions), func(c metav1.Condition) bool {
			return c.Type == string(gwv1.ListenerConditionProgrammed) // it only points to the others
		}))
	}
	add("", g.Object.Status.Conditions)
	if len(g.Object.Status.Conditions) == 0 || untouched(g.Object.Status.Conditions) {
		out = append(out, "no controller has looked at the Gateway yet")
	}
	return out
}

// untouched tells whether the conditions are still those that the API wrote itself.
func untouched(list []metav1.Condition) bool {
	return !slices.ContainsFunc(list, func(c metav1.Condition) bool { return c.Status != metav1.ConditionUnknown })
}

func isTrue(list []metav1.Condition, conditionType string) bool {
	return slices.ContainsFunc(list, func(c metav1.Condition) bool { return c.Type == conditionType && c.Status == metav1.ConditionTrue })
}

// advice are the next steps. What to write instead stands in the sentences
// themselves.
func (g Gateway) advice() []string {
	var out []string
	namespace := g.Object.Namespace
	if len(g.Object.Status.Conditions) == 0 || untouched(g.Object.Status.Conditions) {
		out = append(out, "see whether Headgate runs: kubectl get pods -A -l app.kubernetes.io/name=headgate")
	}
	accepted := isTrue(g.Object.Status.Conditions, string(gwv1.GatewayConditionAccepted))
	switch {
	case accepted && len(g.Proxies) == 0:
		out = append(out, fmt.Sprintf("see why there are no proxies: kubectl describe deployment -n %s -l %s=%s", namespace, gwv1.GatewayNameLabelKey, g.Object.Name))
	case accepted && g.ready() == 0:
		out = append(out, fmt.Sprintf("see why no proxy is ready: kubectl describe pod -n %s -l %s=%s", namespace, gwv1.GatewayNameLabelKey, g.Object.Name))
	}
	if accepted && len(g.Object.Status.Addresses) == 0 {
		out = append(out, fmt.Sprintf("see why its Service has no address: kubectl get service -n %s -l %s=%s", namespace, gwv1.GatewayNameLabelKey, g.Object.Name))
	}
	for _, r := range g.Routes {
		if r.state() == "served" {
			continue
		}
		kind, name, _ := strings.Cut(r.Name, " ")
		of, name, _ := strings.Cut(name, "/")
		out = append(out, fmt.Sprintf("see why a route is not served: kubectl headgate gateway why %s/%s -n %s", strings.ToLower(kind), name, of))
		if len(out) >= 8 {
			break
		}
	}
	return out
}
