// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stage is one line of the table.
type stage struct {
	name string
	// does says in a few words what the stage shows.
	does string
	// needs are the stages whose work it builds on.
	needs []string
	// onDemand stages run only when they are named.
	onDemand bool
	run      func(context.Context, *run) error
}

func stages() []stage {
	return []stage{
		{name: "unit", does: "tests that need nothing but Go", run: unit},
		{name: "lint", does: "style, purity and the one-way imports", run: lint},
		{name: "generated", does: "generated files are what make generate writes", run: command("make", "verify")},
		{name: "programs", does: "the API server, Envoy and Prometheus that the next stages run", run: programs},
		{name: "integration", does: "tests with a real API server, Envoy and Prometheus", needs: []string{"programs"}, run: integration},
		{name: "race", does: "what runs concurrently, under the race detector", needs: []string{"programs"}, run: race},
		{name: "cluster", does: "a real node, or the cluster of KUBECONFIG", run: cluster},
		{name: "e2e", does: "releases on the cluster with traffic flowing", needs: []string{"cluster"}, run: e2e},
		{name: "conformance", does: "the tests of the Gateway API's own suite that cover every kind", needs: []string{"cluster"}, run: command("make", "conformance-ci")},
		{name: "recovery", does: "the node comes back from whatever is done to it, and leaves nothing", needs: []string{"cluster"}, run: recovery},
		{name: "fuzz", does: "every fuzz target for FUZZTIME", onDemand: true, run: fuzz},
	}
}

// unit runs every package; a test that needs a program or a cluster skips itself.
func unit(ctx context.Context, r *run) error {
	return r.test(ctx, []string{"./..."})
}

func lint(ctx context.Context, r *run) error {
	if err := r.command(ctx, "make", "lint"); err != nil {
		return err
	}
	// A test of integration shows that the rules catch what they are for.
	program, err := r.output(ctx, "make", "tool-golangci-lint")
	if err != nil {
		return err
	}
	r.set("GOLANGCI_LINT", strings.TrimSpace(program))
	return nil
}

// integration runs the packages of unit again: what did not look at the new
// variables comes from the cache, what was skipped for want of them now runs.
func integration(ctx context.Context, r *run) error {
	return r.test(ctx, []string{"./..."}, "-timeout=20m")
}

func race(ctx context.Context, r *run) error {
	packages, err := r.packages(ctx, func(path string) bool {
		// Pure packages start nothing.
		return strings.HasPrefix(path, "controllers/") && !strings.HasPrefix(path, "controllers/rollout") || strings.HasPrefix(path, "dataplane/server") ||
			strings.HasPrefix(path, "analysis/measure") || strings.HasPrefix(path, "analysis/prometheus") || strings.HasPrefix(path, "cmd/headgate")
	})
	if err != nil || len(packages) == 0 {
		return err
	}
	return r.test(ctx, packages, "-race", "-timeout=20m")
}

// programs builds what is pinned and tells the tests where it is.
func programs(ctx context.Context, r *run) error {
	built := map[string]string{}
	out, err := r.output(ctx, "go", "run", "./e2e/cluster", "build")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if name, path, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			built[name] = path
		}
	}
	for _, name := range []string{"etcd", "kubernetes", "helm", "prometheus", "envoy"} {
		if built[name] == "" {
			return fmt.Errorf("go run ./e2e/cluster build did not say where %s is", name)
		}
	}
	// envtest wants its three programs in one folder.
	assets, err := os.MkdirTemp("", "headgate-assets-")
	if err != nil {
		return err
	}
	r.remove = append(r.remove, assets)
	for name, target := range map[string]string{
		"etcd":           filepath.Join(built["etcd"], "etcd"),
		"kube-apiserver": filepath.Join(built["kubernetes"], "kube-apiserver"),
		"kubectl":        filepath.Join(built["kubernetes"], "kubectl"),
	} {
		if err := os.Symlink(target, filepath.Join(assets, name)); err != nil {
			return err
		}
	}
	r.set("KUBEBUILDER_ASSETS", assets)
	r.set("PROMETHEUS", filepath.Join(built["prometheus"], "prometheus"))
	r.set("HELM", filepath.Join(built["helm"], "helm"))
	r.set("ENVOY", built["envoy"])
	return nil
}

// cluster brings our own node up unless KUBECONFIG names a cluster. A node that
// this run has started is stopped at the end.
func cluster(ctx context.Context, r *run) error {
	if r.kubeconfig != "" {
		fmt.Fprintln(r.out, "using the cluster that KUBECONFIG names")
		r.set("KUBECONFIG", r.kubeconfig)
		return nil
	}
	if _, err := r.output(ctx, "go", "run", "./e2e/cluster", "status"); err != nil {
		r.after = append(r.after, func(ctx context.Context) error {
			return r.command(ctx, "go", "run", "./e2e/cluster", "down")
		})
	}
	if err := r.command(ctx, "go", "run", "./e2e/cluster", "up"); err != nil {
		return err
	}
	kubeconfig, err := r.output(ctx, "go", "run", "./e2e/cluster", "kubeconfig")
	if err != nil {
		return err
	}
	r.set("KUBECONFIG", strings.TrimSpace(kubeconfig))
	return nil
}

func e2e(ctx context.Context, r *run) error {
	r.live = true
	defer func() { r.live = false }()
	return r.test(ctx, []string{"./e2e/..."}, "-count=1", "-p=1", "-timeout=45m")
}

// recovery kills and stops the node, so it comes last and only where this run has
// started the node: nobody else uses it then.
func recovery(ctx context.Context, r *run) error {
	if len(r.after) == 0 {
		fmt.Fprintln(r.out, "left out: the cluster was there before this run; make cluster-down first to include it")
		return nil
	}
	return r.test(ctx, []string{"./e2e/cluster", "-disturb"}, "-count=1", "-run=TestUpRecovers", "-timeout=20m")
}

func fuzz(ctx context.Context, r *run) error {
	packages, err := r.packages(ctx, func(string) bool { return true })
	if err != nil {
		return err
	}
	budget := cmp.Or(os.Getenv("FUZZTIME"), "10s")
	for _, p := range packages {
		names, err := r.output(ctx, "go", "test", "-list", "^Fuzz", p)
		if err != nil {
			return err
		}
		for name := range strings.FieldsSeq(names) {
			if !strings.HasPrefix(name, "Fuzz") {
				continue
			}
			if err := r.command(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+name+"$", "-fuzztime", budget, p); err != nil {
				return err
			}
		}
	}
	return nil
}
