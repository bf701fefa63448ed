// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package charts tests the chart as Helm renders it.
package charts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

const namespace = "headgate-system"

func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program := os.Getenv("HELM")
	if program == "" {
		t.Skip("HELM does not name the program: go run ./e2e/cluster build helm")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	// Nothing of the user's own Helm: no plugins, no repositories.
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "KUBECONFIG=")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// documents renders the chart and returns one YAML document per object.
func documents(t *testing.T, set ...string) []string {
	t.Helper()
	args := []string{"template", "headgate", "headgate", "--namespace", namespace, "--kube-version", "1.37.0"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, errOut, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, errOut)
	}
	var list []string
	for doc := range strings.SplitSeq("\n"+out, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if len(object) > 0 {
			list = append(list, doc)
		}
	}
	return list
}

// render decodes every object into its type; a field that the type does not have
// is an error. PodMonitors, whose types are not ours to import, are left out.
func render(t *testing.T, set ...string) []client.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, gwv1.Install} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []client.Object
	for _, doc := range documents(t, set...) {
		if strings.Contains(doc, "kind: PodMonitor\n") {
			continue
		}
		decoded, _, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, doc)
			continue
		}
		objects = append(objects, decoded.(client.Object))
	}
	return objects
}

// of returns the objects of one type by name.
func of[T client.Object](objects []client.Object) map[string]T {
	found := map[string]T{}
	for _, o := range objects {
		if typed, ok := o.(T); ok {
			found[o.GetName()] = typed
		}
	}
	return found
}

// everything turns on what the defaults leave off.
var everything = []string{
	"replicas=3", "metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.team=web", "prometheus.address=http://prometheus:9090",
	"imagePullSecrets={one,two}", "image.digest=sha256:" + strings.Repeat("0", 64), "priorityClassName=system-cluster-critical",
	"nodeSelector.disk=fast", "tolerations[0].operator=Exists", "podLabels.a=b", "podAnnotations.c=d", "watchNamespaces={shop,web}",
	"extraArgs={--log-level=debug}", "grafana.dashboards.enabled=true", "grafana.dashboards.annotations.folder=Gateways", "serviceAccount.annotations.e=f",
}

func TestLintFindsNothing(t *testing.T) {
	out, errOut, err := helm(t, "lint", "headgate", "--strict", "--kube-version", "1.37.0")
	if err != nil {
		t.Errorf("helm lint: %v\n%s%s", err, out, errOut)
	}
}

func TestEveryObjectIsWhatItsTypeAllows(t *testing.T) {
	for _, row := range []struct {
		name string
		set  []string
	}{
		{"the defaults", nil},
		{"everything on", everything},
		{"the operator half alone", []string{"gateway.enabled=false"}},
		{"nothing that can be left out", []string{"crds.install=false", "gateway.createClass=false", "rbac.aggregate=false", "admission.enabled=false"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if objects := render(t, row.set...); len(of[*appsv1.Deployment](objects)) != 1 {
				t.Errorf("%d objects, without the Deployment", len(objects))
			}
		})
	}
}

func TestWrongValuesAreRefusedInASentence(t *testing.T) {
	for _, row := range []struct{ name, set, want string }{
		{"a misspelt value", "gatway.enabled=false", "additional properties 'gatway' not allowed"},
		{"a misspelt value further down", "prometheus.adress=http://x", "at '/prometheus': additional properties 'adress' not allowed"},
		{"no replicas", "replicas=0", "at '/replicas': minimum: got 0, want 1"},
		{"a level that is none", "log.level=verbose", "at '/log/level': value must be one of 'debug', 'info', 'warn', 'error'"},
		{"a text where a switch belongs", "gateway.enabled=yes", "at '/gateway/enabled': got string, want boolean"},
		{"an address without a scheme", "prometheus.address=prometheus:9090", "at '/prometheus/address': 'prometheus:9090' does not match pattern '^(https?://"},
		{"a namespace that cannot exist", "watchNamespaces={Shop}", "at '/watchNamespaces/0': 'Shop' does not match pattern"},
		{"a port that is taken", "metrics.port=8081", "metrics.port: 8081 is taken by the controller itself"},
		{"a tag in the digest", "image.digest=v1", "at '/image/digest': 'v1' does not match pattern '^(sha256:"},
		{"no account", "serviceAccount.create=false", "name the existing ServiceAccount in serviceAccount.name"},
		{"an image without a version", "gateway.proxy.image.tag=", "give the tag or the digest of the Envoy image"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, errOut, err := helm(t, "template", "headgate", "headgate", "--kube-version", "1.37.0", "--set", row.set)
			if err == nil || !strings.Contains(errOut, row.want) {
				t.Errorf("helm said %q (%v), want %q", errOut, err, row.want)
			}
		})
	}
}

func TestTheSchemaKnowsEveryValueAndNoOther(t *testing.T) {
	var values map[string]any
	var schema node
	read(t, "headgate/values.yaml", &values)
	read(t, "headgate/values.schema.json", &schema)
	delete(schema.Properties, "global") // Helm's own
	compare(t, "", values, schema)
}

