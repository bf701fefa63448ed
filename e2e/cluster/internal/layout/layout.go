// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package layout says where the test node lives: its folders on disk, its
// addresses and the names it takes on the machine. Everything the node creates
// outside its own folders (a network namespace, a link, routes, a cgroup, a
// folder under /run) is named here, so that this file is the full answer to
// "what does the node do to my machine?".
package layout

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Names that the node takes on the machine.
const (
	// NetNS is the network namespace of the node, at /run/netns/headgate.
	NetNS = "headgate"
	// HostLink and NodeLink are the two ends of the link between the machine and the node.
	HostLink = "headgate0"
	NodeLink = "uplink"
	// Cgroup is the parent of every process of the node, components and pods,
	// below the root of each cgroup hierarchy.
	Cgroup = "headgate"
	// NodeName is the name of the node object.
	NodeName = "headgate"
	// RunDir holds sockets, whose paths must be short.
	RunDir = "/run/headgate"
)

// Addresses of the node. The machine reaches the ranges through NodeIP.
var (
	LinkRange         = netip.MustParsePrefix("10.200.0.0/24")
	HostIP            = netip.MustParseAddr("10.200.0.1")
	NodeIP            = netip.MustParseAddr("10.200.0.2")
	PodRange          = netip.MustParsePrefix("10.244.0.0/16")
	ServiceRange      = netip.MustParsePrefix("10.96.0.0/16")
	APIServiceIP      = netip.MustParseAddr("10.96.0.1")
	DNSIP             = netip.MustParseAddr("10.96.0.10")
	LoadBalancerRange = netip.MustParsePrefix("10.250.0.0/24")
)

// Ranges are the destinations that the machine routes to the node.
func Ranges() []netip.Prefix {
	return []netip.Prefix{PodRange, ServiceRange, LoadBalancerRange}
}

// Layout is where the files of the node are.
type Layout struct {
	// Cache holds what is expensive to make and safe to delete.
	Cache string
}

// FromEnv returns the layout below $HEADGATE_CACHE, or below
// $XDG_CACHE_HOME/headgate, or below ~/.cache/headgate.
func FromEnv() (Layout, error) {
	dir := os.Getenv("HEADGATE_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return Layout{}, fmt.Errorf("set HEADGATE_CACHE to a folder on disk: %w", err)
		}
		dir = filepath.Join(base, "headgate")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Layout{}, fmt.Errorf("set HEADGATE_CACHE to a folder on disk: %w", err)
	}
	return Layout{Cache: dir}, nil
}

// Programs is the folder of built programs, one folder per name and version.
func (l Layout) Programs() string { return filepath.Join(l.Cache, "programs") }

// Images is the folder of image archives.
func (l Layout) Images() string { return filepath.Join(l.Cache, "images") }

// Downloads is the folder of files fetched from package registries.
func (l Layout) Downloads() string { return filepath.Join(l.Cache, "downloads") }

// PKI is the folder of keys and certificates. It outlives the node, so that a
// kubeconfig handed out once stays valid.
func (l Layout) PKI() string { return filepath.Join(l.Cache, "pki") }

// Kubeconfig is the administrator's kubeconfig, at a path that never changes.
func (l Layout) Kubeconfig() string { return filepath.Join(l.Cache, "kubeconfig") }

// Lock is the file that one run at a time holds.
func (l Layout) Lock() string { return filepath.Join(l.Cache, "lock") }

// Node is the folder of one life of the node; it goes when the node goes.
func (l Layout) Node() string { return filepath.Join(l.Cache, "node") }

// Logs is the folder of the components' logs.
func (l Layout) Logs() string { return filepath.Join(l.Node(), "log") }

// Records is the folder that says which process is which component.
func (l Layout) Records() string { return filepath.Join(l.Node(), "run") }

// Config is the folder of the components' configuration files.
func (l Layout) Config() string { return filepath.Join(l.Node(), "config") }

// ContainerdSocket is where containerd listens.
func (l Layout) ContainerdSocket() string { return filepath.Join(RunDir, "containerd.sock") }

// Tree is the folder of binaries built from this source tree.
func (l Layout) Tree() string { return filepath.Join(l.Cache, "tree") }

// RemoveCache removes what this package names, and the cache's folder when
// nothing else is in it: the user chose that folder and may keep more there.
func (l Layout) RemoveCache() error {
	for _, path := range []string{l.Node(), l.Programs(), l.Images(), l.Downloads(), l.Tree(), l.PKI(), l.Kubeconfig(), l.Lock()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing the cache: %w", err)
		}
	}
	_ = os.Remove(l.Cache)
	return nil
}
