// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lint shows that the rules of .golangci.yaml catch what they are for: a
// rule that nothing trips looks the same as a rule that does not work.
package lint

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const header = "// Copyright The Headgate Authors.\n// SPDX-License-Identifier: Apache-2.0\n\n"

// offences are added to a copy of the project, one file each.
var offences = []struct {
	name string
	file string
	code string
	// want is a part of the one message about the file; empty: none is allowed.
	want string
}{
	{
		name: "the API imports nothing of the project",
		file: "api/offence/offence.go",
		code: "// Package offence is wrong.\npackage offence\n\nimport _ \"headgate.dev/headgate/analysis\" // wrong\n",
		want: "import 'headgate.dev/headgate/analysis' is not allowed",
	},
	{
		name: "analysis may import the API",
		file: "analysis/offence_none.go",
		code: "package analysis\n\nimport \"headgate.dev/headgate/api/v1beta1\"\n\nvar _ = v1beta1.ControllerName\n",
	},
	{
		name: "analysis does not know the data plane",
		file: "analysis/offence.go",
		code: "package analysis\n\nimport \"headgate.dev/headgate/dataplane/graph\"\n\nvar _ graph.Graph\n",
		want: "import 'headgate.dev/headgate/dataplane/graph' is not allowed",
	},
	{
		name: "analysis does not know the packages that ask, which import it",
		file: "analysis/offence_source.go",
		code: "package analysis\n\nimport \"github.com/prometheus/client_golang/api\"\n\nvar _ api.Client\n",
		want: "import 'github.com/prometheus/client_golang/api' is not allowed",
	},
	{
		name: "an expression is evaluated without a clock",
		file: "analysis/expression/offence_clock.go",
		code: "package expression\n\nimport \"time\"\n\nvar _ = time.Now\n",
		want: "time is an argument",
	},
	{
		name: "an expression knows nothing of releases",
		file: "analysis/expression/offence.go",
		code: "package expression\n\nimport \"headgate.dev/headgate/api/v1beta1\"\n\nvar _ = v1beta1.ControllerName\n",
		want: "import 'headgate.dev/headgate/api/v1beta1' is not allowed",
	},
	{
		name: "a source does not know the releases",
		file: "analysis/sources/offence.go",
		code: "package sources\n\nimport \"headgate.dev/headgate/controllers/rollout\"\n\nvar _ rollout.Input\n",
		want: "import 'headgate.dev/headgate/controllers/rollout' is not allowed",
	},
	{
		name: "a decision has no context",
		file: "controllers/rollout/offence.go",
		code: "package rollout\n\nimport \"context\"\n\nvar _ context.Context\n",
		want: "a ctx parameter is the mark of I/O",
	},
	{
		name: "a decision has no client",
		file: "controllers/rollout/offence_client.go",
		code: "package rollout\n\nimport \"sigs.k8s.io/controller-runtime/pkg/client\"\n\nvar _ client.Object\n",
		want: "import 'sigs.k8s.io/controller-runtime/pkg/client' is not allowed",
	},
	{
		name: "a decision does not look at the clock",
		file: "controllers/rollout/offence_clock.go",
		code: "package rollout\n\nimport \"time\"\n\nvar _ = time.Now\n",
		want: "time is an argument",
	},
	{
		name: "the graph may name the type of any object",
		file: "dataplane/graph/offence_none.go",
		code: "package graph\n\nimport \"sigs.k8s.io/controller-runtime/pkg/client\"\n\nvar _ client.Object\n",
	},
	{
		name: "the graph uses nothing else of the client package",
		file: "dataplane/graph/offence_client.go",
		code: "package graph\n\nimport \"sigs.k8s.io/controller-runtime/pkg/client\"\n\nvar _ client.Reader\n",
		want: "only the type client.Object",
	},
	{
		name: "the data plane does not know the releases",
		file: "dataplane/xds/offence_release.go",
		code: "package xds\n\nimport \"headgate.dev/headgate/analysis\"\n\nvar _ analysis.Verdict\n",
		want: "import 'headgate.dev/headgate/analysis' is not allowed",
	},
	{
		name: "translation reads no files and no environment",
		file: "dataplane/xds/offence.go",
		code: "package xds\n\nimport \"os\"\n\nvar _ = os.Args\n",
		want: "a pure package reads no files and no environment",
	},
	{
		name: "translation does not log",
		file: "dataplane/xds/offence_log.go",
		code: "package xds\n\nimport \"log/slog\"\n\nvar _ slog.Level\n",
		want: "its caller logs",
	},
	{
		name: "status does no I/O",
		file: "dataplane/status/offence.go",
		code: "package status\n\nimport \"net/http\"\n\nvar _ http.Client\n",
		want: "does no I/O",
	},
	{
		name: "the canary half does not know the gateway half",
		file: "controllers/canary/offence.go",
		code: "package canary\n\nimport \"headgate.dev/headgate/dataplane/graph\"\n\nvar _ graph.Graph\n",
		want: "import 'headgate.dev/headgate/dataplane/graph' is not allowed",
	},
	{
		name: "the gateway half does not know the canary half",
		file: "controllers/gateway/offence.go",
		code: "package gateway\n\nimport \"headgate.dev/headgate/analysis\"\n\nvar _ analysis.Verdict\n",
		want: "import 'headgate.dev/headgate/analysis' is not allowed",
	},
	{
		name: "a reconciler asks its own clock",
		file: "controllers/canary/offence_clock.go",
		code: "package canary\n\nimport \"time\"\n\nvar _ = time.Now\n",
		want: "time is an argument",
	},
	{
		name: "a reconciler does not start a context of its own",
		file: "controllers/gateway/offence_context.go",
		code: "package gateway\n\nimport \"context\"\n\nvar _ = context.Background\n",
		want: "a context comes from the caller",
	},
	{
		name: "the plugin does not serve proxies",
		file: "cmd/kubectl-headgate/offence.go",
		code: "package main\n\nimport \"headgate.dev/headgate/dataplane/server\"\n\nvar _ server.State\n",
		want: "import 'headgate.dev/headgate/dataplane/server' is not allowed",
	},
}

