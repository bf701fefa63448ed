// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

func TestNoRuleIsAWildcard(t *testing.T) {
	for name, list := range rules(render(t)) {
		for _, r := range list {
			if slices.Contains(slices.Concat(r.APIGroups, r.Resources, r.Verbs), "*") || len(r.NonResourceURLs) > 0 {
				t.Errorf("%s: %v", name, r)
			}
			for _, verb := range []string{"escalate", "bind", "impersonate"} {
				if slices.Contains(r.Verbs, verb) {
					t.Errorf("%s may %s", name, verb)
				}
			}
		}
	}
}

func TestWithAListOfNamespacesNothingIsGrantedElsewhere(t *testing.T) {
	objects := render(t, "watchNamespaces={shop,web}")
	for name, b := range of[*rbacv1.ClusterRoleBinding](objects) {
		if !strings.HasSuffix(b.RoleRef.Name, "-cluster") {
			t.Errorf("ClusterRoleBinding %s grants %s everywhere", name, b.RoleRef.Name)
		}
	}
	granted := map[string][]string{}
	for _, o := range objects {
		if b, ok := o.(*rbacv1.RoleBinding); ok && b.RoleRef.Kind == "ClusterRole" {
			granted[b.RoleRef.Name] = append(granted[b.RoleRef.Name], b.Namespace)
		}
	}
	for role := range of[*rbacv1.ClusterRole](objects) {
		if strings.HasSuffix(role, "-cluster") || role == "headgate-view" || role == "headgate-edit" {
			continue
		}
		if slices.Sort(granted[role]); !slices.Equal(granted[role], []string{"shop", "web"}) {
			t.Errorf("%s is granted in %v", role, granted[role])
		}
	}
}

func TestSecretsAreReadOnlyWhereItIsSaid(t *testing.T) {
	for values, want := range map[string][]string{
		"gateway.secretNamespaces={web,certificates}":                              {"certificates", "web"},
		"gateway.secretNamespaces={certificates},analysis.secretNamespaces={shop}": {"certificates", "shop"},
		"gateway.enabled=false,analysis.secretNamespaces={shop}":                   {"shop"},
	} {
		readIn(t, render(t, values), want)
	}
	if role := of[*rbacv1.ClusterRole](render(t))["headgate-gateway-secrets"]; role != nil {
		t.Error("without the value there is a role for Secrets alone")
	}
}

// readIn says where Secrets may be read.
func readIn(t *testing.T, objects []client.Object, want []string) {
	t.Helper()
	reads := func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "secrets") }
	roles := of[*rbacv1.ClusterRole](objects)
	var granted []string
	for _, o := range objects {
		switch b := o.(type) {
		case *rbacv1.ClusterRoleBinding:
			if slices.ContainsFunc(roles[b.RoleRef.Name].Rules, reads) {
				t.Errorf("ClusterRoleBinding %s grants Secrets everywhere", b.Name)
			}
		case *rbacv1.RoleBinding:
			if b.RoleRef.Kind == "ClusterRole" && slices.ContainsFunc(roles[b.RoleRef.Name].Rules, reads) {
				granted = append(granted, b.Namespace)
			}
		}
	}
	slices.Sort(granted)
	if granted = slices.Compact(granted); !slices.Equal(granted, want) {
		t.Errorf("Secrets may be read in %v, want %v", granted, want)
	}
}

// The generator reads markers that stand alone; one inside the comment of a
// declaration is lost without a word.
func TestEveryMarkerIsReadByTheGenerator(t *testing.T) {
	var files int
	for _, root := range []string{"../controllers", "../dataplane", "../analysis", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" {
				return err
			}
			files++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				var doc *ast.CommentGroup
				switch d := n.(type) {
				case *ast.FuncDecl:
					doc = d.Doc
				case *ast.GenDecl:
					doc = d.Doc
				}
				if doc == nil {
					return true
				}
				for _, c := range doc.List {
					if strings.Contains(c.Text, "+kubebuilder:rbac") {
						t.Errorf("%s: put an empty line between the RBAC marker and the declaration: %s", path, c.Text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Error("no source files")
	}
}

// apiServer is a real one with the Gateway API.
func apiServer(t *testing.T) *rest.Config {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS does not name the folder of kube-apiserver and etcd")
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(strings.TrimSpace(string(dir)), "config/crd/experimental")},
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
	return config
}

func TestARealAPIServerTakesEveryObject(t *testing.T) {
	config := apiServer(t)
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{namespace, "shop", "web"} {
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
		if err := c.Create(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
	}
	for _, set := range [][]string{nil, everything} {
		for _, doc := range documents(t, set...) {
			if strings.Contains(doc, "kind: PodMonitor\n") {
				continue
			}
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
				t.Fatal(err)
			}
			err := c.Create(t.Context(), o, client.DryRunAll, client.FieldOwner("test"), client.FieldValidation(metav1.FieldValidationStrict))
			if err != nil {
				t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
		}
	}
	t.Run("and the chart knows which resources have no namespace", func(t *testing.T) { testScopes(t, config) })
}

// testScopes: a rule about objects without a namespace, granted in a namespace,
// grants nothing.
func testScopes(t *testing.T, config *rest.Config) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	clusterScoped := map[string]bool{}
	known := map[string]bool{"canaries": true, "canaries/status": true, "metrictemplates": true, "proxyconfigs": true, "releases": true, "releases/status": true}
	for _, l := range lists {
		for _, r := range l.APIResources {
			known[r.Name] = true
			if !r.Namespaced {
				clusterScoped[r.Name] = true
			}
		}
	}
	for name, list := range rules(render(t)) {
		for _, r := range list {
			for _, resource := range r.Resources {
				switch {
				// Checked where an owner is set, and not a path that discovery lists.
				case !known[strings.TrimSuffix(resource, "/finalizers")]:
					t.Errorf("%s names %s, which does not exist", name, resource)
				case clusterScoped[resource] != strings.HasSuffix(name, "-cluster"):
					t.Errorf("%s names %s; correct the list in templates/rbac.yaml", name, resource)
				}
			}
		}
	}
}
