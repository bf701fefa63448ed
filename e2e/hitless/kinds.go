// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// kind is a kind of change: make writes it and says how it will be seen.
type kind struct {
	name string
	make func(context.Context) (seen, error)
}

// kinds are made in turn. What comes is followed by what takes it away.
func (w *world) kinds() []kind {
	return []kind{
		{"weights", func(ctx context.Context) (seen, error) { return w.weights(ctx, &w.web, false) }},
		{"weights during a release (runtime keys)", func(ctx context.Context) (seen, error) { return w.weights(ctx, &w.web, true) }},
		{"weights of a GRPCRoute", func(ctx context.Context) (seen, error) { return w.weights(ctx, &w.calls, false) }},
		{"order of rules", w.order},
		{"filters, timeouts, matches", w.filters},
		{"backend swapped for a new Service", func(ctx context.Context) (seen, error) { return w.swap(ctx, &w.web) }},
		{"backend of a GRPCRoute swapped for a new Service", func(ctx context.Context) (seen, error) { return w.swap(ctx, &w.calls) }},
		{"route added", w.addRoute},
		{"listener added", w.addListener},
		{"certificate rotated", w.rotateFront},
		{"route removed", w.removeRoute},
		{"listener removed", w.removeListener},
	}
}

// look is where a route under load is looked at.
func (w *world) look(r *routeState) func(context.Context) sight {
	if r.kind == "GRPCRoute" {
		return w.probe.call
	}
	return w.probe.web(80, r.host, "/")
}

// weights gives everything to the other version: the first answer of it shows the change.
func (w *world) weights(ctx context.Context, r *routeState, running bool) (seen, error) {
	r.weight, r.running = 100-r.weight, running
	version := map[int]string{100: "blue", 0: "green"}[r.weight]
	return seen{w.look(r), hasHeader("X-Version", version)}, w.apply(ctx, r)
}

func (w *world) order(ctx context.Context) (seen, error) {
	w.web.swapped = !w.web.swapped
	rule := map[bool]string{false: "a", true: "b"}[w.web.swapped]
	return seen{w.look(&w.web), hasHeader(ruleHeader, rule)}, w.apply(ctx, &w.web)
}

func (w *world) filters(ctx context.Context) (seen, error) {
	w.web.variant++
	return w.renew(ctx, &w.web)
}

// renew writes a route with a new number.
func (w *world) renew(ctx context.Context, r *routeState) (seen, error) {
	w.n++
	r.change = w.n
	return seen{w.look(r), hasHeader(changeHeader, strconv.Itoa(w.n))}, w.apply(ctx, r)
}

// swap makes a new Service for each version, gives the route to them and deletes the
// old ones, all without a pause, as kubectl does with the documents of one file.
func (w *world) swap(ctx context.Context, r *routeState) (seen, error) {
	old := r.services
	for i, version := range []string{"blue", "green"} {
		r.services[i] = fmt.Sprintf("%s-%s-%d", r.name, version, w.n+1)
		err := w.Apply(ctx, fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {selector: {app: %s}, ports: [{name: http, port: 80, targetPort: http}]}}",
			r.services[i], version))
		if err != nil {
			return seen{}, err
		}
	}
	s, err := w.renew(ctx, r)
	if err != nil {
		return s, err
	}
	for _, name := range old {
		if name == "blue" || name == "green" { // others use these
			continue
		}
		service := &corev1.Service{}
		service.Namespace, service.Name = w.Name, name
		if err := w.Client.Delete(ctx, service); err != nil {
			return s, fmt.Errorf("deleting Service %s: %w", name, err)
		}
	}
	return s, nil
}

// extraRoute is a route that comes and goes: on a host of its own, or on a path
// of the host under load.
func (w *world) extraRoute() (document, host, path string) {
	host, path = "extra.hitless.example", "/"
	if w.routes%2 == 1 {
		host, path = webHost, "/extra"
	}
	return jsonOf(map[string]any{
		"apiVersion": gwv1.GroupVersion.String(), "kind": "HTTPRoute", "metadata": map[string]any{"name": "extra"},
		"spec": map[string]any{
			"parentRefs": []any{map[string]any{"name": "front"}}, "hostnames": []any{host},
			"rules": []any{map[string]any{
				"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": path}}},
				"backendRefs": []any{map[string]any{"name": "green", "port": 80}},
				"filters": []any{map[string]any{
					"type": "ResponseHeaderModifier", "responseHeaderModifier": map[string]any{"set": []any{map[string]any{"name": "X-Extra", "value": strconv.Itoa(w.n)}}},
				}},
			}},
		},
	}), host, path
}

