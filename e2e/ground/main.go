// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command ground prepares the cluster of KUBECONFIG, or this machine's node, for
// test suites from elsewhere: it installs the Gateway API's CRDs and Headgate, makes
// the images that are named, and prints the kubeconfig.
//
//	go run ./e2e/ground [-channel standard|experimental [-exact]] [image ...]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"

	"headgate.dev/headgate/dataplane/status"
	"headgate.dev/headgate/e2e/env"
)

func main() {
	channel := flag.String("channel", env.Standard, "channel of the Gateway API's CRDs: standard or experimental")
	exact := flag.Bool("exact", false, "have this channel and no other, also where experimental CRDs would do for standard")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := prepare(ctx, *channel, *exact, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ground:", err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context, channel string, exact bool, images []string) error {
	c, err := env.Connect(ctx, os.Stderr)
	if err != nil {
		return err
	}
	install := c.InstallGatewayAPI
	if exact {
		install = c.SwitchGatewayAPI
	}
	if err := install(ctx, channel); err != nil {
		return err
	}
	for _, image := range images {
		if _, err := c.Image(ctx, image); err != nil {
			return err
		}
	}
	if err := c.InstallHeadgate(ctx, nil); err != nil {
		return err
	}
	if err := waitPublished(ctx, c, channel == env.Experimental); err != nil {
		return err
	}
	_, err = fmt.Println(c.Kubeconfig)
	return err
}

// waitPublished waits until the class publishes the features of this source tree:
// after an upgrade it shows those of the version before for a moment, and suites
// choose their tests by them.
func waitPublished(ctx context.Context, c *env.Cluster, experimental bool) error {
	want := status.SupportedFeatures(experimental)
	return c.Wait(ctx, "GatewayClass headgate to publish its features", time.Minute, func(ctx context.Context) (bool, string, error) {
		var class gwv1.GatewayClass
		if err := c.Client.Get(ctx, client.ObjectKey{Name: "headgate"}, &class); err != nil {
			return false, "", err
		}
		seen := make([]features.FeatureName, 0, len(want))
		for _, f := range class.Status.SupportedFeatures {
			seen = append(seen, features.FeatureName(f.Name))
		}
		return slices.Equal(seen, want), fmt.Sprint(seen), nil
	})
}
