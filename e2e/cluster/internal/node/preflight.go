// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
)

// tools are the commands that the node takes from the machine, and the Debian
// packages they come from.
var tools = []struct{ command, pkg string }{
	{"runc", "runc"},
	{"ip", "iproute2"},
	{"nft", "nftables"},
	{"iptables", "iptables"}, // the CNI plugin of host ports calls it
	{"conntrack", "conntrack"},
	{"mount", "mount"},
	{"bridge", "containernetworking-plugins"}, // looked for in the plugin folders
}

// ownerFile names the cache whose node runs on this machine; there can be one,
// because the names in package layout are taken by it.
var ownerFile = filepath.Join(layout.RunDir, "cache")

// preflight checks, before anything is changed, that a node can run here.
func (n Node) preflight(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run this as root, or set KUBECONFIG to an existing cluster")
	}
	if err := n.checkOwner(); err != nil {
		return err
	}
	if err := os.MkdirAll(n.Layout.Cache, 0o755); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(n.Layout.Cache, &fs); err != nil {
		return fmt.Errorf("looking at %s: %w", n.Layout.Cache, err)
	}
	const tmpfs, overlay = 0x01021994, 0x794c7630 // linux/magic.h
	if fs.Type == tmpfs || fs.Type == overlay {
		return fmt.Errorf("%s is on tmpfs or overlayfs, where container images cannot be unpacked; set HEADGATE_CACHE to a folder on a disk", n.Layout.Cache)
	}
	return installTools(ctx, n)
}

// checkOwner refuses to touch the node of another cache while it runs.
func (n Node) checkOwner() error {
	owner, err := os.ReadFile(ownerFile)
	if err != nil || string(owner) == n.Layout.Cache {
		return nil
	}
	group, err := process.FindGroup(layout.Cgroup)
	if err == nil && len(group.Members()) > 0 {
		return fmt.Errorf("a node of another cache runs on this machine; to use it set HEADGATE_CACHE=%s, to stop it run `down` with that", owner)
	}
	return nil
}

// installTools installs the missing tools on Debian, and elsewhere says what is missing.
func installTools(ctx context.Context, n Node) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	line := "apt-get install --yes --no-install-recommends " + strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing on this machine: %s (names of Debian packages; there: %s)", strings.Join(missing, " "), line)
	}
	fmt.Fprintln(n.Out, line)
	install := func() error {
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	if install() == nil {
		return nil
	}
	// Package lists may be missing or old.
	if err := run(ctx, "apt-get", "update"); err != nil {
		return err
	}
	return install()
}

func missingPackages() []string {
	var missing []string
	for _, tool := range tools {
		_, err := exec.LookPath(tool.command)
		if tool.pkg == "containernetworking-plugins" {
			_, err = os.Stat(filepath.Join(cniPlugins(), tool.command))
		}
		if err != nil {
			missing = append(missing, tool.pkg)
		}
	}
	return missing
}

// cniPlugins is the folder of CNI plugins: Debian's, or the one that others use.
func cniPlugins() string {
	const debian, others = "/usr/lib/cni", "/opt/cni/bin"
	if _, err := os.Stat(filepath.Join(others, "bridge")); err == nil {
		if _, err := os.Stat(filepath.Join(debian, "bridge")); err != nil {
			return others
		}
	}
	return debian
}
