// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"headgate.dev/headgate/dataplane/drain"
	"headgate.dev/headgate/dataplane/infra"
)

// shutdownCommand is the sidecar of a proxy. Its flags are written by package infra.
func shutdownCommand() *cobra.Command {
	var listen string
	logging := options{logLevel: "info", logFormat: "json"}
	o := drain.Options{Path: infra.DrainPath, TokenHeader: infra.DrainTokenHeader, Notice: 3 * time.Second}
	cmd := &cobra.Command{
		Use:   "shutdown-manager",
		Short: "Let the proxy beside it leave without a failed request",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Token = os.Getenv(infra.DrainTokenEnv); o.Token == "" {
				return fmt.Errorf("%s is empty: it is set by the Deployment of the Gateway", infra.DrainTokenEnv)
			}
			if o.DrainTime < o.Notice || o.MaxTime < o.DrainTime {
				return fmt.Errorf("--drain-time=%s must be at least %s and at most --max-drain-time=%s", o.DrainTime, o.Notice, o.MaxTime)
			}
			var err error
			if o.Log, err = logging.logger(os.Stderr); err != nil {
				return err
			}
			return serveHTTP(cmd.Context(), listen, drain.Handler(o))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":19002", "address the kubelet asks")
	cmd.Flags().StringVar(&o.Admin, "admin", "http://127.0.0.1:19000", "URL of Envoy's admin interface")
	cmd.Flags().DurationVar(&o.DrainTime, "drain-time", 20*time.Second, "how long to wait for idle connections to be closed by their clients")
	cmd.Flags().DurationVar(&o.MaxTime, "max-drain-time", time.Minute, "how long to wait for requests that still run")
	return cmd
}

// serveHTTP serves until ctx ends, and lets answers under way finish.
func serveHTTP(ctx context.Context, address string, handler http.Handler) error {
	srv := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(grace)
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	return <-stopped
}
