// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func build(t *testing.T, spec Spec) v1.Image {
	t.Helper()
	image, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestSameContentGivesTheSameImage(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(binary, []byte("\x7fELF…"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := File{Path: "/usr/bin/program", Source: binary}
	b := File{Path: "/etc/config", Content: "x", Mode: 0o644}
	first := build(t, Spec{Files: []File{a, b}, Entrypoint: []string{"/usr/bin/program"}, Arch: "amd64"})

	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(binary, later, later); err != nil {
		t.Fatal(err)
	}
	second := build(t, Spec{Files: []File{b, a}, Entrypoint: []string{"/usr/bin/program"}, Arch: "amd64"})
	if digest(t, first) != digest(t, second) {
		t.Error("the order of files or their date changed the digest")
	}

	for name, spec := range map[string]Spec{
		"other content":    {Files: []File{a, {Path: "/etc/config", Content: "y", Mode: 0o644}}, Entrypoint: []string{"/usr/bin/program"}, Arch: "amd64"},
		"other mode":       {Files: []File{a, {Path: "/etc/config", Content: "x"}}, Entrypoint: []string{"/usr/bin/program"}, Arch: "amd64"},
		"other path":       {Files: []File{a, {Path: "/etc/config2", Content: "x", Mode: 0o644}}, Entrypoint: []string{"/usr/bin/program"}, Arch: "amd64"},
		"other entrypoint": {Files: []File{a, b}, Entrypoint: []string{"/program"}, Arch: "amd64"},
		"other machine":    {Files: []File{a, b}, Entrypoint: []string{"/usr/bin/program"}, Arch: "arm64"},
	} {
		if digest(t, build(t, spec)) == digest(t, first) {
			t.Errorf("%s did not change the digest", name)
		}
	}
}

func TestImageRunsAsNonRootWithATemporaryFolder(t *testing.T) {
	image := build(t, Spec{Files: []File{{Path: "/a/b/c", Content: "hello"}}, Entrypoint: []string{"/a/b/c"}, Arch: "amd64"})
	if err := validate.Image(image, validate.Fast); err != nil {
		t.Fatal("not a valid image:", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/a/b/c"}) || config.OS != "linux" {
		t.Errorf("config = %+v", config.Config)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	modes := map[string]int64{}
	var order []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := modes[h.Name]; twice {
			t.Errorf("%s is in the layer twice", h.Name)
		}
		modes[h.Name] = h.Mode
		order = append(order, h.Name)
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d, want root", h.Name, h.Uid, h.Gid)
		}
	}
	if modes["tmp/"] != 0o1777 || modes["a/b/c"] != 0o755 || modes["etc/passwd"] != 0o644 {
		t.Errorf("modes = %v", modes)
	}
	if slices.Index(order, "a/b/") > slices.Index(order, "a/b/c") || slices.Index(order, "a/b/") < 0 {
		t.Errorf("a folder must precede its files: %v", order)
	}
}

func TestBuildRefusesBadPaths(t *testing.T) {
	for name, files := range map[string][]File{
		"a relative path":                {{Path: "bin/x"}},
		"a path that climbs":             {{Path: "/bin/../x"}},
		"the same path twice":            {{Path: "/x"}, {Path: "/x", Content: "y"}},
		"a source that is not there":     {{Path: "/x", Source: "/does/not/exist"}},
		"a path that Build itself fills": {{Path: "/etc/passwd"}},
	} {
		if _, err := Build(Spec{Files: files}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// The archive is read back by both kinds of readers: those of OCI layouts
// (containerd, kind, Podman) and those of Docker's older format.
func TestArchiveReadsBack(t *testing.T) {
	image := build(t, Spec{Files: []File{{Path: "/x", Content: strings.Repeat("x", 100_000)}}, Entrypoint: []string{"/x"}, Arch: "amd64"})
	refs := []string{"example.com/x:dev", "example.com:5000/x:dev-1"}
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := WriteArchive(file, image, refs); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "x.tar")
	if err := WriteArchive(again, image, refs); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(file)
	b, _ := os.ReadFile(again)
	if !bytes.Equal(a, b) || len(a) == 0 {
		t.Error("writing twice gives different bytes")
	}

	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", file, "-C", dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range manifest.Manifests {
		names = append(names, m.Annotations["io.containerd.image.name"])
		read, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(read, validate.Fast); err != nil {
			t.Error("as OCI layout:", err)
		}
	}
	if !slices.Equal(names, refs) {
		t.Errorf("names = %v, want %v", names, refs)
	}
	if manifest.Manifests[1].Annotations["org.opencontainers.image.ref.name"] != "dev-1" {
		t.Errorf("tag annotation = %v", manifest.Manifests[1].Annotations)
	}
	docker, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal("as Docker archive:", err)
	}
	want, _ := image.ConfigName()
	if got, err := docker.ConfigName(); err != nil || got != want {
		t.Errorf("as Docker archive: config %v, %v; want %v", got, err, want)
	}
}

func TestSharedLibraries(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	files, err := SharedLibraries(sh)
	if err != nil {
		t.Fatal(err)
	}
	var loader, libc bool
	for _, file := range files {
		loader = loader || strings.Contains(filepath.Base(file), "ld-")
		libc = libc || strings.Contains(filepath.Base(file), "libc.")
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if !loader || !libc {
		t.Errorf("SharedLibraries(%s) = %v, want a loader and a C library", sh, files)
	}
	if !slices.IsSorted(files) {
		t.Errorf("not sorted: %v", files)
	}
}
