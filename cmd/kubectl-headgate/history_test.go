// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

// applyRelease creates the record of a case of package view, status and all.
func (e *env) applyRelease(namespace, name string) {
	e.Helper()
	data, err := os.ReadFile(filepath.Join("view/testdata/releases", name+".yaml"))
	if err != nil {
		e.Fatal(err)
	}
	r := &v1beta1.Release{}
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		e.Fatal(err)
	}
	// As Headgate labels them.
	r.Labels = map[string]string{v1beta1.LabelHold: r.Spec.Canary, v1beta1.LabelAttempt: strconv.FormatInt(r.Spec.Attempt, 10)}
	r.Namespace = namespace
	status := r.Status
	if err := e.Create(e.Context(), r); err != nil {
		e.Fatal(err)
	}
	before := r.DeepCopy()
	r.Status = status
	if err := e.Status().Patch(e.Context(), r, client.MergeFrom(before)); err != nil {
		e.Fatal(err)
	}
}

func TestHistoryAndTheStoryOfOneRelease(t *testing.T) {
	e, namespace := newEnv(t)
	e.apply(namespace, "rolled-back")
	if got := e.run("history", "checkout", "-n", namespace); got.code != 0 || !strings.Contains(got.errOut, "There is no record of a release of Canary") || got.out != "" {
		t.Errorf("without records: %+v", got)
	}
	e.applyRelease(namespace, "promoted")
	e.applyRelease(namespace, "rolled-back")
	e.applyRelease(namespace, "aborted")

	got := e.run("history", "checkout", "-n", namespace)
	lines := strings.Split(got.out, "\n")
	if got.code != 0 || len(lines) != 5 || !strings.HasPrefix(lines[1], "4 ") || !strings.HasPrefix(lines[3], "2 ") || !strings.Contains(lines[2], "3m2s") {
		t.Errorf("history: %+v", got)
	}
	var list v1beta1.ReleaseList
	if got := e.run("history", "checkout", "-n", namespace, "-o", "json"); json.Unmarshal([]byte(got.out), &list) != nil || len(list.Items) != 3 || list.Kind != "ReleaseList" {
		t.Errorf("history -o json: %+v", got)
	}
	if got := e.run("why", "checkout", "-n", namespace, "--release", "4"); got.code != 0 || !strings.Contains(got.out, "It was aborted by jo@example.com after 2m") {
		t.Errorf("why --release: %+v", got)
	}
	// The record of the present attempt tells more than the status.
	if got := e.run("why", "checkout", "-n", namespace); got.code != 0 || !strings.Contains(got.out, "The steps\n") || !strings.Contains(got.out, "shop:2.0 → shop:2.1") {
		t.Errorf("why: %+v", got)
	}
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"why", "checkout", "--release", "9"}, 1, "there is no record of release 9 of Canary \"checkout\""},
		{[]string{"why", "checkout", "--release", "0"}, 2, "releases are numbered from 1"},
		{[]string{"why", "checkout", "--release", "x"}, 2, "invalid argument"},
		{[]string{"history", "checkuot"}, 1, "there is no Canary \"checkuot\""},
		{[]string{"history"}, 2, "name the Canary"},
		{[]string{"history", "checkout", "-o", "xml"}, 2, "write json or yaml"},
	} {
		if got := e.run(append(row.args, "-n", namespace)...); got.code != row.code || !strings.Contains(got.errOut, row.want) {
			t.Errorf("%q: %+v", row.args, got)
		}
	}
}
