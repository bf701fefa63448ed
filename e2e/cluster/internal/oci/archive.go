// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes an image under its references as an OCI layout in a tar
// file, which containerd, kind and Podman import, with the older manifest.json
// beside it for Docker. The file appears whole or not at all.
func WriteArchive(file string, image v1.Image, refs []string) error {
	next, err := os.CreateTemp(filepath.Dir(file), ".writing-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer os.Remove(next.Name()) //nolint:errcheck // renamed when all went well
	err = writeArchive(next, image, refs)
	if closed := next.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(next.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

func writeArchive(w io.Writer, image v1.Image, refs []string) error {
	descriptor, err := partial.Descriptor(image)
	if err != nil {
		return err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, ref := range refs {
		named := *descriptor
		named.Annotations = map[string]string{
			"io.containerd.image.name":          ref,
			"org.opencontainers.image.ref.name": ref[strings.LastIndex(ref, ":")+1:],
		}
		index.Manifests = append(index.Manifests, named)
	}
	config, err := image.ConfigName()
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	docker := dockerManifest{Config: blob(config), RepoTags: refs}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		docker.Layers = append(docker.Layers, blob(digest))
	}

	tw := tar.NewWriter(w)
	for _, doc := range []struct {
		name  string
		value any
	}{
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
		{"index.json", index},
		{"manifest.json", []dockerManifest{docker}},
	} {
		data, err := json.Marshal(doc.value)
		if err != nil {
			return err
		}
		if err := addBlob(tw, doc.name, int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	if err := addBlob(tw, blob(descriptor.Digest), int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return err
	}
	rawConfig, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	if err := addBlob(tw, blob(config), int64(len(rawConfig)), bytes.NewReader(rawConfig)); err != nil {
		return err
	}
	for _, l := range layers {
		if err := addLayer(tw, l); err != nil {
			return err
		}
	}
	return tw.Close()
}

type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

func addLayer(tw *tar.Writer, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	content, err := l.Compressed()
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // read only
	return addBlob(tw, blob(digest), size, content)
}

func addBlob(tw *tar.Writer, name string, size int64, content io.Reader) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := io.Copy(tw, content)
	return err
}
