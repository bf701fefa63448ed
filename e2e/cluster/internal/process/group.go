// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Group is the cgroup that every process of the node is a member of, through
// birth. Membership survives what pid files do not: the death of the parent, a
// lost record, a new session. It is how leftovers are found.
type Group struct {
	// roots are the mount points of the hierarchies: one with cgroup v2, one per
	// controller with cgroup v1.
	roots []string
	// tracker is the hierarchy whose members are listed.
	tracker string
	name    string
}

// FindGroup returns the group of this name in the machine's cgroup hierarchies.
func FindGroup(name string) (Group, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}, fmt.Errorf("reading the mounts: %w", err)
	}
	roots, tracker := hierarchies(string(mounts))
	if tracker == "" {
		return Group{}, errors.New("no cgroup hierarchy with the pids controller is mounted; on a container host, mount /sys/fs/cgroup writable")
	}
	return Group{roots: roots, tracker: tracker, name: name}, nil
}

// hierarchies finds cgroup mount points in the content of /proc/self/mountinfo.
// The tracker is the v1 pids hierarchy, or else v2.
func hierarchies(mountinfo string) (roots []string, tracker string) {
	var unified string
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(tail) < 3 {
			continue
		}
		point := fields[4]
		switch tail[0] {
		case "cgroup2":
			unified = point
		case "cgroup":
			roots = append(roots, point)
			if slices.Contains(strings.Split(tail[2], ","), "pids") {
				tracker = point
			}
		}
	}
	if unified != "" {
		// Beside v1 controllers, v2 is for naming only, but runc makes groups there too.
		roots = append(roots, unified)
	}
	if tracker == "" {
		tracker = unified
	}
	slices.Sort(roots)
	return roots, tracker
}

// Create makes the group in every hierarchy, with a child for the components:
// cgroup v2 allows processes only in leaves.
func (g Group) Create() error {
	for _, root := range g.roots {
		dir := filepath.Join(root, g.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating the cgroup: %w", err)
		}
		// A new v1 cpuset has no CPUs and takes no process until it gets some.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parent, err := os.ReadFile(filepath.Join(root, file))
			if err != nil || root == g.tracker {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), parent, 0o644); err != nil {
				return fmt.Errorf("giving the cgroup its %s: %w", file, err)
			}
		}
	}
	if err := os.MkdirAll(g.Components(), 0o755); err != nil {
		return fmt.Errorf("creating the cgroup: %w", err)
	}
	return g.weigh()
}

// weigh gives the group its share of a busy machine. With v1 all pods together
// compete, as one, with every single process outside, and a compiler's dozen would
// leave them a thirteenth of the CPU: probes would time out. With the weight below
// they count as four processes per CPU, the kubelet's own share for pods being one.
func (g Group) weigh() error {
	for _, root := range g.roots {
		for file, weight := range map[string]int{"cpu.shares": 4 * 1024 * runtime.NumCPU(), "cpu.weight": 400} {
			path := filepath.Join(root, g.name, file)
			if _, err := os.Stat(path); err != nil {
				continue // of the other version, or the controller is not on
			}
			if err := os.WriteFile(path, []byte(strconv.Itoa(weight)), 0o644); err != nil {
				return fmt.Errorf("weighing the cgroup: %w", err)
			}
		}
	}
	return nil
}

// Exists reports whether the group exists in every hierarchy.
func (g Group) Exists() bool {
	for _, root := range g.roots {
		if _, err := os.Stat(filepath.Join(root, g.name)); err != nil {
			return false
		}
	}
	_, err := os.Stat(g.Components())
	return err == nil
}

// Components is the folder of the cgroup that the components run in.
func (g Group) Components() string { return filepath.Join(g.tracker, g.name, "components") }

// Members lists the pids of the group and of all groups below it, sorted.
func (g Group) Members() []int { return members(filepath.Join(g.tracker, g.name)) }

func members(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil //nolint:nilerr // groups come and go while they are listed
		}
		data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	slices.Sort(pids)
	return slices.Compact(pids)
}

// KillAll kills every member, newcomers included, and returns how many.
func (g Group) KillAll(limit time.Duration) (int, error) {
	killed := map[int]bool{}
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		pids := g.Members()
		if len(pids) == 0 {
			return len(killed), nil
		}
		if time.Now().After(deadline) {
			return len(killed), fmt.Errorf("processes %v of the node did not end %s after SIGKILL", pids, limit)
		}
		for _, pid := range pids {
			if g.kill(pid) {
				killed[pid] = true
			}
		}
	}
}

func (g Group) kill(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release() //nolint:errcheck // releasing a pidfd that is not used again
	// Verified after the pidfd was taken: the listed pid may have been given away since.
	of, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(of), ":/"+g.name+"/") {
		return false
	}
	return p.Signal(syscall.SIGKILL) == nil
}

// Remove deletes the group from every hierarchy. It must have no members.
func (g Group) Remove() error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := g.removeOnce()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// The kernel frees a group a moment after its last member.
	}
}

func (g Group) removeOnce() error {
	var errs []error
	for _, root := range g.roots {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, g.name), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
				errs = append(errs, fmt.Errorf("removing cgroup %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}
