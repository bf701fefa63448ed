// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command loadgen sends requests at a constant rate and reports per version.
//
//	go run ./e2e/load/loadgen -host shop.example -rate 200 -for 30s http://10.250.0.1/
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"headgate.dev/headgate/e2e/load"
)

func main() {
	var o load.Options
	flag.StringVar(&o.Host, "host", "", "Host header; default: that of the URL")
	flag.Float64Var(&o.Rate, "rate", 100, "requests per second")
	flag.DurationVar(&o.Duration, "for", 10*time.Second, "how long")
	flag.DurationVar(&o.Timeout, "timeout", 5*time.Second, "timeout of one request")
	protocol := flag.String("protocol", string(load.HTTP1), "http1, h2c, h2 or grpc")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: loadgen [flags] URL")
		flag.PrintDefaults()
		os.Exit(2)
	}
	o.URL, o.Protocol = flag.Arg(0), load.Protocol(*protocol)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	report, err := load.Do(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(2)
	}
	fmt.Print(report)
	if report.NotCaused() > 0 {
		os.Exit(1)
	}
}
