// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launch turns the calling process into a component: it joins the cgroup folder
// and the network namespace, then becomes argv. It returns only on failure.
//
// `ip netns exec` would do nearly the same, but it mounts a fresh /sys and so
// hides the cgroup hierarchies from containerd and kubelet.
func Launch(cgroup, netns string, argv []string) error {
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("joining cgroup %s: %w", cgroup, err)
	}
	// setns changes the calling thread only; exec from that thread carries it over.
	runtime.LockOSThread()
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening network namespace %s: %w", netns, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering network namespace %s: %w", netns, err)
	}
	// A component outlives whoever asked for the cluster, and must not hold open what
	// that one had: a lock would never be free again.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("closing what was inherited: %w", err)
	}
	if err := syscall.Exec(argv[0], argv, os.Environ()); err != nil {
		return fmt.Errorf("running %s: %w", argv[0], err)
	}
	return nil
}
