// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
)

// env is a real API server with the CRD, and the built plugin.
type env struct {
	*testing.T
	client.Client
	plugin, kubeconfig string
}

var shared struct {
	client.Client
	plugin, kubeconfig string
}

func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		os.Exit(m.Run())
	}
	code, err := withAPIServer(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withAPIServer(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "kubectl-headgate-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	shared.plugin = filepath.Join(dir, "kubectl-headgate")
	if out, err := exec.Command("go", "build", "-o", shared.plugin, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the plugin: %w\n%s", err, out)
	}
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return 0, fmt.Errorf("looking for the CRDs of the Gateway API: %w", err)
	}
	server := envtest.Environment{
		CRDDirectoryPaths:     []string{"../../charts/headgate/files/crds", filepath.Join(strings.TrimSpace(string(module)), "config/crd/standard")},
		ErrorIfCRDPathMissing: true,
	}
	// Stopped also when it did not come up whole: etcd may run already.
	defer func() { err = errors.Join(err, server.Stop()) }()
	config, err := server.Start()
	if err != nil {
		return 0, err
	}
	shared.kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(shared.kubeconfig, server.KubeConfig, 0o600); err != nil {
		return 0, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1beta1.AddToScheme(scheme), clientgoscheme.AddToScheme(scheme), gwv1.Install(scheme)); err != nil {
		return 0, err
	}
	if shared.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// newEnv gives the test a namespace of its own.
func newEnv(t *testing.T) (*env, string) {
	t.Helper()
	if shared.Client == nil {
		t.Skip("KUBEBUILDER_ASSETS does not name the folder of kube-apiserver and etcd")
	}
	t.Parallel()
	e := &env{t, shared.Client, shared.plugin, shared.kubeconfig}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "cli-"}}
	if err := e.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return e, ns.Name
}

type answer struct {
	code        int
	out, errOut string
}

func (e *env) run(args ...string) answer {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.plugin, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.kubeconfig)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		e.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// apply creates the Canary of a case of package view, status and all.
func (e *env) apply(namespace, name string) *v1beta1.Canary {
	e.Helper()
	data, err := os.ReadFile(filepath.Join("view/testdata", name+".yaml"))
	if err != nil {
		e.Fatal(err)
	}
	canary := &v1beta1.Canary{}
	if err := yaml.UnmarshalStrict(data, canary); err != nil {
		e.Fatal(err)
	}
	canary.Namespace = namespace
	status := canary.Status
	if err := e.Create(e.Context(), canary); err != nil {
		e.Fatal(err)
	}
	if status.ObservedGeneration > 0 {
		status.ObservedGeneration = canary.Generation
	}
	canary.Status = status
	if err := e.Status().Update(e.Context(), canary); err != nil {
		e.Fatal(err)
	}
	return canary
}