func TestRulesCatchWhatTheyAreFor(t *testing.T) {
	program := os.Getenv("GOLANGCI_LINT")
	if program == "" {
		t.Skip("GOLANGCI_LINT does not name the program: make lint builds it")
	}
	dir := copyOfProject(t)
	var folders []string
	for _, o := range offences {
		path := filepath.Join(dir, o.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(header+o.code), 0o644); err != nil {
			t.Fatal(err)
		}
		folders = append(folders, "./"+filepath.Dir(o.file)+"/")
	}
	said := lint(t, program, dir, folders)
	for _, o := range offences {
		t.Run(o.name, func(t *testing.T) {
			messages := said[o.file]
			if o.want == "" {
				if len(messages) > 0 {
					t.Errorf("%s is allowed, but golangci-lint said: %s", o.file, strings.Join(messages, "; "))
				}
				return
			}
			for _, m := range messages {
				if strings.Contains(m, o.want) {
					return
				}
			}
			t.Errorf("golangci-lint said of %s: %q; want a message with %q", o.file, messages, o.want)
		})
	}
}

// lint returns the messages by file.
func lint(t *testing.T, program, dir string, folders []string) map[string][]string {
	t.Helper()
	args := append([]string{
		"run", "--enable-only=depguard,forbidigo", "--output.json.path=stdout", "--show-stats=false",
		"--max-same-issues=0", "--max-issues-per-linter=0", "--allow-parallel-runners",
	}, folders...)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("golangci-lint found nothing:\n%s", out)
	}
	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct{ Filename string }
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("reading the report: %v\n%s\n%s", err, out, stderr.String())
	}
	said := map[string][]string{}
	for _, issue := range report.Issues {
		// It hides what the other linters would have said.
		if issue.FromLinter == "typecheck" {
			t.Fatalf("the copy of the project does not compile: %s: %s", issue.Pos.Filename, issue.Text)
		}
		said[issue.Pos.Filename] = append(said[issue.Pos.Filename], issue.Text)
	}
	return said
}

// copyOfProject copies what decides the rules and the types: Go files, go.mod
// and the rules themselves.
func copyOfProject(t *testing.T) string {
	t.Helper()
	const root = "../.."
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && rel != "." || rel == "e2e" || rel == "bin" || rel == "tools" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		}
		if name := d.Name(); filepath.Ext(name) != ".go" && name != "go.mod" && name != "go.sum" && name != ".golangci.yaml" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
