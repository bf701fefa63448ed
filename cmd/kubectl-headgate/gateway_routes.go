// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/cmd/kubectl-headgate/view"
	"headgate.dev/headgate/cmd/kubectl-headgate/world"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/served"
	"headgate.dev/headgate/dataplane/xds"
)

type servedOptions struct {
	output   string
	expected bool
	pod      string
	gateway  string
	exitCode bool
}

func (a *app) routesCommand() *cobra.Command {
	var o servedOptions
	cmd := &cobra.Command{
		Use:   "routes GATEWAY",
		Short: "Show the route table as a running proxy serves it",
		Long: `Show the route table of a Gateway as its proxies serve it at this moment: for each
listener and hostname the matches in the order in which they are tried, the backends with
their shares (those of a running release too), and what else happens to the request.

Every proxy is asked, and compared with what the API objects ask for: one that serves
something else is shown with the difference. It may be a moment behind; when it stays so,
it does not hear from Headgate, or refuses what it hears.

Reading a proxy needs the right to port-forward to its pod. --expected needs no proxy: it
shows what the API objects ask for.`,
		Example: `  kubectl headgate gateway routes front -n shop
  kubectl headgate gateway routes front -o json
  kubectl headgate gateway routes front --expected`,
		Args:              one("Gateway", "front"),
		ValidArgsFunction: a.completeGateways,
		RunE:              a.reading(&o, a.routes),
	}
	cmd.Flags().BoolVar(&o.expected, "expected", false, "show what the API objects ask for, without asking a proxy")
	cmd.Flags().StringVar(&o.pod, "pod", "", "ask this proxy only")
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "end with 1 when a proxy serves something else than expected")
	cmd.MarkFlagsMutuallyExclusive("expected", "pod")
	outputFlag(cmd, &o.output, "json", "yaml")
	return cmd
}

// expectation is what the API objects ask of the proxies of each Gateway.
type expectation struct {
	world *world.World
	graph *graph.Graph
}

func (e expectation) of(gateway types.NamespacedName) served.Config {
	snap := xds.Translate(e.graph, gateway)
	return served.FromSnapshot(snap, e.world.Endpoints(snap))
}

func (a *app) expect(ctx context.Context, c *cluster) (expectation, error) {
	w, notes, err := c.world(ctx, everyKind)
	if err != nil {
		return expectation{}, err
	}
	for _, note := range notes {
		a.note("%s", note)
	}
	return expectation{w, graph.Build(w.Resources)}, nil
}

func (a *app) routes(ctx context.Context, c *cluster, name string, o servedOptions) error {
	e, err := a.expect(ctx, c)
	if err != nil {
		return err
	}
	gw, err := c.gatewayOf(e.world, name)
	if err != nil {
		return err
	}
	key := types.NamespacedName{Namespace: gw.Namespace, Name: gw.Name}
	expected := e.of(key)
	table := view.RouteTable{Gateway: key.String(), Rows: expected.Rows()}
	if !o.expected {
		if table, err = c.servedTable(ctx, key, o.pod, expected.Rows()); err != nil {
			return err
		}
	}
	if o.output != "" {
		err = a.printPlain(table, o.output)
	} else {
		_, err = fmt.Fprint(a.streams.Out, view.Routes(table, a.style()))
	}
	if err == nil && o.exitCode && table.Differs() {
		return &exitCode{code: exitError}
	}
	return err
}

// servedTable is that of the first proxy, with what each proxy serves otherwise
// than expected.
func (c *cluster) servedTable(ctx context.Context, gateway types.NamespacedName, pod string, expected []served.Row) (view.RouteTable, error) {
	table := view.RouteTable{Gateway: gateway.String()}
	running, err := c.askable(ctx, gateway, pod)
	if err != nil {
		return table, err
	}
	var failures []string
	for _, pod := range running {
		config, err := c.servedBy(ctx, pod)
		if err != nil {
			failures = append(failures, err.Error())
			table.Proxies = append(table.Proxies, view.ServingProxy{Name: pod.Name, Problem: err.Error()})
			continue
		}
		rows := config.Rows()
		if table.ServedBy == "" {
			table.ServedBy, table.Rows = pod.Name, rows
		}
		table.Proxies = append(table.Proxies, view.ServingProxy{Name: pod.Name, Differences: served.Compare(rows, expected), Notes: config.Notes})
	}
	if table.ServedBy == "" {
		return table, fmt.Errorf("no proxy of Gateway %s can be read: %s\n--expected shows what the API objects ask for, without a proxy", gateway, strings.Join(failures, "; "))
	}
	return table, nil
}

