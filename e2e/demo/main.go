// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows Headgate on a real cluster: it installs it, lets visitors
// into a shop through Headgate's own Gateway, releases a good version and then a
// bad one, and ends with the numbers.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
	"headgate.dev/headgate/e2e/shop"
)

const (
	// prefix of the shop's namespace.
	prefix = "headgate-demo"
	// visitorRate is in requests per second.
	visitorRate = 400
)

// The versions of the demo. The bad one fails 5 % of its requests.
var (
	first = shop.Version{Name: "v1"}
	good  = shop.Version{Name: "v2"}
	bad   = shop.Version{Name: "v3", Env: map[string]string{"ERROR_RATE": "0.05"}}
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run ./e2e/demo    (on the cluster of KUBECONFIG, or on one brought up on this machine)")
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	begin := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	say("A Kubernetes cluster, Prometheus and Headgate …")
	var progress bytes.Buffer
	c, err := env.Connect(ctx, &progress)
	if err == nil {
		err = shop.Ground(ctx, c)
	}
	if err != nil {
		return errors.Join(err, errors.New(progress.String()))
	}
	say("A shop with version %s behind a Gateway of class headgate …", first.Name)
	s, err := openShop(ctx, c)
	if err != nil {
		return err
	}
	visitors, err := s.Visitors(ctx, visitorRate)
	if err != nil {
		return err
	}
	defer visitors.Stop()
	say("%d visitors a second come in at http://%s (Host: %s).", visitorRate, s.Address, shop.Host)

	screen := newScreen(os.Stdout)
	say("Release of version %s, a good one: kubectl apply.\n", good.Name)
	promoted, err := release(ctx, s, visitors, screen, good)
	if err != nil {
		return err
	}
	restarted, err := restarts(ctx, s, promoted)
	if err != nil {
		return err
	}
	say("Release of version %s, which fails 5 %% of its requests: kubectl apply.\n", bad.Name)
	if _, err := release(ctx, s, visitors, screen, bad); err != nil {
		return err
	}
	time.Sleep(time.Second)
	report := visitors.Stop()
	numbers(os.Stdout, s.Name, report, restarted, time.Since(begin))
	return verdict(ctx, s, report, restarted)
}

// openShop opens a new shop. That of an earlier demo goes in the background.
func openShop(ctx context.Context, c *env.Cluster) (*shop.Shop, error) {
	if err := closeOld(ctx, c); err != nil {
		return nil, err
	}
	space, err := c.NewSpace(ctx, prefix)
	if err != nil {
		return nil, err
	}
	opened, err := shop.Open(ctx, space, 3, first)
	if err != nil {
		return nil, err
	}
	if err := opened.Apply(ctx, shop.QuickCanary); err != nil {
		return nil, err
	}
	return opened, opened.WaitCanary(ctx, "the Canary to be at rest", 30*time.Second, func(c *v1beta1.Canary) bool {
		return c.Status.Phase == v1beta1.PhaseIdle
	})
}

func closeOld(ctx context.Context, c *env.Cluster) error {
	var namespaces corev1.NamespaceList
	if err := c.Client.List(ctx, &namespaces); err != nil {
		return fmt.Errorf("looking for the shop of an earlier demo: %w", err)
	}
	for _, ns := range namespaces.Items {
		if strings.HasPrefix(ns.Name, prefix+"-") {
			if err := c.Client.Delete(ctx, &ns); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("removing the shop of an earlier demo: %w", err)
			}
		}
	}
	return nil
}

// release applies a version and shows what happens until the release is over. It
// returns the pods that the version had when it got all traffic.
func release(ctx context.Context, s *shop.Shop, visitors *load.Run, screen *screen, v shop.Version) (map[string]bool, error) {
	attempt := int64(1)
	if c, err := s.Canary(ctx); err != nil {
		return nil, err
	} else if c.Status.Release != nil {
		attempt = c.Status.Release.Attempt + 1
	}
	if err := s.Deploy(ctx, v); err != nil {
		return nil, err
	}
	pods := map[string]bool{}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		c, err := s.Canary(ctx)
		if err != nil {
			return nil, err
		}
		screen.draw(c, visitors.Snapshot(), time.Now())
		r := c.Status.Release
		if r != nil && r.Attempt == attempt {
			if c.Status.Weight == 100 && len(pods) < s.Replicas {
				list, err := s.Pods(ctx, v.Name)
				if err != nil {
					return nil, err
				}
				for _, p := range list {
					pods[p.Name] = true
				}
			}
			if r.Outcome != "" && (r.FinishedAt != nil || c.Status.Phase == v1beta1.PhaseRolledBack) {
				screen.end()
				return pods, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the release of %s did not end: %s", v.Name, shop.Summary(c))
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// restarts counts the pods of the promoted version that did not survive its
// promotion.
func restarts(ctx context.Context, s *shop.Shop, promoted map[string]bool) (int, error) {
	pods, err := s.Pods(ctx, good.Name)
	if err != nil {
		return 0, err
	}
	alive := map[string]bool{}
	restarted := 0
	for _, p := range pods {
		alive[p.Name] = true
		for _, status := range p.Status.ContainerStatuses {
			restarted += int(status.RestartCount)
		}
	}
	for name := range promoted {
		if !alive[name] {
			restarted++
		}
	}
	return restarted, nil
}

// verdict is the demo's own test: it fails when what it shows is not true.
func verdict(ctx context.Context, s *shop.Shop, report load.Report, restarted int) error {
	c, err := s.Canary(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if n := report.NotCaused(); n > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed that no version caused:\n%s", n, report))
	}
	if restarted > 0 {
		errs = append(errs, fmt.Errorf("%d pods were restarted by the promotion", restarted))
	}
	if c.Status.Phase != v1beta1.PhaseRolledBack || c.Status.Release.Outcome != v1beta1.OutcomeRolledBack {
		errs = append(errs, fmt.Errorf("the bad version was not rolled back: %s", shop.Summary(c)))
	}
	if report.Versions[good.Name].Requests == 0 {
		errs = append(errs, errors.New("the good version served nobody"))
	}
	return errors.Join(errs...)
}
