// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package programs builds the pinned programs of the test node, once per
// version. A version is a hash of everything that decides the result: the
// nested module's files, the build flags and the toolchain.
package programs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Program is one nested module and what is built from it.
type Program struct {
	// Name is the module's folder below e2e/cluster/programs.
	Name string
	// Packages are built into one binary each, named after the last path element.
	Packages []string
	Tags     string
	// Links are further names for the first binary.
	Links []string
	// version of this module is stamped into the binary as Kubernetes expects it.
	stamp string
}

// All lists the programs, the longest build last, so that a first failure is early.
func All() []Program {
	return []Program{
		{Name: "etcd", Packages: []string{"."}},
		{
			Name: "containerd",
			// No cgo, hence no snapshotters that need a C library.
			Tags: "no_btrfs no_zfs no_devmapper",
			Packages: []string{
				"github.com/containerd/containerd/v2/cmd/containerd",
				"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
				"github.com/containerd/containerd/v2/cmd/ctr",
			},
		},
		{Name: "coredns", Packages: []string{"."}},
		{
			Name:     "prometheus",
			Tags:     "remove_all_sd enable_kubernetes_sd",
			Packages: []string{"github.com/prometheus/prometheus/cmd/prometheus"},
		},
		{Name: "echo", Packages: []string{"sigs.k8s.io/gateway-api-conformance-images/echo-basic"}},
		{Name: "helm", Packages: []string{"helm.sh/helm/v3/cmd/helm"}},
		{
			Name:     "kubernetes",
			Packages: []string{"."},
			Links:    []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"},
			stamp:    "k8s.io/kubernetes",
		},
	}
}

// Named returns the programs of these names; an unknown name is an error that lists the known ones.
func Named(names ...string) ([]Program, error) {
	var found []Program
	var known []string
	for _, p := range All() {
		known = append(known, p.Name)
		if slices.Contains(names, p.Name) {
			found = append(found, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no program %q; name one of %s", name, strings.Join(known, ", "))
		}
	}
	return found, nil
}

// Builder builds programs of one source tree into one cache.
type Builder struct {
	// Source is the folder e2e/cluster/programs.
	Source string
	// Cache gets one folder per program and version.
	Cache string
	// Out gets one line per build.
	Out io.Writer
}

// Ensure returns the folder that holds the program's binaries, building them
// when this version is not there yet.
func (b Builder) Ensure(ctx context.Context, p Program) (string, error) {
	key, ldflags, err := b.version(p)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	dir := filepath.Join(b.Cache, p.Name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	// Built beside and renamed: a folder under its final name is always complete.
	next, err := os.MkdirTemp(b.Cache, ".building-")
	if err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	defer os.RemoveAll(next) //nolint:errcheck // gone already when the build succeeded
	begin := time.Now()
	fmt.Fprintf(b.Out, "building %s …\n", p.Name)
	args := []string{"build", "-trimpath", "-ldflags", ldflags, "-o", next + "/"}
	if p.Tags != "" {
		args = append(args, "-tags", p.Tags)
	}
	if err := Go(ctx, filepath.Join(b.Source, p.Name), append(args, p.Packages...)...); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	for _, link := range p.Links {
		if err := os.Symlink(p.Name, filepath.Join(next, link)); err != nil {
			return "", fmt.Errorf("building %s: %w", p.Name, err)
		}
	}
	if err := os.Chmod(next, 0o755); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	if err := os.Rename(next, dir); err != nil {
		return "", fmt.Errorf("building %s: %w", p.Name, err)
	}
	fmt.Fprintf(b.Out, "built %s in %s\n", p.Name, time.Since(begin).Round(100*time.Millisecond))
	return dir, nil
}

// version returns the hash that names a build, and the linker flags of that build.
func (b Builder) version(p Program) (key, ldflags string, err error) {
	dir := filepath.Join(b.Source, p.Name)
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	for _, path := range append([]string{filepath.Join(dir, "go.mod"), filepath.Join(dir, "go.sum")}, sources...) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", "", err
		}
		fmt.Fprintf(h, "%s %d\n%s\n", filepath.Base(path), len(data), data)
	}
	if ldflags, err = p.ldflags(dir); err != nil {
		return "", "", err
	}
	fmt.Fprintln(h, Toolchain(), runtime.GOARCH, p.Tags, ldflags, p.Packages, p.Links)
	return hex.EncodeToString(h.Sum(nil))[:12], ldflags, nil
}

// ldflags strips symbols, which halves the binaries. kubelet and API server
// refuse to work together when their own version is unknown, so it is stamped.
func (p Program) ldflags(dir string) (string, error) {
	const strip = "-s -w"
	if p.stamp == "" {
		return strip, nil
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(p.stamp) + ` v(\d+)\.(\d+)\.(\d+)$`).FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("%s/go.mod requires no release of %s", dir, p.stamp)
	}
	const at = "k8s.io/component-base/version"
	return fmt.Sprintf("%s -X %s.gitVersion=v%s.%s.%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
		strip, at, m[1], m[2], m[3], at, m[1], at, m[2]), nil
}

// Toolchain is the GOTOOLCHAIN of every build: the one that runs now, so that
// two shells with different defaults share one cache.
func Toolchain() string {
	if set := os.Getenv("GOTOOLCHAIN"); strings.HasPrefix(set, "go1.") {
		return set
	}
	version, _, _ := strings.Cut(runtime.Version(), " ") // "go1.27.4 X:…" when experiments are on
	return version
}

// Go runs the go command in dir, statically and with the pinned toolchain. A
// failure carries what the command printed.
func Go(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN="+Toolchain(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("no go command in PATH")
	}
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
