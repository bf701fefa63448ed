// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/cmd/kubectl-headgate/view"
	"headgate.dev/headgate/cmd/kubectl-headgate/world"
)

func (a *app) gatewayListCommand() *cobra.Command {
	everywhere := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the Gateways: addresses, listeners, proxies, what is wrong",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.listGateways(cmd.Context(), everywhere) },
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "list the Gateways of all namespaces")
	return cmd
}

func (a *app) gatewayStatusCommand() *cobra.Command {
	everywhere := false
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show a Gateway: listeners, routes, proxies, what is wrong and what to do",
		Long: `Show a Gateway: its addresses, each listener with the number of attached routes, each
proxy, the routes that are not served as written, what is wrong and what to do. Without a
name: one line per Gateway.`,
		Example: `  kubectl headgate gateway status -A
  kubectl headgate gateway status front -n shop`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return one("Gateway, or none", "front")(cmd, args)
		},
		ValidArgsFunction: a.completeGateways,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return a.listGateways(cmd.Context(), everywhere)
			case everywhere:
				return usageError("give a name or --all-namespaces, not both")
			}
			return a.statusOfGateway(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "list the Gateways of all namespaces")
	return cmd
}

func (a *app) listGateways(ctx context.Context, everywhere bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	w, _, err := c.world(ctx, gatewaysAndRoutes)
	if err != nil {
		return err
	}
	var list []view.Gateway
	for _, gw := range w.Resources.Gateways {
		if !ours(w, gw) || !everywhere && gw.Namespace != c.namespace {
			continue
		}
		one, err := c.gatewayView(ctx, w, gw)
		if err != nil {
			return err
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		where := fmt.Sprintf("in namespace %q; -A looks in all", c.namespace)
		if everywhere {
			where = "in this cluster"
		}
		fmt.Fprintf(a.streams.ErrOut, "There are no Gateways of Headgate %s.\n", where)
		return nil
	}
	slices.SortFunc(list, func(a, b view.Gateway) int { return strings.Compare(a.Name(), b.Name()) })
	_, err = fmt.Fprint(a.streams.Out, view.Gateways(list, everywhere, a.now(), a.style()))
	return err
}

func (a *app) statusOfGateway(ctx context.Context, name string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	w, _, err := c.world(ctx, gatewaysAndRoutes)
	if err != nil {
		return err
	}
	gw, err := c.gatewayOf(w, name)
	if err != nil {
		return err
	}
	one, err := c.gatewayView(ctx, w, gw)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.streams.Out, view.GatewayStatus(one, a.now(), a.style()))
	return err
}

// gatewayView is a Gateway with its proxies and its routes.
func (c *cluster) gatewayView(ctx context.Context, w *world.World, gw *gwv1.Gateway) (view.Gateway, error) {
	out := view.Gateway{Object: gw}
	key := types.NamespacedName{Namespace: gw.Namespace, Name: gw.Name}
	pods, err := c.proxies(ctx, key)
	if err != nil {
		return out, err
	}
	out.Proxies = pods
	for _, route := range w.Routes() {
		for _, parent := range route.Status().Parents {
			if string(parent.ControllerName) == w.Resources.ControllerName && w.Leads(route, parent.ParentRef, key) {
				out.Routes = append(out.Routes, view.AttachedRoute{Name: route.Kind + " " + route.Key.String(), Conditions: parent.Conditions})
			}
		}
	}
	return out, nil
}
