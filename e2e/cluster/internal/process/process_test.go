// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The Table tests launch this test binary as the launcher, as the real one is
// launched: it must exec the rest of its arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch-for-test" {
		path, err := exec.LookPath(os.Args[2])
		if err == nil {
			err = syscall.Exec(path, os.Args[2:], os.Environ())
		}
		panic(err)
	}
	os.Exit(m.Run())
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestIdentity(t *testing.T) {
	cmd := sleeper(t)
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("a process that was just identified counts as ended")
	}
	for name, changed := range map[string]Identity{
		"an older process that had the same pid":                {PID: id.PID, StartTicks: id.StartTicks - 1, Boot: id.Boot},
		"the same pid and start time before the machine booted": {PID: id.PID, StartTicks: id.StartTicks, Boot: "0b7cf5a8-0000-0000-0000-000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			if changed.Alive() {
				t.Error("counts as alive")
			}
			if err := changed.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("Signal = %v, want os.ErrProcessDone", err)
			}
			if killed, err := changed.Stop(time.Second); killed || err != nil {
				t.Errorf("Stop = %v, %v; want nothing to do", killed, err)
			}
			if !id.Alive() {
				t.Fatal("the process that has the pid now was signalled")
			}
		})
	}
}

func TestStop(t *testing.T) {
	tests := []struct {
		name       string
		script     string
		wantKilled bool
	}{
		{"ends a process that obeys SIGTERM", "exec sleep 300", false},
		{"kills a process that ignores SIGTERM after its grace", "trap '' TERM; while :; do sleep 0.01; done", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.script)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { _ = cmd.Wait() }()
			id, err := Identify(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // until the trap is set
			killed, err := id.Stop(300 * time.Millisecond)
			if err != nil || killed != tt.wantKilled {
				t.Errorf("Stop = %v, %v; want %v", killed, err, tt.wantKilled)
			}
			if id.Alive() {
				t.Error("still alive after Stop")
			}
		})
	}
}

