// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oci builds container images from files, without a container engine,
// and writes them as archives that containerd, kind, Docker and Podman import.
//
// The same files give the same bytes: entries are sorted, owned by root and
// dated 1970, so an image's digest changes only when its content does.
package oci

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// NonRoot is the user of every image, the one that distroless images use.
const NonRoot = "65532"

// File is one regular file of an image, from Source or, when that is empty, from Content.
type File struct {
	// Path is absolute.
	Path    string
	Source  string
	Content string
	// Mode is the permission; zero means 0755.
	Mode fs.FileMode
}

// Spec is what an image consists of. Parent folders, /tmp and the user database
// are added by Build.
type Spec struct {
	Files      []File
	Entrypoint []string
	WorkDir    string
	// Arch is a GOARCH.
	Arch string
}

// Build returns the image. Sources are read now, for the digest, and again when
// the image is written; they must not change in between.
func Build(spec Spec) (v1.Image, error) {
	files := slices.Clone(spec.Files)
	files = append(files,
		File{Path: "/etc/passwd", Content: "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n", Mode: 0o644},
		File{Path: "/etc/group", Content: "root:x:0:\nnonroot:x:65532:\n", Mode: 0o644},
	)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for i, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("image path %q: write a clean absolute path", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, fmt.Errorf("image path %q is given twice", f.Path)
		}
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err := mutate.AppendLayers(image, &layer{files: files})
	if err != nil {
		return nil, fmt.Errorf("reading the image's files: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", spec.Arch
	config.Created = v1.Time{Time: epoch}
	config.History = nil
	config.Config = v1.Config{
		User:       NonRoot + ":" + NonRoot,
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		Entrypoint: spec.Entrypoint,
		WorkingDir: cmp.Or(spec.WorkDir, "/"),
	}
	return mutate.ConfigFile(image, config)
}

var epoch = time.Unix(0, 0).UTC()

// layer is an uncompressed tar of files. Compressing would cost seconds of CPU
// to save bytes that never leave the machine.
type layer struct {
	files []File
	once  sync.Once
	hash  v1.Hash
	size  int64
	err   error
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { l.measure(); return l.hash, l.err }

// DiffID implements v1.Layer; it is the digest, as nothing is compressed.
func (l *layer) DiffID() (v1.Hash, error) { return l.Digest() }

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { l.measure(); return l.size, l.err }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// Compressed implements v1.Layer; the name is the interface's.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.writeTo(w)) }()
	return r, nil
}

func (l *layer) measure() {
	l.once.Do(func() {
		h := sha256.New()
		count := &counter{}
		l.err = l.writeTo(io.MultiWriter(h, count))
		l.size = count.n
		l.hash = v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.Sum(nil))}
	})
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func (l *layer) writeTo(w io.Writer) error {
	tw := tar.NewWriter(w)
	made := map[string]bool{"": true}
	for _, f := range append([]File{{Path: "/tmp/"}}, l.files...) {
		if err := addParents(tw, made, f.Path); err != nil {
			return err
		}
		if strings.HasSuffix(f.Path, "/") {
			continue
		}
		if err := addFile(tw, f); err != nil {
			return err
		}
	}
	return tw.Close()
}

// addParents adds the folders above a path that are not in the archive yet.
func addParents(tw *tar.Writer, made map[string]bool, file string) error {
	parts := strings.Split(strings.Trim(path.Dir(file+"x"), "/"), "/")
	for i := range parts {
		dir := strings.Join(parts[:i+1], "/")
		if made[dir] {
			continue
		}
		made[dir] = true
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: epoch, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	return nil
}

func addFile(tw *tar.Writer, f File) error {
	var from io.Reader = strings.NewReader(f.Content)
	size := int64(len(f.Content))
	if f.Source != "" {
		source, err := os.Open(f.Source)
		if err != nil {
			return err
		}
		defer source.Close() //nolint:errcheck // read only
		info, err := source.Stat()
		if err != nil {
			return err
		}
		from, size = source, info.Size()
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Size: size,
		Mode: int64(cmp.Or(f.Mode, 0o755)), ModTime: epoch, Format: tar.FormatPAX,
	}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(tw, from)
	return err
}
