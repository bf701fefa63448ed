// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package xds_test

import (
	"testing"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/goldens"
	"headgate.dev/headgate/dataplane/xds"
)

// FuzzTranslate takes anything that the types of the API can hold, and what users
// plausibly write, through Build and Translate: nothing panics, every reference holds,
// and every message passes the rules of Envoy's own schema.
func FuzzTranslate(f *testing.F) {
	for seed := range int64(300) {
		f.Add(seed)
	}
	pair := keyPair(f)
	f.Fuzz(func(t *testing.T, seed int64) {
		plausible := goldens.Plausible(seed, [5]int32{80, 8080, 443, 9000, 5353}, pair)
		for _, r := range []graph.Resources{goldens.Arbitrary(seed), plausible} {
			g := graph.Build(r)
			for _, gw := range g.Gateways {
				checkSnapshot(t, xds.Translate(g, gw.Key))
			}
		}
		if g := graph.Build(plausible); len(xds.Translate(g, goldens.PlausibleGateway).Listeners) == 0 {
			t.Error("nothing of a plausible world is served")
		}
	})
}

// keyPair is the Secret of a golden case.
func keyPair(tb testing.TB) map[string][]byte {
	for _, c := range goldens.Cases(tb) {
		for _, secret := range c.Resources.Secrets {
			if len(graph.Build(c.Resources).Gateways) > 0 && len(secret.Data["tls.crt"]) > 0 {
				return secret.Data
			}
		}
	}
	tb.Fatal("no golden case has a key pair")
	return nil
}