// operator plays Headgate: it waits for a command, changes the status and
// removes the annotations.
func (e *env) operator(canary *v1beta1.Canary, change func(*v1beta1.Canary)) <-chan map[string]string {
	seen := make(chan map[string]string, 1)
	// The plugin may end, and with it the test, before the last answer is here.
	ctx, done := context.WithoutCancel(e.Context()), make(chan struct{})
	e.Cleanup(func() { <-done })
	key := client.ObjectKeyFromObject(canary)
	go func() {
		defer close(done)
		defer close(seen)
		for e.Context().Err() == nil {
			c := &v1beta1.Canary{}
			if err := e.Get(ctx, key, c); err != nil {
				return
			}
			if c.Annotations[v1beta1.AnnotationCommand] == "" {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			seen <- maps.Clone(c.Annotations)
			change(c)
			if err := e.Status().Update(ctx, c); err != nil {
				e.Errorf("operator: %v", err)
			}
			patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:null,%q:null}}}`, v1beta1.AnnotationCommand, v1beta1.AnnotationCommandBy)
			if err := e.Patch(ctx, c, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
				e.Errorf("operator: %v", err)
			}
			return
		}
	}()
	return seen
}

func entry(reason, message string) func(*v1beta1.Canary) {
	return func(c *v1beta1.Canary) {
		r := c.Status.Release
		r.Journal = append(r.Journal, v1beta1.JournalEntry{Time: metav1.Now(), Reason: reason, Message: message, Weight: c.Status.Weight})
	}
}

func TestCommandsBecomeAnnotationsAndSayWhatCameOfThem(t *testing.T) {
	for _, row := range []struct {
		name    string
		canary  string
		args    []string
		command string
		journal string
	}{
		{"promote approves a step", "waiting-for-approval", []string{"promote", "checkout"}, "promote", "The step at 50 % is approved."},
		{"promote --full is its own command", "holding", []string{"promote", "checkout", "--full"}, "promote-full", "The remaining steps are skipped."},
		{"abort carries its reason", "holding", []string{"abort", "checkout", "--reason", "wrong prices"}, "abort: wrong prices", "A person aborted the release."},
		{"retry", "rolled-back", []string{"retry", "checkout"}, "retry", "Tried again."},
		{"pause", "holding", []string{"pause", "checkout"}, "pause", "Paused at 25 %."},
		{"resume", "paused", []string{"resume", "checkout"}, "resume", "Resumed at 25 %."},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, ns := newEnv(t)
			canary := e.apply(ns, row.canary)
			seen := e.operator(canary, entry("Handled", row.journal))
			got := e.run(append(row.args, "-n", ns)...)
			if want := (answer{0, ns + "/checkout: " + row.journal + "\n", ""}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			annotations := <-seen
			if annotations[v1beta1.AnnotationCommand] != row.command {
				t.Errorf("annotation %q, want %q", annotations[v1beta1.AnnotationCommand], row.command)
			}
			if by := annotations[v1beta1.AnnotationCommandBy]; by != "admin" {
				t.Errorf("asked by %q, want the name the API server knows", by)
			}
		})
	}
}

func TestCommandsThatMakeNoSenseAreRefusedAndChangeNothing(t *testing.T) {
	for _, row := range []struct{ canary, verb, want string }{
		{"promoted", "promote", "no release is in progress: one starts when the Deployment's template changes"},
		{"starting", "promote", "there is no step to promote yet"},
		{"rolled-back", "abort", "nothing to abort"},
		{"holding", "retry", "there is no rejected version"},
		{"paused", "pause", "paused already"},
		{"holding", "resume", "no release is paused"},
	} {
		t.Run(row.verb+" while "+row.canary, func(t *testing.T) {
			e, ns := newEnv(t)
			canary := e.apply(ns, row.canary)
			got := e.run(row.verb, "checkout", "-n", ns)
			if got.code != exitError || !strings.Contains(got.errOut, row.want) {
				t.Errorf("got %+v, want exit code 1 and %q", got, row.want)
			}
			now := &v1beta1.Canary{}
			if err := e.Get(t.Context(), client.ObjectKeyFromObject(canary), now); err != nil {
				t.Fatal(err)
			}
			if now.ResourceVersion != canary.ResourceVersion {
				t.Errorf("the Canary was changed: %v", now.Annotations)
			}
		})
	}
}

func TestARefusalOfTheOperatorIsShown(t *testing.T) {
	e, ns := newEnv(t)
	canary := e.apply(ns, "holding")
	const note = "It is too late to pause: the step has just ended."
	e.operator(canary, func(c *v1beta1.Canary) {
		err := e.Create(t.Context(), &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "checkout-", Namespace: ns},
			EventTime:  metav1.NowMicro(), Reason: v1beta1.ReasonCommandRefused, Note: note, Type: "Warning", Action: "Command",
			ReportingController: "headgate.dev/canary", ReportingInstance: "test",
			Regarding: corev1.ObjectReference{Kind: "Canary", Name: c.Name, Namespace: ns, UID: c.UID},
		})
		if err != nil {
			t.Error(err)
		}
	})
	if got := e.run("pause", "checkout", "-n", ns); got.code != exitError || !strings.Contains(got.errOut, note) {
		t.Errorf("got %+v, want exit code 1 and the note %q", got, note)
	}
}

func TestACommandThatNobodyTakesUp(t *testing.T) {
	e, ns := newEnv(t)
	e.apply(ns, "holding")
	got := e.run("pause", "checkout", "-n", ns, "--timeout", "300ms")
	if got.code != exitError || !strings.Contains(got.errOut, "is Headgate running?") {
		t.Errorf("got %+v", got)
	}
	if got := e.run("resume", "checkout", "-n", ns); got.code != exitError {
		t.Errorf("a second command replaced the first: %+v", got)
	}
	got = e.run("abort", "checkout", "-n", ns, "--no-wait")
	if got.code != exitOK || !strings.Contains(got.out, "asked to abort") {
		t.Errorf("an abort has to get through: %+v", got)
	}
}

func TestWaitSaysByExitCodeHowTheReleaseEnded(t *testing.T) {
	for _, row := range []struct {
		canary string
		code   int
		says   string
	}{
		{"promoted", exitOK, "Version xk4b7m2pqz serves all traffic."},
		{"rolled-back", exitRejected, "was rejected"},
		{"aborted", exitRejected, "was rejected"},
		{"holding", exitInProgress, "has not ended after 1s"},
		{"waiting-for-approval", exitPerson, "waits for a person"},
		{"paused", exitPerson, "Paused at 25 %"},
		{"route-missing", exitPerson, "create an HTTPRoute"},
	} {
		t.Run(row.canary, func(t *testing.T) {
			e, ns := newEnv(t)
			e.apply(ns, row.canary)
			got := e.run("wait", "checkout", "-n", ns, "--settle", "100ms", "--timeout", "1s")
			if got.code != row.code || !strings.Contains(got.out+got.errOut, row.says) {
				t.Errorf("got %+v, want exit code %d and %q", got, row.code, row.says)
			}
			if got := e.run("status", "checkout", "-n", ns, "--exit-code"); got.code != row.code {
				t.Errorf("status --exit-code: %d, want %d", got.code, row.code)
			}
			if got := e.run("status", "checkout", "-n", ns); got.code != exitOK {
				t.Errorf("status: %d, want 0", got.code)
			}
		})
	}
}

func TestWaitFollowsTheReleaseToItsEnd(t *testing.T) {
	e, ns := newEnv(t)
	canary := e.apply(ns, "holding")
	go func() {
		time.Sleep(time.Second)
		if err := e.Get(e.Context(), client.ObjectKeyFromObject(canary), canary); err != nil {
			e.Error(err)
			return
		}
		canary.Status.Phase = v1beta1.PhaseRolledBack
		if err := e.Status().Update(e.Context(), canary); err != nil {
			e.Error(err)
		}
	}()
	got := e.run("wait", "checkout", "-n", ns, "--settle", "100ms")
	if got.code != exitRejected || strings.Count(got.out, "\n") != 2 {
		t.Errorf("got %+v, want two lines and exit code 3", got)
	}
}

func TestWaitKnowsAVersionThatIsHeldButNotReleasedYet(t *testing.T) {
	e, ns := newEnv(t)
	e.apply(ns, "promoted")
	labels := map[string]string{"app": "checkout"}
	err := e.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "checkout", Namespace: ns, Annotations: map[string]string{v1beta1.AnnotationHeld: "x"}},
		Spec: appsv1.DeploymentSpec{
			Paused: true, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := e.run("wait", "checkout", "-n", ns, "--settle", "100ms", "--timeout", "1s"); got.code != exitInProgress {
		t.Errorf("got %+v, want exit code 4", got)
	}
}

func TestOutputForMachinesCanBeReadBack(t *testing.T) {
	e, ns := newEnv(t)
	e.apply(ns, "holding")
	var one v1beta1.Canary
	if got := e.run("status", "checkout", "-n", ns, "-o", "json"); json.Unmarshal([]byte(got.out), &one) != nil || one.Kind != "Canary" || one.Status.Weight != 25 {
		t.Errorf("json: %+v", got)
	}
	var list v1beta1.CanaryList
	if got := e.run("status", "-n", ns, "-o", "yaml"); yaml.UnmarshalStrict([]byte(got.out), &list) != nil || len(list.Items) != 1 || list.Items[0].Kind != "Canary" {
		t.Errorf("yaml: %+v", got)
	}
}

func TestListing(t *testing.T) {
	e, ns := newEnv(t)
	if got := e.run("status", "-n", ns); got.code != exitOK || !strings.Contains(got.errOut, "There are no Canaries in namespace") {
		t.Errorf("an empty namespace: %+v", got)
	}
	e.apply(ns, "holding")
	if got := e.run("status", "-n", ns); got.code != exitOK || !strings.Contains(got.out, "checkout  checkout  Stepping  2/4   25%") {
		t.Errorf("a namespace: %+v", got)
	}
	if got := e.run("status", "-A"); got.code != exitOK || !strings.Contains(got.out, ns+"  checkout") {
		t.Errorf("all namespaces: %+v", got)
	}
	if got := e.run("__complete", "status", "-n", ns, "che"); !strings.HasPrefix(got.out, "checkout\tStepping\n") {
		t.Errorf("completion: %+v", got)
	}
}

func TestWhatIsNotThereIsSaidInASentence(t *testing.T) {
	e, ns := newEnv(t)
	for _, row := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no such Canary", []string{"status", "nothing", "-n", ns}, exitError, `there is no Canary "nothing" in namespace`},
		{"no such Canary to steer", []string{"abort", "nothing", "-n", ns}, exitError, `there is no Canary "nothing" in namespace`},
		{"no name", []string{"why"}, exitUsage, "name the Canary"},
		{"two names", []string{"why", "a", "b"}, exitUsage, "name one Canary, not 2"},
		{"no such command", []string{"rollback"}, exitUsage, `there is no command "rollback"`},
		{"no such flag", []string{"status", "--foo"}, exitUsage, "unknown flag: --foo"},
		{"no such format", []string{"status", "-o", "xml"}, exitUsage, "write json or yaml"},
		{"a duration that is none", []string{"wait", "x", "--timeout", "5"}, exitUsage, "missing unit in duration"},
		{"a reason of two lines", []string{"abort", "x", "--reason", "a\nb"}, exitUsage, "write it on one line"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := e.run(row.args...)
			if got.code != row.code || !strings.Contains(got.errOut, row.want) {
				t.Errorf("got %+v, want exit code %d and %q", got, row.code, row.want)
			}
		})
	}
}
