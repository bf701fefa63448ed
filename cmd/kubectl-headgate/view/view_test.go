// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 5, 4, 15, 10, 0, 0, time.UTC)

var verbs = []string{
	v1beta1.CommandPromote, v1beta1.CommandPromoteFull, v1beta1.CommandAbort,
	v1beta1.CommandRetry, v1beta1.CommandPause, v1beta1.CommandResume,
}

func load(t *testing.T, path string) v1beta1.Canary {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c v1beta1.Canary
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func cases(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return paths
}

// Each golden file is everything that is said of one Canary.
func TestWhatIsSaidOfACanary(t *testing.T) {
	for _, path := range cases(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			c := load(t, path)
			var b strings.Builder
			fmt.Fprintf(&b, "# outcome\n%s\n\n# line\n%s\n\n# status\n%s\n# why\n%s\n# commands\n",
				OutcomeOf(c), Line(c), Status(c, now, Style{}), Why(c, nil, now, Style{}))
			for _, verb := range verbs {
				answer := Refuse(c, verb)
				if answer == "" {
					answer = "yes"
				}
				fmt.Fprintf(&b, "%s: %s\n", verb, answer)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestEveryPhaseHasACase(t *testing.T) {
	seen := map[v1beta1.Phase]bool{}
	for _, path := range cases(t) {
		seen[load(t, path).Status.Phase] = true
	}
	for _, p := range []v1beta1.Phase{
		v1beta1.PhaseInitializing, v1beta1.PhaseIdle, v1beta1.PhaseStarting, v1beta1.PhaseStepping,
		v1beta1.PhasePromoting, v1beta1.PhaseRollingBack, v1beta1.PhaseRolledBack,
	} {
		if !seen[p] {
			t.Errorf("no case in phase %s", p)
		}
	}
}

func TestTableHasAlignedColumns(t *testing.T) {
	var list []v1beta1.Canary
	for _, name := range []string{"promoted", "holding", "rolled-back"} {
		list = append(list, load(t, "testdata/"+name+".yaml"))
	}
	list[0].Name, list[2].Namespace = "a-rather-long-name", "b"
	want := strings.TrimPrefix(`
NAMESPACE  NAME                TARGET    PHASE       STEP  WEIGHT  AGE  MESSAGE
shop       a-rather-long-name  checkout  Idle        -     0%      3d   Version xk4b7m2pqz serves all traffic.
shop       checkout            checkout  Stepping    2/4   25%     3d   Watching 25 % until 15:07:41 UTC.
b          checkout            checkout  RolledBack  -     0%      3d   Version xk4b7m2pqz was rejected; 6d5f9c77b4 serves all traffic.
`, "\n")
	if diff := cmp.Diff(want, Table(list, true, now, Style{})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestColorsDoNotMoveColumns(t *testing.T) {
	escape := func(s string) string {
		for _, code := range []string{"0", "1", "2", "31", "32", "33"} {
			s = strings.ReplaceAll(s, "\x1b["+code+"m", "")
		}
		return s
	}
	for _, path := range cases(t) {
		c := load(t, path)
		plain, colored := Status(c, now, Style{}), Status(c, now, Style{Color: true})
		if colored == plain {
			t.Errorf("%s: no colors", path)
		}
		if diff := cmp.Diff(plain, escape(colored)); diff != "" {
			t.Errorf("%s (-plain +colored):\n%s", path, diff)
		}
	}
}

func TestSpanReadsAsPeopleSayIt(t *testing.T) {
	for _, row := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0s"},
		{1900 * time.Millisecond, "1s"},
		{time.Minute, "1m"},
		{3*time.Minute + 10*time.Second, "3m10s"},
		{10 * time.Minute, "10m"},
		{2*time.Hour + 5*time.Minute + 9*time.Second, "2h5m"},
		{2 * time.Hour, "2h"},
		{100 * time.Hour, "4d"},
	} {
		if got := span(row.d); got != row.want {
			t.Errorf("span(%s) = %q, want %q", row.d, got, row.want)
		}
	}
}

func TestSomebodyElsesStatusNeverPanics(t *testing.T) {
	odd := v1beta1.Canary{Status: v1beta1.CanaryStatus{Weight: 100, Phase: "Odd", Stable: "a", Release: &v1beta1.ReleaseProgress{StepIndex: 7}}}
	for _, phase := range []v1beta1.Phase{"", "Odd", v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhaseRolledBack} {
		odd.Status.Phase = phase
		if text := Status(odd, now, Style{}) + Why(odd, nil, now, Style{}); !strings.Contains(text, "attempt 0") {
			t.Errorf("phase %q: %s", phase, text)
		}
	}
	odd.Status.Release = nil
	if got := Status(odd, now, Style{}); !slices.Contains(strings.Fields(got), "Canary") {
		t.Error(got)
	}
}