func (w *world) addRoute(ctx context.Context) (seen, error) {
	w.n++
	w.routes++
	document, host, path := w.extraRoute()
	return seen{w.probe.web(80, host, path), hasHeader("X-Extra", strconv.Itoa(w.n))}, w.Apply(ctx, document)
}

func (w *world) removeRoute(ctx context.Context) (seen, error) {
	_, host, path := w.extraRoute()
	route := &gwv1.HTTPRoute{}
	route.Namespace, route.Name = w.Name, "extra"
	gone := func(s sight) bool { return s.err == nil && s.header.Get("X-Extra") == "" }
	return seen{w.probe.web(80, host, path), gone}, client.IgnoreNotFound(w.Client.Delete(ctx, route))
}

// A listener that comes and goes: its JSON, and how it is seen when it is there and
// when it is not. In turn: a port of its own, a host on the port under load, a host
// on the TLS port, and a more specific host than the one that TLS clients connected for.
func (w *world) extraListener() (document string, there, gone seen) {
	const certificate = `"tls":{"certificateRefs":[{"name":"aside"}]}`
	answers := func(s sight) bool { return s.err == nil && s.status == http.StatusOK }
	switch w.listeners % 4 {
	case 1:
		port := w.probe.once(8080, "aside.example")
		return `{"name":"aside","port":8080,"protocol":"HTTP"}`, seen{port, answers}, seen{port, func(s sight) bool { return s.err != nil }}
	case 2:
		host := w.probe.web(80, "aside.example", "/")
		return `{"name":"aside","port":80,"protocol":"HTTP","hostname":"aside.example"}`,
			seen{host, answers}, seen{host, func(s sight) bool { return s.err == nil && s.status == http.StatusNotFound }}
	case 3:
		host := w.probe.tls("b.hitless.example")
		return `{"name":"aside","port":443,"protocol":"HTTPS","hostname":"b.hitless.example",` + certificate + `}`,
			seen{host, w.asideSerial(true)}, seen{host, w.asideSerial(false)}
	}
	host := w.probe.tls(webHost)
	return `{"name":"aside","port":443,"protocol":"HTTPS","hostname":"` + webHost + `",` + certificate + `}`,
		seen{host, w.asideSerial(true)}, seen{host, w.asideSerial(false)}
}

func (w *world) asideSerial(there bool) func(sight) bool {
	return func(s sight) bool { return s.err == nil && (s.serial == strconv.Itoa(w.aside)) == there }
}

// setListeners gives the Gateway its two listeners, and another one if it is not empty.
func (w *world) setListeners(ctx context.Context, another string) error {
	gw := &gwv1.Gateway{}
	gw.Namespace, gw.Name = w.Name, "front"
	patch := `{"spec":{"listeners":[{"name":"http","port":80,"protocol":"HTTP"},` +
		`{"name":"https","port":443,"protocol":"HTTPS","hostname":"*.hitless.example","tls":{"certificateRefs":[{"name":"front"}]}}`
	if another != "" {
		patch += "," + another
	}
	return w.patch(ctx, gw, patch+`]}}`)
}

func (w *world) addListener(ctx context.Context) (seen, error) {
	w.listeners++
	document, there, _ := w.extraListener()
	return there, w.setListeners(ctx, document)
}

func (w *world) removeListener(ctx context.Context) (seen, error) {
	_, _, gone := w.extraListener()
	return gone, w.setListeners(ctx, "")
}

func (w *world) rotateFront(ctx context.Context) (seen, error) {
	err := w.rotate(ctx, "front")
	return seen{w.probe.tls("any.hitless.example"), hasSerial(w.n)}, err
}
