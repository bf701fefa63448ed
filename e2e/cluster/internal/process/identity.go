// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts the long-lived components of the node and finds them
// again later, when the program that started them is gone.
//
// A pid alone says little: after a crash or a reboot the number may belong to
// somebody else. So a component is remembered as an Identity, and it is
// verified before every signal.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Identity names one process for all time: a pid is given again after its
// process ended, but never with the same start time within one boot.
type Identity struct {
	PID int `json:"pid"`
	// StartTicks is the start time in clock ticks after boot, field 22 of
	// /proc/PID/stat (proc(5)). It does not change when the process calls exec.
	StartTicks uint64 `json:"startTicks"`
	// Boot is the kernel's random identifier of the boot.
	Boot string `json:"boot"`
}

// Identify returns the identity of the live process with this pid. A zombie
// counts as ended.
func Identify(pid int) (Identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, fmt.Errorf("reading the boot id: %w", err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	ticks, err := startTicks(stat)
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Identity{PID: pid, StartTicks: ticks, Boot: strings.TrimSpace(string(boot))}, nil
}

var errEnded = errors.New("it has ended")

// startTicks reads the start time out of the content of /proc/PID/stat. The
// second field is the program's name in parentheses and may itself contain
// spaces and parentheses, so fields are counted from the last one.
func startTicks(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("no program name in %q", stat)
	}
	fields := strings.Fields(string(stat[end+1:]))
	const state, start = 0, 19 // fields 3 and 22 of proc(5)
	if len(fields) <= start {
		return 0, fmt.Errorf("too few fields in %q", stat)
	}
	if fields[state] == "Z" || fields[state] == "X" {
		return 0, errEnded
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

// Alive reports whether this very process still runs.
func (i Identity) Alive() bool {
	now, err := Identify(i.PID)
	return err == nil && now == i
}

// Signal sends a signal to this very process. It returns os.ErrProcessDone when
// the process has ended, also when its pid belongs to another process by now.
func (i Identity) Signal(signal syscall.Signal) error {
	// os.FindProcess holds a pidfd: what is verified below is what gets the signal.
	p, err := os.FindProcess(i.PID)
	if err != nil {
		return os.ErrProcessDone
	}
	defer p.Release() //nolint:errcheck // releasing a pidfd that is not used again
	if !i.Alive() {
		return os.ErrProcessDone
	}
	return p.Signal(signal)
}

// Stop asks the process to end, waits up to grace, then kills it and waits
// again. It reports whether it had to be killed.
func (i Identity) Stop(grace time.Duration) (killed bool, err error) {
	if err := i.Signal(syscall.SIGTERM); err != nil {
		return false, ignoreDone(err)
	}
	if i.waitEnd(grace) {
		return false, nil
	}
	if err := i.Signal(syscall.SIGKILL); err != nil {
		return false, ignoreDone(err)
	}
	if !i.waitEnd(10 * time.Second) {
		return true, fmt.Errorf("process %d did not end 10s after SIGKILL", i.PID)
	}
	return true, nil
}

func (i Identity) waitEnd(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !i.Alive() {
			return true
		}
	}
	return !i.Alive()
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
