// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command headgate is the operator: the canary half, the gateway half and the
// control plane of its proxies in one process. "headgate shutdown-manager" is
// the sidecar that lets a proxy leave without a failed request.
package main

import (
	"context"
	"fmt"
	"os"
	"time"
	_ "time/tzdata" // the image has no time zones; release windows name them

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/controllers/canary"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := command().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintf(os.Stderr, "headgate: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "headgate",
		Short:         "Progressive delivery that brings its own gateway",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	o.bind(cmd.Flags(), os.Getenv)
	cmd.AddCommand(shutdownCommand())
	return cmd
}

func run(ctx context.Context, o options) error {
	log, err := o.logger(os.Stderr)
	if err != nil {
		return err
	}
	ctrl.SetLogger(log)
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	mgr, err := newManager(ctx, cfg, o)
	if err != nil {
		return err
	}
	store := envoystats.New(time.Now)
	var diversions *canary.Diversions // none without proxies of our own
	if o.gatewayEnabled {
		xds, err := addGateway(ctx, mgr, o, store, log)
		if err != nil {
			return err
		}
		diversions = canary.NewDiversions(xds)
	}
	if err := addCanary(ctx, mgr, o, store, diversions); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
