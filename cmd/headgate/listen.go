// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/analysis/trial"
)

// listen leads what the proxies report to those who follow a release.
func listen(store *envoystats.Store) func(analysis.Subject) measure.Tap {
	return func(s analysis.Subject) measure.Tap {
		return tap{store.Open(envoystats.Versions{
			Gateways: s.Gateways, Stable: upstreams(s.Namespace, s.StableVersion), Canary: upstreams(s.Namespace, s.CanaryVersion),
		})}
	}
}

func upstreams(namespace string, v analysis.Version) []string {
	var out []string
	for _, port := range v.Ports {
		out = append(out, fmt.Sprintf("%s/%s/%d", namespace, v.Service, port))
	}
	return out
}

// tap is a Tap of package envoystats in the words of the analysis.
type tap struct{ *envoystats.Tap }

func (t tap) Take(since time.Time) analysis.Reading {
	r := t.Tap.Take(since)
	out := analysis.Reading{Stable: armOf(r.Stable), Canary: armOf(r.Canary), Proxies: r.Proxies, Newest: r.Newest, Usual: r.Usual}
	for _, p := range r.StablePods {
		out.StablePods = append(out.StablePods, trial.Pod(p))
	}
	return out
}

func armOf(a envoystats.Arm) trial.Arm { return trial.Arm{Requests: a.Requests, Latency: a.Latency} }
