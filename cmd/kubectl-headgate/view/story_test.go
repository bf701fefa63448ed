// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

func record(t *testing.T, path string) v1beta1.Release {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r v1beta1.Release
	if err := yaml.UnmarshalStrict(data, &r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

func records(t *testing.T) map[string]v1beta1.Release {
	t.Helper()
	paths, err := filepath.Glob("testdata/releases/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no records: %v", err)
	}
	all := map[string]v1beta1.Release{}
	for _, path := range paths {
		all[strings.TrimSuffix(path, ".yaml")] = record(t, path)
	}
	return all
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTheStoryOfARelease(t *testing.T) {
	for path, r := range records(t) {
		golden(t, path+".txt", Story(r, now, Style{}))
	}
}

func TestEveryOutcomeHasAStory(t *testing.T) {
	told := map[v1beta1.Outcome]bool{}
	for _, r := range records(t) {
		told[r.Status.Outcome] = true
	}
	for _, o := range []v1beta1.Outcome{
		"", v1beta1.OutcomeSucceeded, v1beta1.OutcomeRolledBack, v1beta1.OutcomeAborted, v1beta1.OutcomeSuperseded, v1beta1.OutcomeReverted,
	} {
		if !told[o] {
			t.Errorf("no record with the outcome %q", o)
		}
	}
}

func TestHistoryIsNewestFirst(t *testing.T) {
	var list []v1beta1.Release
	for _, r := range records(t) {
		list = append(list, r)
	}
	golden(t, "testdata/history.txt", History(list, now, Style{}))
}

// Where there is a record, why tells the steps; what the status knows better is taken from there.
func TestWhyTellsTheStepsOfTheRecord(t *testing.T) {
	c, r := load(t, "testdata/rolled-back.yaml"), record(t, "testdata/releases/rolled-back.yaml")
	c.Status.Release.Metrics[0].Message = "newer."
	golden(t, "testdata/why-with-record.txt", Why(c, &r, now, Style{}))
	c.Status.Release.Told = 9
	c.Status.Release.Journal[0].Message = "only in the status"
	if got := Why(c, &r, now, Style{}); !strings.Contains(got, "only in the status") || !strings.Contains(got, "(1 earlier entries are not kept)") {
		t.Errorf("the journal is the record's, which is older:\n%s", got)
	}
	r.Spec.Attempt++
	if diff := cmp.Diff(Why(c, nil, now, Style{}), Why(c, &r, now, Style{})); diff != "" {
		t.Errorf("the record of another attempt is told: %s", diff)
	}
}
