// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// HeadgateNamespace is where InstallHeadgate installs.
const HeadgateNamespace = "headgate-system"

// InstallHeadgate installs or upgrades the chart of this source tree with the
// images of this source tree, and waits until it runs. Values are as for helm
// --set and win over those that name the images.
func (c *Cluster) InstallHeadgate(ctx context.Context, values map[string]string) error {
	chart := filepath.Join(c.Repo, "charts", "headgate")
	if _, err := os.Stat(chart); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no chart in %s", chart)
	}
	all := map[string]string{}
	for _, image := range []struct{ name, at string }{{"headgate", "image"}, {"envoy", "gateway.proxy.image"}} {
		ref, err := c.Image(ctx, image.name)
		if err != nil {
			return err
		}
		repository, tag := splitRef(ref)
		all[image.at+".repository"], all[image.at+".tag"] = repository, tag
	}
	maps.Copy(all, values)
	args := []string{"upgrade", "--install", "headgate", chart, "--namespace", HeadgateNamespace, "--create-namespace", "--wait", "--timeout", "2m"}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "--set", key+"="+all[key])
	}
	begin := time.Now()
	if _, err := c.Helm(ctx, args...); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "installed Headgate in %.1fs\n", time.Since(begin).Seconds())
	return nil
}

// splitRef splits an image reference at its tag.
func splitRef(ref string) (repository, tag string) {
	i := strings.LastIndex(ref, ":")
	if i < 0 || strings.Contains(ref[i:], "/") { // the colon of a registry's port
		return ref, ""
	}
	return ref[:i], ref[i+1:]
}