func TestStartTicks(t *testing.T) {
	const tail = " 1 2 2 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4711 1 1"
	tests := []struct {
		name    string
		stat    string
		want    uint64
		wantErr bool
	}{
		{"reads the 22nd field", "2 (sleep) S" + tail, 4711, false},
		{"is not fooled by a program name with spaces and parentheses", "2 (a) S 9 (b c)) S" + tail, 4711, false},
		{"counts a zombie as ended", "2 (sleep) Z" + tail, 0, true},
		{"refuses a truncated line", "2 (sleep) S 1 2", 0, true},
		{"refuses a line without a name", "2 sleep S", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := startTicks([]byte(tt.stat))
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("startTicks = %d, %v; want %d, error %v", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestHashChangesWithEverythingThatMatters(t *testing.T) {
	base := Command{Name: "x", Argv: []string{"/bin/a", "b"}, Env: []string{"E=1"}, Uses: []string{"config"}}
	seen := map[string]string{base.Hash(): "the base"}
	for name, c := range map[string]Command{
		"another argument":            {Argv: []string{"/bin/a", "c"}, Env: base.Env, Uses: base.Uses},
		"arguments split differently": {Argv: []string{"/bin/a b"}, Env: base.Env, Uses: base.Uses},
		"another environment":         {Argv: base.Argv, Env: []string{"E=2"}, Uses: base.Uses},
		"another config file":         {Argv: base.Argv, Env: base.Env, Uses: []string{"config2"}},
		"an argument moved to Env":    {Argv: []string{"/bin/a"}, Env: []string{"b", "E=1"}, Uses: base.Uses},
	} {
		if other, taken := seen[c.Hash()]; taken {
			t.Errorf("%s hashes like %s", name, other)
		}
		seen[c.Hash()] = name
	}
	if again := (Command{Name: "y", Argv: base.Argv, Env: base.Env, Uses: base.Uses}); again.Hash() != base.Hash() {
		t.Error("the same command hashes differently")
	}
}

func testTable(t *testing.T) Table {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Table{Records: t.TempDir(), Logs: t.TempDir(), Launcher: []string{self, "launch-for-test"}}
}

func TestTableFindsAComponentAgain(t *testing.T) {
	table := testTable(t)
	c := Command{Name: "nap", Argv: []string{"sleep", "300"}}
	ended, err := table.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	later := Table{Records: table.Records, Logs: table.Logs} // another run of the program
	record, ok := later.Get("nap")
	if !ok || record.Hash != c.Hash() || !later.Alive("nap") {
		t.Fatalf("Get = %+v, %v; want a living record with hash %s", record, ok, c.Hash())
	}
	if killed, err := later.Stop("nap", 5*time.Second); killed || err != nil {
		t.Fatalf("Stop = %v, %v", killed, err)
	}
	<-ended
	if _, ok := later.Get("nap"); ok {
		t.Error("a stopped component is still recorded")
	}
	if _, err := later.Stop("nap", time.Second); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestTableSaysWhyAComponentEnded(t *testing.T) {
	table := testTable(t)
	ended, err := table.Start(Command{Name: "broken", Argv: []string{"sh", "-c", "echo one; echo two; echo no such flag >&2; exit 1"}})
	if err == nil {
		<-ended
	}
	if table.Alive("broken") {
		t.Error("an ended component counts as alive")
	}
	if got, want := table.Tail("broken", 2), "  two\n  no such flag"; got != want {
		t.Errorf("Tail = %q, want %q", got, want)
	}
}

func TestTableIgnoresADamagedRecord(t *testing.T) {
	table := testTable(t)
	if err := os.WriteFile(filepath.Join(table.Records, "x.json"), []byte(`{"pid": 1`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Get("x"); ok || table.Alive("x") {
		t.Error("a damaged record counts as a component")
	}
}

func TestHierarchies(t *testing.T) {
	const v2 = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1 = "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
		"31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	tests := []struct {
		name, mounts string
		roots        []string
		tracker      string
	}{
		{"cgroup v2 alone", v2, []string{"/sys/fs/cgroup"}, "/sys/fs/cgroup"},
		{"cgroup v1 tracks by the pids controller", v1, []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"}, "/sys/fs/cgroup/pids"},
		{
			"v1 with v2 beside it", v1 + "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"},
			"/sys/fs/cgroup/pids",
		},
		{"no cgroups", "1 1 0:1 / / rw - ext4 /dev/vda rw\n", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			roots, tracker := hierarchies(tt.mounts)
			if !slices.Equal(roots, tt.roots) || tracker != tt.tracker {
				t.Errorf("hierarchies = %v, %q; want %v, %q", roots, tracker, tt.roots, tt.tracker)
			}
		})
	}
}

func TestMembersIncludesGroupsBelow(t *testing.T) {
	root := t.TempDir()
	g := Group{roots: []string{root}, tracker: root, name: "g"}
	for dir, pids := range map[string]string{"g": "", "g/components": "12\n7\n", "g/pods/a/b": "99\n12\n", "other": "1\n"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "cgroup.procs"), []byte(pids), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := g.Members(), []int{7, 12, 99}; !slices.Equal(got, want) {
		t.Errorf("Members = %v, want %v", got, want)
	}
}

func TestCreateWeighsTheGroupWhereTheControllerIs(t *testing.T) {
	cpu, pids := t.TempDir(), t.TempDir()
	g := Group{roots: []string{cpu, pids}, tracker: pids, name: "g"}
	if err := os.MkdirAll(filepath.Join(cpu, "g"), 0o755); err != nil {
		t.Fatal(err)
	}
	shares := filepath.Join(cpu, "g", "cpu.shares") // the kernel's file
	if err := os.WriteFile(shares, []byte("1024"), 0o644); err != nil {
		t.Fatal(err)
	}
	if g.Exists() {
		t.Error("half a group counts as one")
	}
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(shares); string(got) != strconv.Itoa(4096*runtime.NumCPU()) {
		t.Errorf("cpu.shares = %s", got)
	}
	if !g.Exists() {
		t.Error("the group does not exist after Create")
	}
	if _, err := os.Stat(filepath.Join(pids, "g", "cpu.shares")); err == nil {
		t.Error("a file was made where the kernel has none")
	}
}

func TestKillSparesAProcessOutsideTheGroup(t *testing.T) {
	cmd := sleeper(t)
	g := Group{name: "headgate-group-of-a-test"}
	if g.kill(cmd.Process.Pid) {
		t.Error("killed a process that is not a member")
	}
	if id, err := Identify(cmd.Process.Pid); err != nil || !id.Alive() {
		t.Error("the process is gone:", err)
	}
}

func TestLaunchNamesWhatIsMissing(t *testing.T) {
	err := Launch(filepath.Join(t.TempDir(), "gone"), "/run/netns/x", []string{"/bin/true"})
	if err == nil || !strings.Contains(err.Error(), "joining cgroup") {
		t.Errorf("Launch = %v, want an error about the cgroup", err)
	}
}
