// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package images makes the container images that tests and the demo use, from
// programs that are built here, and loads them into containerd.
//
// An image that changes between builds carries two names: a moving one, for
// manifests written by hand (`headgate.dev/app:dev`), and one whose tag is its
// digest (`headgate.dev/app:dev-1f3c…`). A pod that names the moving tag with
// imagePullPolicy IfNotPresent gets the newest content when its container is
// created, but a running Deployment sees no change. A Deployment that names the
// digest tag rolls when the content changes, and two source trees that share a
// node do not replace each other's images. Automation uses the digest tag.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/oci"
	"headgate.dev/headgate/e2e/cluster/internal/programs"
)

// Image is one image, written to an archive.
type Image struct {
	Name string `json:"name"`
	// Archive is empty for an image that is named but not made.
	Archive string `json:"archive,omitempty"`
	// Refs are the names under which the archive is imported; the first is the
	// one to use in a manifest.
	Refs   []string `json:"refs"`
	Digest string   `json:"digest,omitempty"`
}

// Maker makes images of one source tree.
type Maker struct {
	// Repo is the root of the source tree.
	Repo    string
	Layout  layout.Layout
	Builder programs.Builder
	Out     io.Writer
}

// recipe says how one image is made.
type recipe struct {
	name string
	// refs are fixed names; an image without any gets a moving and a digest tag.
	refs []string
	// public says that refs can be pulled from their registry, where there is one.
	public bool
	files  func(context.Context, Maker) ([]oci.File, error)
	// entrypoint and workDir are those that upstream's image has, where there is one.
	entrypoint string
	workDir    string
}

const registry = "headgate.dev/"

// PauseRef is the image of every pod's first process, named in containerd's configuration.
const PauseRef = registry + "pause:1"

// EnvoyVersion is the release of the proxy, here and in the charts.
const EnvoyVersion = "1.40.0"

func recipes() []recipe {
	return []recipe{
		{name: "pause", refs: []string{PauseRef}, entrypoint: "/pause", files: fromTree("./e2e/cluster/pause", "/pause")},
		{name: "coredns", entrypoint: "/coredns", files: fromProgram("coredns", "coredns", "/coredns")},
		{name: "headgate", entrypoint: "/usr/local/bin/headgate", files: fromTree("./cmd/headgate", "/usr/local/bin/headgate")},
		{name: "app", entrypoint: "/usr/local/bin/app", files: fromTree("./e2e/app", "/usr/local/bin/app")},
		{
			name:       "envoy",
			refs:       []string{"docker.io/envoyproxy/envoy:distroless-v" + EnvoyVersion},
			public:     true,
			entrypoint: "/usr/local/bin/envoy",
			files:      envoyFiles,
		},
		{
			name:       "prometheus",
			refs:       []string{"docker.io/prom/prometheus:v3.16.0"}, // module version v0.316.0
			public:     true,
			entrypoint: "/bin/prometheus",
			workDir:    "/prometheus",
			files:      fromProgram("prometheus", "prometheus", "/bin/prometheus"),
		},
		{
			// The two names that the conformance suite's manifests use for one program.
			name: "echo-basic",
			refs: []string{
				"registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0",
				"registry.k8s.io/gateway-api/conformance/echo-basic:v0.2.0",
			},
			public:     true,
			entrypoint: "/echo-basic",
			files:      fromProgram("echo", "echo-basic", "/echo-basic"),
		},
	}
}

// Names lists the images that can be made.
func Names() []string {
	var names []string
	for _, r := range recipes() {
		names = append(names, r.name)
	}
	return names
}

// ForOthers lists the images that another cluster needs of us, and returns those
// that it pulls by itself.
func ForOthers() (made []string, pulled []Image) {
	for _, r := range recipes() {
		switch {
		case r.public:
			pulled = append(pulled, Image{Name: r.name, Refs: r.refs})
		case r.name == "headgate", r.name == "app":
			made = append(made, r.name)
		}
	}
	return made, pulled
}

// ErrNoSource says that the source tree has no program for an image.
var ErrNoSource = errors.New("no such program in this source tree")

// Make builds one image and writes its archive, unless that archive is there
// already. Older archives of the same image are removed.
func (m Maker) Make(ctx context.Context, name string) (Image, error) {
	i := slices.IndexFunc(recipes(), func(r recipe) bool { return r.name == name })
	if i < 0 {
		return Image{}, fmt.Errorf("no image %q; name one of %s", name, strings.Join(Names(), ", "))
	}
	r := recipes()[i]
	files, err := r.files(ctx, m)
	if err != nil {
		return Image{}, fmt.Errorf("making image %s: %w", name, err)
	}
	image, err := oci.Build(oci.Spec{
		Files: append(files, certificates()...), Entrypoint: []string{r.entrypoint}, WorkDir: r.workDir, Arch: runtime.GOARCH,
	})
	if err != nil {
		return Image{}, fmt.Errorf("making image %s: %w", name, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("making image %s: %w", name, err)
	}
	made := Image{Name: name, Refs: r.refs, Digest: digest.String()}
	if made.Refs == nil {
		made.Refs = []string{registry + name + ":dev-" + digest.Hex[:12], registry + name + ":dev"}
	}
	made.Archive = filepath.Join(m.Layout.Images(), name+"-"+digest.Hex[:12]+".tar")
	if _, err := os.Stat(made.Archive); err == nil {
		return made, nil
	}
	begin := time.Now()
	if err := os.MkdirAll(m.Layout.Images(), 0o755); err != nil {
		return Image{}, fmt.Errorf("making image %s: %w", name, err)
	}
	old, err := filepath.Glob(filepath.Join(m.Layout.Images(), name+"-????????????.tar"))
	if err != nil {
		return Image{}, err
	}
	if err := oci.WriteArchive(made.Archive, image, made.Refs); err != nil {
		return Image{}, err
	}
	for _, file := range old {
		_ = os.Remove(file)
	}
	fmt.Fprintf(m.Out, "made image %s in %s\n", name, time.Since(begin).Round(time.Millisecond))
	return made, nil
}

// fromProgram takes a binary of a pinned program.
func fromProgram(program, binary, to string) func(context.Context, Maker) ([]oci.File, error) {
	return func(ctx context.Context, m Maker) ([]oci.File, error) {
		found, err := programs.Named(program)
		if err != nil {
			return nil, err
		}
		dir, err := m.Builder.Ensure(ctx, found[0])
		if err != nil {
			return nil, err
		}
		return []oci.File{{Path: to, Source: filepath.Join(dir, binary)}}, nil
	}
}

// fromTree builds a package of the source tree. The go command's own cache
// decides what is compiled, so that this is cheap when nothing changed.
func fromTree(pkg, to string) func(context.Context, Maker) ([]oci.File, error) {
	return func(ctx context.Context, m Maker) ([]oci.File, error) {
		if _, err := os.Stat(filepath.Join(m.Repo, pkg)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s", ErrNoSource, pkg)
		}
		dir := m.Layout.Tree()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		binary := filepath.Join(dir, filepath.Base(to))
		if err := programs.Go(ctx, m.Repo, "build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg); err != nil {
			return nil, err
		}
		return []oci.File{{Path: to, Source: binary}}, nil
	}
}

// certificates are the machine's trusted authorities, where Debian, and so
// upstream's images, keep them.
func certificates() []oci.File {
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(bundle); err != nil {
		return nil
	}
	return []oci.File{{Path: bundle, Source: bundle, Mode: 0o644}}
}
