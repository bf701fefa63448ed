// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// Headers that the routes add to answers, for the probe.
const (
	changeHeader = "X-Change"
	ruleHeader   = "X-Rule"
)

// routeState is what a route under load says.
type routeState struct {
	kind, name, host string
	// services are those of blue and green, weight is that of blue, of 100.
	services [2]string
	weight   int
	// change is the number of the last change of filters or Services.
	change int
	// swapped puts the second of two rules that match the same first.
	swapped bool
	// running is set while a release is said to run.
	running bool
	// variant chooses the filters.
	variant int
}

// apply writes the whole route.
func (w *world) apply(ctx context.Context, r *routeState) error {
	annotations := map[string]any{}
	if r.running {
		annotations[v1beta1.AnnotationRelease] = "{}"
	}
	return w.Apply(ctx, jsonOf(map[string]any{
		"apiVersion": gwv1.GroupVersion.String(), "kind": r.kind,
		"metadata": map[string]any{"name": r.name, "annotations": annotations},
		"spec": map[string]any{
			"parentRefs": []any{map[string]any{"name": "front"}}, "hostnames": []any{r.host}, "rules": r.rules(),
		},
	}))
}

// rules are two that match the same, so that only the first serves.
func (r *routeState) rules() []any {
	rules := []any{r.rule("a"), r.rule("b")}
	if r.swapped {
		rules[0], rules[1] = rules[1], rules[0]
	}
	return rules
}

func (r *routeState) rule(name string) map[string]any {
	backend := func(i, weight int) any {
		return map[string]any{"name": r.services[i], "port": 80, "weight": weight}
	}
	filters := []any{map[string]any{
		"type": "ResponseHeaderModifier",
		"responseHeaderModifier": map[string]any{"set": []any{
			map[string]any{"name": changeHeader, "value": fmt.Sprint(r.change)},
			map[string]any{"name": ruleHeader, "value": name},
		}},
	}}
	rule := map[string]any{"backendRefs": []any{backend(0, r.weight), backend(1, 100-r.weight)}}
	if r.kind == "HTTPRoute" {
		filters = append(filters, r.extra(rule)...)
	}
	rule["filters"] = filters
	return rule
}

// variants is how many kinds of filters extra knows.
const variants = 6

// extra changes more of a rule than a header: what else can be in it.
func (r *routeState) extra(rule map[string]any) []any {
	filter := func(kind, field string, content map[string]any) []any {
		return []any{map[string]any{"type": kind, field: content}}
	}
	switch r.variant % variants {
	case 1:
		return filter("URLRewrite", "urlRewrite", map[string]any{"hostname": "rewritten.example", "path": map[string]any{"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}})
	case 2:
		return filter("RequestMirror", "requestMirror", map[string]any{"backendRef": map[string]any{"name": "green", "port": 80}, "percent": 10})
	case 3:
		rule["timeouts"] = map[string]any{"request": "4s", "backendRequest": "2s"}
	case 4:
		return filter("RequestHeaderModifier", "requestHeaderModifier", map[string]any{"add": []any{map[string]any{"name": "X-Added", "value": fmt.Sprint(r.change)}}, "remove": []any{"X-Gone"}})
	case 5:
		rule["matches"] = []any{map[string]any{"method": "GET"}}
	}
	return nil
}