type node struct {
	Properties           map[string]node `json:"properties"`
	AdditionalProperties json.RawMessage `json:"additionalProperties"`
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func compare(t *testing.T, path string, values map[string]any, schema node) {
	t.Helper()
	if string(schema.AdditionalProperties) != "false" {
		t.Errorf("%s/ allows values that do not exist", path)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		property, known := schema.Properties[name]
		if !known {
			t.Errorf("the schema does not know %s/%s", path, name)
		}
		// A mapping without named properties is free: labels, affinity.
		if inner, ok := values[name].(map[string]any); ok && len(property.Properties) > 0 && path+"/"+name != "/resources" {
			compare(t, path+"/"+name, inner, property)
		}
	}
	for name := range schema.Properties {
		if _, known := values[name]; !known {
			t.Errorf("values.yaml does not have %s/%s", path, name)
		}
	}
}

func TestTheControllerRunsWithLeastPrivilege(t *testing.T) {
	pod := of[*appsv1.Deployment](render(t))["headgate"].Spec.Template.Spec
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser != 65532 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod security context: %+v", s)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s: %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.LivenessProbe == nil || c.ReadinessProbe == nil {
			t.Errorf("container %s lacks a memory limit or a probe", c.Name)
		}
	}
}

// The binary parses every flag before --help ends it.
func TestTheBinaryKnowsEveryFlag(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "headgate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/headgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, set := range [][]string{nil, everything, {"gateway.enabled=false"}} {
		args := of[*appsv1.Deployment](render(t, set...))["headgate"].Spec.Template.Spec.Containers[0].Args
		if out, err := exec.CommandContext(t.Context(), binary, append(args, "--help")...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestProxiesReachOnlyThePodThatLeads(t *testing.T) {
	objects := render(t)
	pod := of[*appsv1.Deployment](objects)["headgate"].Spec.Template
	selector := of[*corev1.Service](objects)["headgate-xds"].Spec.Selector
	if labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
		t.Error("the xDS Service selects pods that do not lead")
	}
	leading := maps.Clone(pod.Labels)
	leading["headgate.dev/leader"] = "true"
	if !labels.SelectorFromSet(selector).Matches(labels.Set(leading)) {
		t.Errorf("the xDS Service does not select the leader: %v, %v", selector, leading)
	}
}

func TestTheOperatorHalfAloneHasNothingOfTheGateway(t *testing.T) {
	objects := render(t, "gateway.enabled=false", "grafana.dashboards.enabled=true")
	for name, m := range of[*corev1.ConfigMap](objects) {
		if m.Data["headgate-releases.json"] == "" || m.Data["headgate-gateways.json"] != "" {
			t.Errorf("ConfigMap %s has %v", name, slices.Sorted(maps.Keys(m.Data)))
		}
	}
	if n := len(of[*corev1.ConfigMap](objects)); n != 1 {
		t.Errorf("%d ConfigMaps", n)
	}
	if n := len(of[*corev1.Service](objects)); n > 0 {
		t.Errorf("%d Services", n)
	}
	if n := len(of[*gwv1.GatewayClass](objects)); n > 0 {
		t.Errorf("%d GatewayClasses", n)
	}
	for _, name := range slices.Sorted(maps.Keys(rules(objects))) {
		for _, r := range rules(objects)[name] {
			for _, resource := range r.Resources {
				if strings.HasPrefix(resource, "gateways") || strings.HasPrefix(resource, "gatewayclasses") ||
					// Metrics may refer to Secrets; only the gateway half lists and writes them.
					resource == "secrets" && !slices.Equal(r.Verbs, []string{"get"}) {
					t.Errorf("%s may %v %s", name, r.Verbs, resource)
				}
			}
		}
	}
	args := of[*appsv1.Deployment](objects)["headgate"].Spec.Template.Spec.Containers[0].Args
	if !slices.Contains(args, "--gateway-enabled=false") || strings.Contains(fmt.Sprint(args), "xds") {
		t.Errorf("arguments: %v", args)
	}
}

func TestEveryPartThatIsTurnedOffIsLeftOut(t *testing.T) {
	for _, row := range []struct{ set, kind string }{
		{"admission.enabled=false", "MutatingAdmissionPolicy"},
		{"crds.install=false", "CustomResourceDefinition"},
		{"gateway.createClass=false", "GatewayClass"},
		{"serviceAccount.create=false,serviceAccount.name=mine", "ServiceAccount"},
	} {
		count := func(set ...string) (n int) {
			for _, doc := range documents(t, set...) {
				if strings.Contains("\n"+doc, "\nkind: "+row.kind+"\n") {
					n++
				}
			}
			return n
		}
		if on, off := count(), count(row.set); on == 0 || off != 0 {
			t.Errorf("%s: %d before, %d after --set %s", row.kind, on, off, row.set)
		}
	}
}

func TestTheReleaseNameNamesEverything(t *testing.T) {
	out, _, err := helm(t, "template", "edge", "headgate", "--kube-version", "1.37.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: edge-headgate\n", "name: edge-headgate-xds\n", "--xds-service=edge-headgate-xds", "--service-account=edge-headgate"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q", want)
		}
	}
}

// rules are the rules of every role, by kind and name.
func rules(objects []client.Object) map[string][]rbacv1.PolicyRule {
	all := map[string][]rbacv1.PolicyRule{}
	for name, r := range of[*rbacv1.ClusterRole](objects) {
		all["ClusterRole "+name] = r.Rules
	}
	for name, r := range of[*rbacv1.Role](objects) {
		all["Role "+name] = r.Rules
	}
	return all
}
