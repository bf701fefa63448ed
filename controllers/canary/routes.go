// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/rollout"
)

const gatewayGroup = "gateway.networking.k8s.io"

func routeKind(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: kind}
}

// kinds are the kinds of routes this cluster has.
func (r *reconciler) kinds() []string {
	var out []string
	if r.hasGRPC {
		out = append(out, "GRPCRoute")
	}
	if r.hasRoute {
		out = append(out, "HTTPRoute")
	}
	return out
}

// gatherRoutes reads the routes of the namespace, or those of the spec. Which of
// them name the Service is settled once that is known.
func (r *reconciler) gatherRoutes(ctx context.Context, w *world) error {
	wanted := slices.Clone(w.canary.Spec.Routes)
	for i := range wanted {
		wanted[i].Kind = cmp.Or(wanted[i].Kind, "HTTPRoute")
	}
	for _, kind := range r.kinds() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(routeKind(kind + "List"))
		if err := r.client.List(ctx, list, client.InNamespace(w.canary.Namespace)); err != nil {
			return fmt.Errorf("listing %ss: %w", kind, err)
		}
		slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { return cmp.Compare(a.GetName(), b.GetName()) })
		for i := range list.Items {
			route := &list.Items[i]
			ref := v1beta1.RouteReference{Kind: kind, Name: route.GetName()}
			if route.GetDeletionTimestamp() != nil {
				continue
			}
			_, ours := records(route)[w.canary.Name]
			if at := slices.Index(wanted, ref); at >= 0 {
				wanted = slices.Delete(wanted, at, at+1)
			} else if len(w.canary.Spec.Routes) > 0 && !ours {
				w.others = append(w.others, route)
				continue
			}
			w.routes = append(w.routes, route)
		}
	}
	if len(wanted) > 0 {
		sortRoutes(wanted)
		w.seen.RouteProblem = &rollout.Problem{Reason: v1beta1.ReasonRouteNotFound, Message: fmt.Sprintf(
			"There is no %s %q in this namespace: create it, or correct spec.routes.", wanted[0].Kind, wanted[0].Name)}
	}
	return nil
}

// routed says whether a route names a Service.
func (w *world) routed(service string) bool {
	return slices.ContainsFunc(w.routes, func(route *unstructured.Unstructured) bool {
		return slices.ContainsFunc(backendRefs(route), func(refs []any) bool { return names(refs, w.canary.Namespace, service) })
	})
}

// routesOf keeps the routes that name the Service and says how they stand.
func (r *reconciler) routesOf(w *world) {
	pair := w.pair()
	var kept []*unstructured.Unstructured
	for _, route := range w.routes {
		record := recordOf[routeRecord](route, w.canary.Name)
		_, traces := records(route)[w.canary.Name]
		ref := v1beta1.RouteReference{Kind: route.GetKind(), Name: route.GetName()}
		all := backendRefs(route)
		stable := slices.ContainsFunc(all, func(refs []any) bool { return names(refs, pair.namespace, pair.stable) })
		_, others := otherRecord(route, pair, w.canary.Name)
		twin := underway(w.canary) && !others && carriesCanary(route, pair)
		reaches := slices.ContainsFunc(all, func(refs []any) bool { return sends(refs, pair) })
		if !stable && !traces {
			if len(w.canary.Spec.Routes) > 0 && w.seen.RouteProblem == nil {
				w.seen.RouteProblem = &rollout.Problem{Reason: v1beta1.ReasonRouteNotFound, Message: fmt.Sprintf(
					"%s %q does not name Service %q in any rule: add it as a backend, or correct spec.routes.", ref.Kind, ref.Name, pair.stable)}
			}
			continue
		}
		if other, _ := otherRecord(route, pair, w.canary.Name); other != "" && w.seen.RouteProblem == nil {
			w.seen.RouteProblem = &rollout.Problem{Reason: v1beta1.ReasonRouteBusy, Message: fmt.Sprintf(
				"Canary %q is releasing through the same rule of %s %q: this release starts after that one.", other, ref.Kind, ref.Name)}
		}
		seen := rollout.Route{Ref: ref, Percent: rollout.Detached, Traces: traces || twin}
		seen.Reaches = reaches && seen.Traces
		if record != nil {
			seen.Closed = record.Closed
		}
		if carries(route, pair, record) {
			seen.Percent = record.Percent
		}
		seen.Programmed, seen.Foreign, seen.Message = served(route)
		kept = append(kept, route)
		w.seen.Routes = append(w.seen.Routes, seen)
	}
	w.routes = kept
}

