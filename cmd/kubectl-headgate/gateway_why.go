// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headgate.dev/headgate/cmd/kubectl-headgate/explain"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
)

func (a *app) gatewayWhyCommand() *cobra.Command {
	output := ""
	cmd := &cobra.Command{
		Use:   "why ROUTE",
		Short: "Explain why a route is attached or not",
		Long: `Explain for each parentRef of a route, and each listener it may mean, which gate the
route passes and at which it fails, with what to write instead: the parent exists, its class
is Headgate's, section and port, the kinds and namespaces that the listener allows, hostnames;
and for each rule whether it is valid and its backends resolve. ROUTE is kind/name, or the
name of an HTTPRoute.`,
		Example: `  kubectl headgate gateway why httproute/checkout -n shop
  kubectl headgate gateway why grpcroute/cart -o json`,
		Args:              one("route", "httproute/checkout"),
		ValidArgsFunction: a.completeRoutes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			e, err := a.expect(cmd.Context(), c)
			if err != nil {
				return err
			}
			route, err := c.routeOf(e.world, args[0])
			if err != nil {
				return err
			}
			answer := explain.Why(e.world, e.graph, route)
			if output != "" {
				return a.printPlain(answer, output)
			}
			_, err = fmt.Fprint(a.streams.Out, view.WhyRoute(answer, a.style()))
			return err
		},
	}
	outputFlag(cmd, &output, "json", "yaml")
	return cmd
}
