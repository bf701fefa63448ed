// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs tests the documentation: what it names exists, and what it shows
// works.
package docs

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

const root = ".."

// pages returns every Markdown file by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		found[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 5 {
		t.Fatalf("only %d pages", len(found))
	}
	return found
}

func TestEveryReasonIsExplained(t *testing.T) {
	page := pages(t)["docs/troubleshooting.md"]
	reasons := constants(t, "../api/v1beta1", "Reason")
	if len(reasons) < 40 {
		t.Fatalf("only %d reasons found", len(reasons))
	}
	for _, reason := range reasons {
		if !strings.Contains(page, "\n| `"+reason+"` |") {
			t.Errorf("docs/troubleshooting.md has no row that begins with `%s`: say what it means and what to do", reason)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `([A-Z][A-Za-z]+)` \\|").FindAllStringSubmatch(page, -1)
	for _, row := range rows {
		if !slices.Contains(reasons, row[1]) {
			t.Errorf("docs/troubleshooting.md explains `%s`, which is no reason", row[1])
		}
	}
}

// constants are the string values of the constants of a package whose name
// begins with a prefix.
func constants(t *testing.T, dir, prefix string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, value)
			}
			return true
		})
	}
	return values
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for _, page := range slices.Sorted(maps.Keys(all)) {
		for _, m := range link.FindAllStringSubmatch(all[page], -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := filepath.Join(filepath.Dir(page), target)
			if target == "" {
				path = page
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(all[path]), anchor) {
				t.Errorf("%s links to %s; %s has only %v", page, m[1], path, anchors(all[path]))
			}
		}
	}
}

// anchors are the names of a page's headings, as code hosts make them.
func anchors(page string) []string {
	var names []string
	for line := range strings.Lines(page) {
		title, heading := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if !heading || !strings.HasPrefix(line, "#") {
			continue
		}
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return names
}

func TestMakeTargetsExist(t *testing.T) {
	makefiles := ""
	for _, name := range []string{"Makefile", "e2e/cluster.mk", "e2e/conformance.mk"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		makefiles += "\n" + string(data)
	}
	for page, text := range pages(t) {
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefiles, "\n"+m[1]+":") {
				t.Errorf("%s says make %s, which does not exist", page, m[1])
			}
		}
	}
}

var fence = regexp.MustCompile("(?ms)^[ ]*```yaml\n(.*?)^[ ]*```$")

func TestWhatThePagesShowIsTakenByTheAPIServer(t *testing.T) {
	c := apiServer(t)
	shown := 0
	all := pages(t)
	for _, page := range slices.Sorted(maps.Keys(all)) {
		for _, block := range fence.FindAllStringSubmatch(all[page], -1) {
			for doc := range strings.SplitSeq(block[1], "\n---\n") {
				shown++
				if err := errors.Join(create(t, c, doc), validate(doc)); err != nil {
					t.Errorf("%s: %v\n%s", page, err, doc)
				}
			}
		}
	}
	if shown < 5 {
		t.Errorf("only %d documents were found", shown)
	}
}

func TestEveryCommandOperatorIsListed(t *testing.T) {
	page := pages(t)["docs/proxies.md"]
	for _, operator := range graph.Operators() {
		name, _, _ := strings.Cut(strings.Trim(operator, "%"), "(")
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/proxies.md does not list `%s`, which an access log may use", name)
		}
	}
}

// validate says of a Canary or a MetricTemplate what the API server cannot.
func validate(doc string) error {
	var o struct {
		Kind string `json:"kind"`
		Spec struct {
			Analysis *v1beta1.Analysis   `json:"analysis"`
			Args     []v1beta1.Parameter `json:"args"`
			Metric   v1beta1.Metric      `json:"metric"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
		return err
	}
	switch o.Kind {
	case "", "Canary":
		return analysis.Validate(o.Spec.Analysis)
	case "MetricTemplate":
		reference := v1beta1.Metric{Name: "shown", Template: &v1beta1.TemplateReference{Name: "shown"}}
		for _, p := range o.Spec.Args {
			reference.Template.Args = append(reference.Template.Args, v1beta1.Argument{Name: p.Name, Value: "5"})
		}
		template := v1beta1.MetricTemplate{Spec: v1beta1.MetricTemplateSpec{Args: o.Spec.Args, Metric: o.Spec.Metric}}
		if _, problem := analysis.Resolve(reference, map[string]v1beta1.MetricTemplate{"shown": template}); problem != nil {
			return errors.New(problem.Message)
		}
	}
	return nil
}

// create asks a real API server whether it would take the document. One without
// a kind is part of a Canary.
func create(t *testing.T, c client.Client, doc string) error {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(doc), &o.Object); err != nil {
		return err
	}
	if o.GetKind() == "" {
		o.SetAPIVersion("headgate.dev/v1beta1")
		o.SetKind("Canary")
		o.SetName("shown")
		o.SetNamespace("default")
	}
	if namespaced, err := c.IsObjectNamespaced(o); err != nil {
		return err
	} else if namespaced && o.GetNamespace() == "" { // kubectl puts it into one as well
		o.SetNamespace("default")
	}
	if ns := o.GetNamespace(); ns != "" {
		namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": ns}}}
		if err := c.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return c.Create(t.Context(), o, &client.CreateOptions{
		DryRun:          []string{metav1.DryRunAll},
		FieldValidation: metav1.FieldValidationStrict,
	})
}

func apiServer(t *testing.T) client.Client {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS does not name the folder of kube-apiserver and etcd")
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := &envtest.Environment{
		CRDDirectoryPaths: []string{
			"../charts/headgate/files/crds",
			filepath.Join(strings.TrimSpace(string(dir)), "config/crd/experimental"),
		},
		ErrorIfCRDPathMissing: true,
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
