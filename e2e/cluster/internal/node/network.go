// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"headgate.dev/headgate/e2e/cluster/internal/layout"
)

// netnsPath is the node's network namespace as `ip netns add` mounts it.
const netnsPath = "/run/netns/" + layout.NetNS

// route is one line of `ip -json route`.
type route struct {
	Dst string `json:"dst"`
	Dev string `json:"dev"`
}

// conflicts returns the routes that lead into a range of the node but not to the
// node: the machine, or a Docker network on it, uses the addresses for itself.
func conflicts(routes []route, ranges []netip.Prefix) []string {
	var found []string
	for _, r := range routes {
		if r.Dev == layout.HostLink || r.Dst == "default" {
			continue
		}
		dst, err := netip.ParsePrefix(r.Dst)
		if err != nil {
			ip, err := netip.ParseAddr(r.Dst)
			if err != nil {
				continue
			}
			dst = netip.PrefixFrom(ip, ip.BitLen())
		}
		for _, own := range ranges {
			if own.Overlaps(dst) {
				found = append(found, fmt.Sprintf("%s (dev %s) overlaps %s", r.Dst, r.Dev, own))
			}
		}
	}
	return found
}

// ensureNetwork makes the namespace, the link and the routes, or repairs what is
// missing of them.
//
//	machine ── headgate0 10.200.0.1 ══ 10.200.0.2 uplink ── node ── pods (bridge) 10.244.0.0/16
//	        routes: pods, Services, load balancers → 10.200.0.2
func ensureNetwork(ctx context.Context) error {
	out, err := output(ctx, "ip", "-json", "-4", "route", "show", "table", "main")
	if err != nil {
		return err
	}
	var routes []route
	if err := json.Unmarshal(out, &routes); err != nil {
		return fmt.Errorf("reading the machine's routes: %w", err)
	}
	if found := conflicts(routes, append(layout.Ranges(), layout.LinkRange)); len(found) > 0 {
		return fmt.Errorf("the machine already routes addresses that the node needs: %s; remove these routes, or test against an existing cluster with KUBECONFIG", strings.Join(found, ", "))
	}
	if !netnsMounted() {
		// A name without a namespace behind it is left over from a crash.
		_ = os.Remove(netnsPath)
		if err := run(ctx, "ip", "netns", "add", layout.NetNS); err != nil {
			return err
		}
	}
	if !linked(ctx) {
		_ = run(ctx, "ip", "link", "delete", layout.HostLink) // half of an older pair
		if err := run(ctx, "ip", "link", "add", layout.HostLink, "type", "veth", "peer", "name", layout.NodeLink, "netns", layout.NetNS); err != nil {
			return err
		}
	}
	if err := configureHost(ctx); err != nil {
		return err
	}
	return configureNode(ctx)
}

func configureHost(ctx context.Context) error {
	host := fmt.Sprintf("%s/%d", layout.HostIP, layout.LinkRange.Bits())
	steps := [][]string{
		{"addr", "replace", host, "dev", layout.HostLink},
		{"link", "set", layout.HostLink, "up"},
	}
	for _, dst := range layout.Ranges() {
		steps = append(steps, []string{"route", "replace", dst.String(), "via", layout.NodeIP.String(), "dev", layout.HostLink})
	}
	for _, step := range steps {
		if err := run(ctx, "ip", step...); err != nil {
			return err
		}
	}
	return nil
}

func configureNode(ctx context.Context) error {
	node := fmt.Sprintf("%s/%d", layout.NodeIP, layout.LinkRange.Bits())
	// A Service or load balancer address that nobody serves must end here: with
	// only the default route it would travel back to the machine. The sink is a
	// bridge without ports. It must be a device, not an unreachable route: the
	// node's own packets are routed before kube-proxy rewrites them.
	const sink = "sink"
	if run(ctx, "ip", "-netns", layout.NetNS, "link", "show", sink) != nil {
		if err := run(ctx, "ip", "-netns", layout.NetNS, "link", "add", sink, "type", "bridge"); err != nil {
			return err
		}
	}
	steps := [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "replace", node, "dev", layout.NodeLink},
		{"link", "set", layout.NodeLink, "up"},
		{"link", "set", sink, "up"},
		{"route", "replace", "default", "via", layout.HostIP.String()},
		{"route", "replace", layout.ServiceRange.String(), "dev", sink, "src", layout.NodeIP.String()},
		{"route", "replace", layout.LoadBalancerRange.String(), "dev", sink, "src", layout.NodeIP.String()},
	}
	for _, step := range steps {
		if err := run(ctx, "ip", append([]string{"-netns", layout.NetNS}, step...)...); err != nil {
			return err
		}
	}
	// Bridged packets must pass the address translation too: the answer of a pod
	// to its neighbour on the bridge would otherwise keep the pod's own address
	// where the caller expects that of the Service.
	const set = "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables"
	if err := run(ctx, "ip", "netns", "exec", layout.NetNS, "sh", "-c", set); err != nil {
		return fmt.Errorf("switching on forwarding (does `modprobe br_netfilter` help?): %w", err)
	}
	return nil
}

// removeNetwork removes the namespace, and with it the link and its routes.
func removeNetwork(ctx context.Context) error {
	if run(ctx, "ip", "link", "show", layout.HostLink) == nil {
		if err := run(ctx, "ip", "link", "delete", layout.HostLink); err != nil {
			return err
		}
	}
	if netnsMounted() {
		if err := run(ctx, "ip", "netns", "delete", layout.NetNS); err != nil {
			return err
		}
	} else if err := os.Remove(netnsPath); err != nil && !os.IsNotExist(err) {
		return err
	}
	return removeEmptyNetNSFolder()
}

// removeEmptyNetNSFolder removes the folder of named namespaces, which the first
// `ip netns add` mounts onto itself, when nobody has a namespace in it.
func removeEmptyNetNSFolder() error {
	dir := filepath.Dir(netnsPath)
	names, err := os.ReadDir(dir)
	if err != nil || len(names) > 0 {
		return nil //nolint:nilerr // no folder is what is wanted
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	return os.Remove(dir)
}

func netnsMounted() bool {
	var fs unix.Statfs_t
	const nsfs = 0x6e736673 // NSFS_MAGIC of linux/magic.h
	return unix.Statfs(netnsPath, &fs) == nil && fs.Type == nsfs
}

// linked reports whether the pair exists with one end in each namespace.
func linked(ctx context.Context) bool {
	return run(ctx, "ip", "link", "show", layout.HostLink) == nil &&
		run(ctx, "ip", "-netns", layout.NetNS, "link", "show", layout.NodeLink) == nil
}

// inNamespace reports whether a process lives in the namespace that the name
// stands for now; after the namespace was made anew, old components do not.
func inNamespace(pid int) bool {
	var now, its unix.Stat_t
	return unix.Stat(netnsPath, &now) == nil &&
		unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &its) == nil &&
		now.Ino == its.Ino
}

// run runs a command; a failure carries what it printed.
func run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return out, nil
}