// otherRecord names another Canary that has changed a rule this one needs, and
// says whether one releases the very Service of this one.
func otherRecord(route *unstructured.Unstructured, pair backendPair, canary string) (inRule string, sameService bool) {
	for _, name := range slices.Sorted(maps.Keys(records(route))) {
		record := recordOf[routeRecord](route, name)
		if name == canary || record == nil {
			continue
		}
		sameService = sameService || record.Service == pair.stable
		for _, refs := range backendRefs(route) {
			if names(refs, pair.namespace, pair.stable) && names(refs, pair.namespace, record.Canary) {
				inRule = name
			}
		}
	}
	return inRule, sameService
}

// served says whether every gateway serves the route at its present generation:
// Headgate's by its proxies' word, any other by having accepted it.
func served(route *unstructured.Unstructured) (programmed, foreign bool, why string) {
	refs, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	parents, _, _ := unstructured.NestedSlice(route.Object, "status", "parents")
	if len(refs) == 0 {
		return false, false, "it has no parentRefs, so no gateway serves it"
	}
	programmed = true
	for _, ref := range refs {
		parent, _ := ref.(map[string]any)
		ok, other, reason := servedBy(route, parent, parents)
		foreign = foreign || other
		if !ok && programmed {
			programmed, why = false, reason
		}
	}
	return programmed, foreign, why
}

func servedBy(route *unstructured.Unstructured, ref map[string]any, parents []any) (ok, foreign bool, why string) {
	found := false
	ok = true
	for _, p := range parents {
		status, _ := p.(map[string]any)
		of, _ := status["parentRef"].(map[string]any)
		if !sameParent(ref, of, route.GetNamespace()) {
			continue
		}
		found = true
		kind := "Accepted"
		if status["controllerName"] == v1beta1.ControllerName {
			kind = v1beta1.RouteConditionProgrammed
		} else {
			foreign = true
		}
		if good, reason := holds(status, kind, route.GetGeneration()); !good && ok {
			ok, why = false, fmt.Sprintf("Gateway %v: %s", ref["name"], reason)
		}
	}
	if !found {
		return false, false, fmt.Sprintf("no controller has taken it for Gateway %v yet", ref["name"])
	}
	return ok, foreign, why
}

// sameParent compares a reference of the spec with one of the status.
func sameParent(a, b map[string]any, namespace string) bool {
	text := func(m map[string]any, key, otherwise string) string {
		if v, ok := m[key]; ok && fmt.Sprint(v) != "" {
			return fmt.Sprint(v)
		}
		return otherwise
	}
	for key, otherwise := range map[string]string{
		"group": gatewayGroup, "kind": "Gateway", "namespace": namespace, "name": "", "sectionName": "", "port": "",
	} {
		if text(a, key, otherwise) != text(b, key, otherwise) {
			return false
		}
	}
	return true
}

// holds says whether a parent's condition is True for a generation.
func holds(parent map[string]any, kind string, generation int64) (ok bool, why string) {
	conditions, _ := parent["conditions"].([]any)
	refusal := ""
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		observed, _ := condition["observedGeneration"].(int64)
		if condition["type"] == "Accepted" && condition["status"] == "False" {
			refusal = fmt.Sprintf("it is not accepted: %v", condition["message"])
		}
		if condition["type"] != kind {
			continue
		}
		switch {
		case condition["status"] != "True":
			why = fmt.Sprintf("%s is %v: %v", kind, condition["status"], condition["message"])
		case observed < generation:
			why = "its latest change is not served yet"
		default:
			ok = true
		}
	}
	switch {
	case refusal != "":
		return false, refusal
	case !ok && why == "":
		why = "its latest change is not served yet"
	}
	return ok, why
}
