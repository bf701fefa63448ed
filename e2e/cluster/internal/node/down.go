// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/process"
)

// Down stops the node and removes everything it left on the machine, except the
// cache and the certificates. It is safe on a node that is half up or not there.
func (n Node) Down(ctx context.Context) error {
	begin := time.Now()
	if err := n.checkOwner(); err != nil {
		return err
	}
	group, err := process.FindGroup(layout.Cgroup)
	if err != nil {
		return err
	}
	if err := n.remove(ctx, group, components(n.Layout, binaries{Self: n.self()}, nil)); err != nil {
		return err
	}
	fmt.Fprintf(n.Out, "node is down (%s)\n", time.Since(begin).Round(10*time.Millisecond))
	return nil
}

// remove stops the components in reverse order, then ends what is left: pods and
// shims, mounts, the network, cgroups, files.
func (n Node) remove(ctx context.Context, group process.Group, stages []stage) error {
	t := n.table(group)
	for _, stage := range slices.Backward(stages) {
		var wg sync.WaitGroup
		errs := make([]error, len(stage))
		for i, c := range stage {
			wg.Go(func() { _, errs[i] = t.Stop(c.Name, c.Grace) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	killed, err := group.KillAll(15 * time.Second)
	if err != nil {
		return err
	}
	if killed > 0 {
		fmt.Fprintf(n.Out, "ended %d processes of pods\n", killed)
	}
	if err := unmountBelow(n.Layout.Node(), layout.RunDir); err != nil {
		return err
	}
	if err := removeNetwork(ctx); err != nil {
		return fmt.Errorf("removing the network: %w", err)
	}
	if err := group.Remove(); err != nil {
		return err
	}
	for _, dir := range []string{layout.RunDir, n.Layout.Node()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing %s: %w", dir, err)
		}
	}
	return removeStrayFiles(n.Layout.Node())
}

// devicePlugins is where the kubelet keeps its device plugin socket, whatever
// its root folder is.
const devicePlugins = "/var/lib/kubelet/device-plugins"

// removeStrayFiles removes what kubelet and CNI write outside the node's folders
// and cannot be told not to.
func removeStrayFiles(nodeDir string) error {
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return err
	}
	stray, err := filepath.Glob("/var/lib/cni/results/headgate-*")
	if err != nil {
		return err
	}
	stray = append(stray, devicePlugins+"/kubelet.sock", devicePlugins+"/kubelet_internal_checkpoint")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, nodeDir+"/") {
			stray = append(stray, link)
		}
	}
	for _, file := range stray {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// Folders that were made for these only are empty now; others stay.
	for _, dir := range []string{"/var/log/containers", "/var/lib/cni/results", "/var/lib/cni", devicePlugins, filepath.Dir(devicePlugins)} {
		_ = os.Remove(dir)
	}
	return nil
}

// unmountBelow unmounts everything mounted below the folders, the latest first.
func unmountBelow(dirs ...string) error {
	// A mount can hide or hold others, so the list is read again after each round.
	for range 5 {
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return fmt.Errorf("reading the mounts: %w", err)
		}
		points := mountsBelow(string(data), dirs...)
		if len(points) == 0 {
			return nil
		}
		for _, point := range points {
			// Detached at once; the last user frees it. Users are dead or dying here.
			if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmounting %s: %w", point, err)
			}
		}
	}
	return fmt.Errorf("mounts below %s come back", strings.Join(dirs, " and "))
}

// mountsBelow lists mount points below the folders out of the content of
// /proc/self/mountinfo, the deepest and latest first.
func mountsBelow(mountinfo string, dirs ...string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		for _, dir := range dirs {
			if point == dir || strings.HasPrefix(point, dir+"/") {
				points = append(points, point)
				break
			}
		}
	}
	slices.Reverse(points)
	slices.SortStableFunc(points, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/"))
	})
	return points
}

// unescapeMount undoes the escapes of proc(5): space, tab, newline, backslash.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
