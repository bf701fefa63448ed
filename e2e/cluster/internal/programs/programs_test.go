// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a nested module that needs no download.
func module(t *testing.T, source, name string, files map[string]string) {
	t.Helper()
	dir := filepath.Join(source, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const hello = "package main\n\nfunc main() { println(\"hello\") }\n"

func TestEnsureBuildsOnce(t *testing.T) {
	source := t.TempDir()
	module(t, source, "hello", map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26\n", "go.sum": "", "main.go": hello})
	var out bytes.Buffer
	b := Builder{Source: source, Cache: filepath.Join(t.TempDir(), "cache"), Out: &out}
	p := Program{Name: "hello", Packages: []string{"."}, Links: []string{"hi"}}
	first, err := b.Ensure(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "built hello in ") {
		t.Errorf("printed %q, want how long it took", out.String())
	}
	for _, name := range []string{"hello", "hi"} {
		if info, err := os.Stat(filepath.Join(first, name)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: %v, want a program", name, err)
		}
	}
	out.Reset()
	second, err := b.Ensure(context.Background(), p)
	if err != nil || second != first || out.Len() > 0 {
		t.Errorf("again: %q, %v, printed %q; want %q without a build", second, err, out.String(), first)
	}

	module(t, source, "hello", map[string]string{"main.go": "package main\n\nfunc main() { undefined() }\n"})
	if _, err := b.Ensure(context.Background(), p); err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("a broken program: %v, want what the compiler says", err)
	}
	entries, err := os.ReadDir(b.Cache)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache has %d entries (%v), want only the good build", len(entries), err)
	}
}

func TestVersionChangesWithEverythingThatMatters(t *testing.T) {
	files := map[string]string{"go.mod": "module example.com/x\n", "go.sum": "", "main.go": hello}
	key := func(p Program, files map[string]string) string {
		t.Helper()
		source := t.TempDir()
		module(t, source, "x", files)
		got, _, err := Builder{Source: source}.version(p)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	with := func(name, content string) map[string]string {
		changed := map[string]string{"go.mod": files["go.mod"], "go.sum": files["go.sum"], "main.go": files["main.go"]}
		changed[name] = content
		return changed
	}
	p := Program{Name: "x", Packages: []string{"."}}
	base := key(p, files)
	if key(p, files) != base {
		t.Error("the same sources give different versions")
	}
	for name, got := range map[string]string{
		"go.mod":  key(p, with("go.mod", "module example.com/x\n\nrequire y v1.0.0\n")),
		"go.sum":  key(p, with("go.sum", "y v1.0.0 h1:…\n")),
		"main.go": key(p, with("main.go", hello+"\n")),
		"a file":  key(p, with("more.go", "package main\n")),
		"tags":    key(Program{Name: "x", Packages: []string{"."}, Tags: "netgo"}, files),
		"links":   key(Program{Name: "x", Packages: []string{"."}, Links: []string{"y"}}, files),
	} {
		if got == base {
			t.Errorf("a change of %s does not change the version", name)
		}
	}
	t.Setenv("GOTOOLCHAIN", "go1.99.1")
	if key(p, files) == base {
		t.Error("another toolchain does not change the version")
	}
}

func TestToolchain(t *testing.T) {
	for set, pinned := range map[string]bool{"go1.27.4": true, "auto": false, "local": false, "": false} {
		t.Setenv("GOTOOLCHAIN", set)
		got := Toolchain()
		if pinned && got != set {
			t.Errorf("GOTOOLCHAIN=%q gives %q", set, got)
		}
		if !strings.HasPrefix(got, "go1.") && !strings.HasPrefix(got, "devel") || strings.Contains(got, " ") {
			t.Errorf("GOTOOLCHAIN=%q gives %q, want the name of a release", set, got)
		}
	}
}

// The real nested modules: each exists, and Kubernetes gets its own version.
func TestPinnedPrograms(t *testing.T) {
	b := Builder{Source: filepath.Join("..", "..", "programs")}
	for _, p := range All() {
		_, ldflags, err := b.version(p)
		if err != nil {
			t.Error(err)
		}
		if p.Name == "kubernetes" && !strings.Contains(ldflags, "gitVersion=v1.") {
			t.Errorf("kubernetes is linked with %q, want its version in it", ldflags)
		}
	}
}

func TestNamed(t *testing.T) {
	if got, err := Named("helm", "etcd"); err != nil || len(got) != 2 {
		t.Errorf("Named = %v, %v", got, err)
	}
	if _, err := Named("helm", "hlem"); err == nil || !strings.Contains(err.Error(), `"hlem"`) || !strings.Contains(err.Error(), "etcd") {
		t.Errorf("Named of a misspelt program: %v, want it and the known names", err)
	}
}