// askable are the running proxies of a Gateway, or the one that is named.
func (c *cluster) askable(ctx context.Context, gateway types.NamespacedName, name string) ([]corev1.Pod, error) {
	pods, err := c.proxies(ctx, gateway)
	if err != nil {
		return nil, err
	}
	names := []string{}
	running := slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		names = append(names, p.Name)
		return p.Status.Phase != corev1.PodRunning || name != "" && p.Name != name
	})
	switch {
	case len(running) > 0:
		return running, nil
	case len(names) == 0:
		return nil, fmt.Errorf("Gateway %s has no proxy: 'kubectl headgate gateway status %s -n %s' says why; --expected shows what the API objects ask for", //nolint:staticcheck // a sentence, with a name in front
			gateway, gateway.Name, gateway.Namespace)
	case name != "":
		return nil, fmt.Errorf("there is no running proxy %q of Gateway %s; it has %s", name, gateway, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("no proxy of Gateway %s is running yet (%s); --expected shows what the API objects ask for", gateway, strings.Join(names, ", "))
}

func (a *app) configCommand() *cobra.Command {
	var o servedOptions
	cmd := &cobra.Command{
		Use:   "config ROUTE",
		Short: "Print the Envoy configuration of one route",
		Long: `Print what one route is in the configuration of a running proxy: its entries in the
route tables, the clusters they lead to, their endpoints, and the runtime keys that hold the
weights of a release. ROUTE is kind/name, or the name of an HTTPRoute. A route of several
Gateways is printed once for each.`,
		Example: `  kubectl headgate gateway config httproute/checkout -n shop
  kubectl headgate gateway config grpcroute/cart --gateway front
  kubectl headgate gateway config checkout --expected`,
		Args:              one("route", "httproute/checkout"),
		ValidArgsFunction: a.completeRoutes,
		RunE:              a.reading(&o, a.config),
	}
	cmd.Flags().BoolVar(&o.expected, "expected", false, "print what the API objects ask for, without asking a proxy")
	cmd.Flags().StringVar(&o.pod, "pod", "", "ask this proxy")
	cmd.Flags().StringVar(&o.gateway, "gateway", "", "of this Gateway only: NAME or NAMESPACE/NAME")
	cmd.MarkFlagsMutuallyExclusive("expected", "pod")
	outputFlag(cmd, &o.output, "yaml", "json")
	return cmd
}

// reading is a command that reads what the proxies serve of the one thing that it is given.
func (a *app) reading(o *servedOptions, run func(context.Context, *cluster, string, servedOptions) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(o.output); err != nil {
			return err
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, args[0], *o)
	}
}

func (a *app) config(ctx context.Context, c *cluster, name string, o servedOptions) error {
	e, err := a.expect(ctx, c)
	if err != nil {
		return err
	}
	route, err := c.routeOf(e.world, name)
	if err != nil {
		return err
	}
	all := []translation{}
	for _, gateway := range e.gatewaysOf(route) {
		if o.gateway != "" && o.gateway != gateway.Name && o.gateway != gateway.String() {
			continue
		}
		config := e.of(gateway)
		if !o.expected {
			pods, err := c.askable(ctx, gateway, o.pod)
			if err != nil {
				return err
			}
			if config, err = c.servedBy(ctx, pods[0]); err != nil {
				return fmt.Errorf("%w\n--expected shows what the API objects ask for, without a proxy", err)
			}
		}
		part := config.Of(route.Name())
		if part.Empty() {
			a.note("nothing of the route is in the configuration of Gateway %s: see 'kubectl headgate gateway why %s -n %s'", gateway, name, c.namespace)
			continue
		}
		document, err := part.Document()
		if err != nil {
			return err
		}
		all = append(all, translation{gateway.String(), document})
	}
	if len(all) == 0 {
		return fmt.Errorf("%s %s is served by no Gateway; 'kubectl headgate gateway why %s -n %s' says why", route.Kind, route.Key, name, c.namespace)
	}
	return a.printTranslations(all, o.output)
}

// gatewaysOf are the Gateways that a route is attached to.
func (e expectation) gatewaysOf(route world.Route) []types.NamespacedName {
	var out []types.NamespacedName
	for _, gw := range e.graph.Gateways {
		for _, l := range gw.Listeners {
			attached := slices.ContainsFunc(l.Attachments, func(at *graph.Attachment) bool {
				return string(at.Route.Kind) == route.Kind && at.Route.Key == route.Key
			})
			if attached && !slices.Contains(out, gw.Key) {
				out = append(out, gw.Key)
			}
		}
	}
	return out
}

// ours tells whether a Gateway is of a class of Headgate.
func ours(w *world.World, gw *gwv1.Gateway) bool {
	class := w.Resources.GatewayClasses[string(gw.Spec.GatewayClassName)]
	return class != nil && string(class.Spec.ControllerName) == w.Resources.ControllerName
}
