// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Containerd is the runtime that images are loaded into.
type Containerd struct {
	// Ctr is the path of the ctr program.
	Ctr    string
	Socket string
}

// Load imports the images that the runtime does not have in this version.
func (c Containerd) Load(ctx context.Context, images []Image, out io.Writer) error {
	list, err := c.run(ctx, "images", "list")
	if err != nil {
		return fmt.Errorf("listing images: %w", err)
	}
	have := digests(list)
	for _, image := range images {
		if current(have, image) {
			continue
		}
		begin := time.Now()
		if _, err := c.run(ctx, "images", "import", image.Archive); err != nil {
			return fmt.Errorf("importing %s: %w", image.Archive, err)
		}
		fmt.Fprintf(out, "loaded image %s in %s\n", image.Refs[0], time.Since(begin).Round(time.Millisecond))
	}
	return nil
}

func current(have map[string]string, image Image) bool {
	for _, ref := range image.Refs {
		if have[ref] != image.Digest {
			return false
		}
	}
	return true
}

// digests reads the table that `ctr images list` prints: name, type, digest, ….
func digests(list []byte) map[string]string {
	have := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 3 && strings.HasPrefix(fields[2], "sha256:") {
			have[fields[0]] = fields[2]
		}
	}
	return have
}

func (c Containerd) run(ctx context.Context, args ...string) ([]byte, error) {
	// The kubelet sees only images of this containerd namespace.
	cmd := exec.CommandContext(ctx, c.Ctr, append([]string{"--address", c.Socket, "--namespace", "k8s.io"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
