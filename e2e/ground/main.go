// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command ground prepares the cluster of KUBECONFIG, or this machine's node, for
// test suites from elsewhere: it installs the Gateway API's CRDs and Headgate, makes
// the images that are named, and prints the kubeconfig.
//
//	go run ./e2e/ground [-channel standard|experimental] [image ...]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"headgate.dev/headgate/e2e/env"
)

func main() {
	channel := flag.String("channel", env.Standard, "channel of the Gateway API's CRDs: standard or experimental")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := prepare(ctx, *channel, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ground:", err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context, channel string, images []string) error {
	c, err := env.Connect(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if err := c.InstallGatewayAPI(ctx, channel); err != nil {
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
	_, err = fmt.Println(c.Kubeconfig)
	return err
}
