// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scenarios releases versions of a shop on a real cluster while visitors
// come through Envoy, and does to the release what users, faults and enemies do.
// Whatever happens, no visitor may see a failure that the version under test did
// not cause itself.
package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/e2e/env"
	"headgate.dev/headgate/e2e/load"
	"headgate.dev/headgate/e2e/shop"
)

// rate of visitors: at 5 % enough for a verdict in seconds.
const rate = 200

// Versions of the app that scenarios release.
var (
	v1     = shop.Version{Name: "v1"}
	v2     = shop.Version{Name: "v2"}
	v3     = shop.Version{Name: "v3"}
	broken = shop.Version{Name: "broken", Env: map[string]string{"ERROR_RATE": "0.2"}}
)

// ground is the cluster with Headgate on it; the first scenario prepares it.
func ground(t *testing.T) *env.Cluster {
	t.Helper()
	c := env.ForTest(t)
	if err := prepare(c); err != nil {
		t.Fatal(err)
	}
	return c
}

// scene is a shop with a Canary at rest and visitors coming in.
type scene struct {
	*shop.Shop
	t        *testing.T
	visitors *load.Run
	// before is what the user's objects were before the Canary came.
	before map[string]string
}

// open opens the shop with v1, applies the Canary and lets visitors in.
func open(t *testing.T, canary string) *scene {
	t.Helper()
	return openAs(t, canary, shop.Open)
}

// openAs is open for the kind of shop that opens so.
func openAs(t *testing.T, canary string, opens func(context.Context, *env.Space, int, shop.Version) (*shop.Shop, error)) *scene {
	t.Helper()
	c := ground(t)
	space := c.SpaceForTest(t, "shop")
	s, err := opens(t.Context(), space, 3, v1)
	if err != nil {
		t.Fatal(err)
	}
	sc := &scene{Shop: s, t: t}
	sc.before = sc.users()
	sc.must(s.Apply(t.Context(), canary))
	sc.waitPhase(v1beta1.PhaseIdle)
	sc.visitors, err = s.Visitors(t.Context(), rate)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// close lets the last visitors out and holds the promise of the package.
func (sc *scene) close() load.Report {
	sc.t.Helper()
	time.Sleep(500 * time.Millisecond)
	report := sc.visitors.Stop()
	sc.t.Log(report.String())
	if report.NotCaused() > 0 {
		sc.t.Errorf("%d requests failed that no version caused:\n%s", report.NotCaused(), report)
	}
	for version, stats := range report.Versions {
		if version != broken.Name && stats.Errors > 0 {
			sc.t.Errorf("version %s failed %d requests; it is a healthy one", version, stats.Errors)
		}
	}
	return report
}

func (sc *scene) must(err error) {
	sc.t.Helper()
	if err != nil {
		sc.t.Fatal(err)
	}
}

func (sc *scene) deploy(v shop.Version) {
	sc.t.Helper()
	sc.must(sc.Deploy(sc.t.Context(), v))
}

func (sc *scene) waitFor(what string, fits func(*v1beta1.Canary) bool) {
	sc.t.Helper()
	sc.must(sc.WaitCanary(sc.t.Context(), what, 90*time.Second, fits))
}

func (sc *scene) waitPhase(p v1beta1.Phase) {
	sc.t.Helper()
	sc.waitFor("phase "+string(p), func(c *v1beta1.Canary) bool { return c.Status.Phase == p })
}

func (sc *scene) waitWeight(least int32) {
	sc.t.Helper()
	sc.waitFor(fmt.Sprintf("weight %d", least), func(c *v1beta1.Canary) bool { return c.Status.Weight >= least })
}

// waitOutcome waits until the attempt ended this way and everything is restored.
func (sc *scene) waitOutcome(attempt int64, want v1beta1.Outcome) *v1beta1.ReleaseProgress {
	sc.t.Helper()
	var r *v1beta1.ReleaseProgress
	sc.waitFor("outcome "+string(want), func(c *v1beta1.Canary) bool {
		r = c.Status.Release
		return r != nil && r.Attempt == attempt && r.Outcome == want && r.FinishedAt != nil
	})
	return r
}

// serves checks that only this version's pods are left, and that the visitors of
// the last moments were all served by it.
func (sc *scene) serves(v shop.Version) {
	sc.t.Helper()
	report, err := load.Do(sc.t.Context(), sc.Requests(100, time.Second))
	sc.must(err)
	if n := report.Versions[v.Name].Requests; n != report.Requests {
		sc.t.Errorf("%d of %d requests were served by %s, want all:\n%s", n, report.Requests, v.Name, report)
	}
}

// users gives the user's objects without what the API server writes itself. The
// Deployment's version may change; a release changes nothing else.
func (sc *scene) users() map[string]string {
	sc.t.Helper()
	out := map[string]string{}
	for _, o := range []struct{ api, kind string }{
		{"v1", "Service"}, {"gateway.networking.k8s.io/v1", sc.RouteKind()}, {"apps/v1", "Deployment"},
	} {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(o.api)
		u.SetKind(o.kind)
		sc.must(sc.Client.Get(sc.t.Context(), sc.Key(shop.Name), u))
		metadata := map[string]any{"labels": toAny(without(u.GetLabels(), v1beta1.LabelHold)), "annotations": toAny(without(u.GetAnnotations(), "deployment.kubernetes.io/revision"))}
		spec, _, _ := unstructured.NestedMap(u.Object, "spec")
		if o.kind == "Deployment" {
			delete(spec, "template")
		}
		text, err := json.MarshalIndent(map[string]any{"metadata": metadata, "spec": spec}, "", " ")
		sc.must(err)
		out[o.kind] = string(text)
	}
	return out
}

func without(m map[string]string, key string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

func toAny(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// restored checks that the user's objects are what they were, except for fields
// that the scenario itself changed, and that nothing of Headgate's is left.
func (sc *scene) restored(changed ...string) {
	sc.t.Helper()
	now := sc.users()
	for kind, was := range sc.before {
		if !slices.Contains(changed, kind) {
			if diff := cmp.Diff(was, now[kind]); diff != "" {
				sc.t.Errorf("%s is not as the user wrote it (-was +is):\n%s", kind, diff)
			}
		}
	}
	var services corev1.ServiceList
	sc.must(sc.Client.List(sc.t.Context(), &services, client.InNamespace(sc.Name)))
	for _, s := range services.Items {
		if strings.HasSuffix(s.Name, "-canary") {
			sc.t.Errorf("Service %s is left", s.Name)
		}
	}
}
