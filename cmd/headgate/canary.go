// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/analysis/sources"
	"headgate.dev/headgate/controllers/canary"
	"headgate.dev/headgate/controllers/canary/meter"
)

const (
	// askedAtATime bounds the questions to metrics' sources that are under way, and with
	// them the memory that their answers take.
	askedAtATime = 16
	// longestQuestion is longer than the longest time-out of a metric, 5 minutes.
	longestQuestion = 6 * time.Minute
)

// addCanary adds the operator half: the reconciler of Canaries and what measures
// for it.
func addCanary(ctx context.Context, mgr manager.Manager, o options, store *envoystats.Store, diversions *canary.Diversions) error {
	direct, err := directClient(mgr)
	if err != nil {
		return err
	}
	source, err := sources.New(sources.Options{PrometheusAddress: o.prometheusAddress, Client: direct, Now: time.Now})
	if err != nil {
		return fmt.Errorf("reading --prometheus-address: %w", err)
	}
	answered := make(chan types.NamespacedName, 64)
	measurer := measure.New(ctx, measure.Options{
		Ask: source.Ask, Listen: listen(store), Now: time.Now, OnFail: diversions.Fail,
		Broke: func(key types.NamespacedName, what any, stack []byte) {
			mgr.GetLogger().WithName("analysis").Error(fmt.Errorf("%v", what), "the analysis of a release panicked: it holds until a person decides", "canary", key, "stack", string(stack))
		},
		Concurrency: askedAtATime, Timeout: longestQuestion,
		Notify: func(key types.NamespacedName) {
			select {
			case answered <- key:
			case <-ctx.Done():
			}
		},
	})
	releases := meter.New(time.Now)
	if err := metrics.Registry.Register(releases); err != nil {
		return fmt.Errorf("registering the metrics of releases: %w", err)
	}
	return canary.Add(mgr, canary.Options{
		Measurer: measurer, Answered: answered, Diversions: diversions, Meter: releases, Now: time.Now, WatchNamespaces: o.watchNamespaces,
	})
}
