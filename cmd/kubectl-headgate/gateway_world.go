// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
)

// world reads the objects of the kinds that are wanted, and of those that are read by need what
// they refer to. It gives notes about what may not be read.
func (c *cluster) world(ctx context.Context, wanted func(world.Kind) bool) (*world.World, []string, error) {
	w := world.New()
	w.Resources.ExternalNames = c.externalNames
	var notes []string
	byNeed := map[string]world.Kind{}
	for _, kind := range world.Kinds() {
		switch {
		case !wanted(kind):
			continue
		case kind.ByNeed:
			byNeed[kind.Name] = kind
			continue
		}
		answer, err := c.raw(ctx, path(kind, "", ""))
		switch {
		case apierrors.IsNotFound(err) && kind.Name == "Gateway":
			return nil, nil, fmt.Errorf("this cluster has no Gateway API (%s): install its CRDs and Headgate's chart first", gwv1.GroupVersion)
		case apierrors.IsNotFound(err): // of another channel or version of the Gateway API
			continue
		case apierrors.IsForbidden(err):
			return nil, nil, fmt.Errorf("not allowed: %w; the answer depends on all of them", err)
		case err != nil:
			return nil, nil, fmt.Errorf("listing %s: %w", kind.Plural, err)
		}
		if err := w.AddList(kind, answer); err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", kind.Plural, err)
		}
	}
	if len(byNeed) == 0 {
		return w, notes, nil
	}
	for _, ref := range graph.Wanted(w.Resources) {
		answer, err := c.raw(ctx, path(byNeed[ref.Kind], ref.Namespace, ref.Name))
		switch {
		case apierrors.IsNotFound(err):
			continue
		case apierrors.IsForbidden(err):
			notes = append(notes, fmt.Sprintf("you may not read %s: here it counts as missing, although it may be fine", ref))
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("reading %s: %w", ref, err)
		}
		if err := w.Add(byNeed[ref.Kind], answer); err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", ref, err)
		}
	}
	return w, notes, nil
}

func everyKind(world.Kind) bool { return true }

// gatewaysAndRoutes are enough for what statuses say.
func gatewaysAndRoutes(k world.Kind) bool {
	return k.Name == "GatewayClass" || k.Name == "Gateway" || k.Name == "ListenerSet" || k.IsRoute()
}

func (c *cluster) raw(ctx context.Context, path string) ([]byte, error) {
	return c.core.CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx).Raw()
}

// path is the collection of a kind, or one object of it.
func path(kind world.Kind, namespace, name string) string {
	at := "/apis/" + kind.Group + "/" + kind.Versions[0]
	if kind.Group == "" {
		at = "/api/" + kind.Versions[0]
	}
	if namespace != "" {
		at += "/namespaces/" + namespace
	}
	at += "/" + kind.Plural
	if name != "" {
		at += "/" + name
	}
	return at
}

// gatewayOf finds a Gateway of Headgate by the name on the command line.
func (c *cluster) gatewayOf(w *world.World, name string) (*gwv1.Gateway, error) {
	key := types.NamespacedName{Namespace: c.namespace, Name: name}
	gw := w.Resources.Gateways[key]
	if gw == nil {
		return nil, fmt.Errorf("there is no Gateway %q in namespace %q; 'kubectl headgate gateway list -A' lists all", name, c.namespace)
	}
	if !ours(w, gw) {
		return nil, fmt.Errorf("Gateway %s is of class %q, which is not Headgate's", key, gw.Spec.GatewayClassName) //nolint:staticcheck // a sentence, with a name in front
	}
	return gw, nil
}

// routeOf finds a route by kind/name; the kind may be written as kubectl takes it,
// and is HTTPRoute when it is left out.
func (c *cluster) routeOf(w *world.World, text string) (world.Route, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found {
		kind, name = "HTTPRoute", text
	}
	kinds := world.Kinds()
	i := slices.IndexFunc(kinds, func(k world.Kind) bool {
		return k.IsRoute() && (strings.EqualFold(k.Name, kind) || k.Plural == strings.ToLower(kind))
	})
	if i < 0 {
		return world.Route{}, usageError("%q is not a kind of routes: write httproute/NAME or another of the Gateway API", kind)
	}
	for _, route := range w.Routes() {
		if route.Kind == kinds[i].Name && route.Key.Namespace == c.namespace && route.Key.Name == name {
			return route, nil
		}
	}
	return world.Route{}, fmt.Errorf("there is no %s %q in namespace %q", kinds[i].Name, name, c.namespace)
}

// completeGateways offers the Gateways of the namespace.
func (a *app) completeGateways(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, typed, func(w *world.World, namespace string) []string {
		var names []string
		for key := range w.Resources.Gateways {
			if key.Namespace == namespace {
				names = append(names, key.Name)
			}
		}
		return names
	})
}

// completeRoutes offers the routes of the namespace as kind/name.
func (a *app) completeRoutes(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, args, typed, func(w *world.World, namespace string) []string {
		var names []string
		for _, route := range w.Routes() {
			if route.Key.Namespace == namespace {
				names = append(names, strings.ToLower(route.Kind)+"/"+route.Key.Name)
			}
		}
		return names
	})
}

func (a *app) complete(cmd *cobra.Command, args []string, typed string, names func(*world.World, string) []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	w, _, err := c.world(cmd.Context(), gatewaysAndRoutes)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	found := slices.DeleteFunc(names(w, c.namespace), func(name string) bool { return !strings.HasPrefix(name, typed) })
	slices.Sort(found)
	return found, cobra.ShellCompDirectiveNoFileComp
}

// one wants exactly one argument, a Gateway or a route for example.
func one(what, example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return usageError("name one %s, for example: %s %s", what, cmd.CommandPath(), example)
	}
}
