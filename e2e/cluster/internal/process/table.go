// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Command is a component to start.
type Command struct {
	// Name names the log file, the record and every message.
	Name string
	// Argv is the program's path and its arguments.
	Argv []string
	// Env is added to the environment of the starter.
	Env []string
	// Uses is the content of the configuration files that Argv names; it takes
	// part in the hash, so that a changed file counts as a changed command.
	Uses []string
	// Grace is how long the component may take to end after SIGTERM.
	Grace time.Duration
}

// Hash changes whenever the component would run differently.
func (c Command) Hash() string {
	h := sha256.New()
	for _, list := range [][]string{c.Argv, c.Env, c.Uses} {
		fmt.Fprintf(h, "%d\n", len(list))
		for _, s := range list {
			fmt.Fprintf(h, "%d %s\n", len(s), s)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Record is what is written down about a started component.
type Record struct {
	Identity
	Hash string `json:"hash"`
}

// Table is the folder of records and logs of one node.
type Table struct {
	Records string
	Logs    string
	// Launcher is put in front of each Argv. It must exec the rest, so that the
	// pid stays that of the component.
	Launcher []string
}

// Get returns what was written down about a component; ok is false when there
// is nothing or nothing readable.
func (t Table) Get(name string) (r Record, ok bool) {
	data, err := os.ReadFile(t.path(name))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Record{}, false
	}
	return r, true
}

// Alive reports whether the recorded process of a component still runs.
func (t Table) Alive(name string) bool {
	r, ok := t.Get(name)
	return ok && r.Alive()
}

// Start starts a component and writes down who it is. The returned channel
// closes when the component ends while this program still runs.
func (t Table) Start(c Command) (ended <-chan struct{}, err error) {
	log, err := os.OpenFile(t.LogFile(c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	defer log.Close() //nolint:errcheck // the component holds its own copy
	argv := append(append([]string{}, t.Launcher...), c.Argv...)
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it must outlive this program
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	// A session of its own: no terminal signal reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // reaps it; the log has the reason
	}()
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		<-done
		return nil, fmt.Errorf("%s ended at once; the end of %s:\n%s", c.Name, t.LogFile(c.Name), t.Tail(c.Name, 15))
	}
	if err := t.put(c.Name, Record{Identity: id, Hash: c.Hash()}); err != nil {
		return nil, errors.Join(err, id.Signal(syscall.SIGKILL))
	}
	return done, nil
}

// Stop ends a component and forgets it.
func (t Table) Stop(name string, grace time.Duration) (killed bool, err error) {
	if r, ok := t.Get(name); ok {
		if killed, err = r.Stop(grace); err != nil {
			return killed, fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := os.Remove(t.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return killed, fmt.Errorf("forgetting %s: %w", name, err)
	}
	return killed, nil
}

// LogFile is where a component's output goes.
func (t Table) LogFile(name string) string { return filepath.Join(t.Logs, name+".log") }

// Tail returns the last lines that a component printed, indented.
func (t Table) Tail(name string, lines int) string {
	f, err := os.Open(t.LogFile(name))
	if err != nil {
		return "  (no log: " + err.Error() + ")"
	}
	defer f.Close() //nolint:errcheck // read only
	const window = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > window {
		_, _ = f.Seek(-window, io.SeekEnd)
	}
	data, _ := io.ReadAll(f)
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

func (t Table) path(name string) string { return filepath.Join(t.Records, name+".json") }

// put writes through a rename, so that a record is whole or absent.
func (t Table) put(name string, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("recording %s: %w", name, err)
	}
	next := t.path(name) + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return fmt.Errorf("recording %s: %w", name, err)
	}
	return os.Rename(next, t.path(name))
}
