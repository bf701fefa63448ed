// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"headgate.dev/headgate/e2e/cluster/internal/images"
	"headgate.dev/headgate/e2e/cluster/internal/layout"
	"headgate.dev/headgate/e2e/cluster/internal/node"
	"headgate.dev/headgate/e2e/cluster/internal/process"
)

var disturb = flag.Bool("disturb", false, "kill and stop the node of this machine; only where nobody else uses it")

// The node starts copies of the program that runs, which here is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "launch" || os.Args[1] == "load-balancer") {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Everything that can happen to a node between two runs of the program, and that
// `down` leaves the machine as `up` found it.
func TestUpRecoversAndDownLeavesNothing(t *testing.T) {
	if !*disturb {
		t.Skip("kills and stops the node of this machine: pass -disturb where nobody else uses it")
	}
	n, err := local()
	if err != nil {
		t.Fatal(err)
	}
	n.Out, n.Images.Out, n.Images.Builder.Out = t.Output(), t.Output(), t.Output()
	must(t, n.Down(t.Context()))
	before := traces(t)
	must(t, n.Up(t.Context()))
	w := workload{node: n}
	w.deploy(t)

	kills := [][]string{
		{"etcd"},
		{"containerd"},
		{"kube-apiserver"},
		{"kube-controller-manager"},
		{"kube-scheduler"},
		{"kubelet"},
		{"kube-proxy"},
		{"load-balancer"},
		{"containerd", "kubelet"},
		{"etcd", "kube-apiserver", "kube-proxy"},
	}
	for _, names := range kills {
		t.Run("pods go on when "+strings.Join(names, " and ")+" was killed", func(t *testing.T) {
			for _, name := range names {
				must(t, record(t, n.Layout, name).Signal(syscall.SIGKILL))
			}
			begin := time.Now()
			must(t, n.Up(t.Context()))
			t.Logf("up again after %s", time.Since(begin).Round(10*time.Millisecond))
			w.undisturbed(t)
		})
	}
	t.Run("pods go on when the link was deleted", func(t *testing.T) {
		command(t, "ip", "link", "delete", layout.HostLink)
		must(t, n.Up(t.Context()))
		w.undisturbed(t)
	})
	t.Run("up on a healthy node changes nothing and is quick", func(t *testing.T) {
		begin := time.Now()
		must(t, n.Up(t.Context()))
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		w.undisturbed(t)
	})
	t.Run("a record whose pid belongs to somebody else harms nobody", func(t *testing.T) {
		foreign := exec.Command("sleep", "600")
		must(t, foreign.Start())
		defer func() { _ = foreign.Process.Kill(); _ = foreign.Wait() }()
		for _, name := range []string{"etcd", "kubelet"} {
			r := record(t, n.Layout, name)
			must(t, r.Signal(syscall.SIGKILL))
			r.PID = foreign.Process.Pid
			data, err := json.Marshal(r)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(n.Layout.Records(), name+".json"), data, 0o644))
		}
		must(t, n.Up(t.Context()))
		w.undisturbed(t)
		if id, err := process.Identify(foreign.Process.Pid); err != nil || !id.Alive() {
			t.Error("the foreign process is gone:", err)
		}
	})
	for name, harm := range map[string]func(){
		"every component was killed and the containers left": func() {
			for _, name := range slices.Concat(kills[:8]...) {
				must(t, record(t, n.Layout, name).Signal(syscall.SIGKILL))
			}
		},
		"the network namespace was deleted": func() { command(t, "ip", "netns", "delete", layout.NetNS) },
		"the records were lost":             func() { must(t, os.RemoveAll(n.Layout.Records())) },
		"the certificates were lost":        func() { must(t, os.RemoveAll(n.Layout.PKI())) },
	} {
		t.Run("starts over when "+name, func(t *testing.T) {
			harm()
			must(t, n.Up(t.Context()))
			must(t, n.Status(t.Context()))
			w.deploy(t)
		})
	}

	must(t, n.Down(t.Context()))
	if diff := cmp.Diff(before, traces(t)); diff != "" {
		t.Error("down left traces (-before +after):", diff)
	}
	must(t, n.Down(t.Context())) // again, on nothing
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func record(t *testing.T, l layout.Layout, name string) process.Record {
	t.Helper()
	r, ok := process.Table{Records: l.Records()}.Get(name)
	if !ok {
		t.Fatalf("no record of %s", name)
	}
	return r
}

// traces is what a node changes on a machine: mounts, links, routes, namespaces,
// cgroups, folders that programs insist on.
func traces(t *testing.T) []string {
	t.Helper()
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		found = append(found, "mount "+fields[4])
	}
	for line := range strings.Lines(command(t, "ip", "-4", "route")) {
		found = append(found, "route "+strings.TrimSpace(line))
	}
	for line := range strings.Lines(command(t, "ip", "-brief", "link")) {
		found = append(found, "link "+strings.Fields(line)[0])
	}
	for line := range strings.Lines(command(t, "ip", "netns")) {
		found = append(found, "network namespace "+strings.TrimSpace(line))
	}
	for _, pattern := range []string{
		"/sys/fs/cgroup/*/" + layout.Cgroup, "/sys/fs/cgroup/" + layout.Cgroup, "/sys/fs/cgroup/*/kubepods", layout.RunDir,
		"/var/lib/kubelet/*", "/var/lib/cni/*", "/var/log/containers/*", "/var/log/pods/*", "/opt/containerd", "/opt/cni/*",
		"/run/containerd/*", "/usr/libexec/kubernetes", "/etc/cni/*",
	} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		found = append(found, paths...)
	}
	slices.Sort(found)
	return found
}

// workload is a Deployment behind a load balancer, watched across incidents.
type workload struct {
	node node.Node
	pods string
}

func (w *workload) deploy(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	image, err := w.node.Images.Make(ctx, "app")
	must(t, err)
	must(t, w.node.Load(ctx, []images.Image{image}))
	client := w.client(t)
	labels := map[string]string{"app": "shop"}
	two := int32(2)
	_, err = client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image.Refs[0]}}},
			},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: labels,
			LoadBalancerIP: "10.250.0.200",
			Ports:          []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	w.answers(t, time.Minute)
	for deadline := time.Now().Add(time.Minute); strings.Count(w.pods, "restarts 0 true") != 2; time.Sleep(200 * time.Millisecond) {
		if w.pods = w.list(t); time.Now().After(deadline) {
			t.Fatal("the pods do not become ready: ", w.pods)
		}
	}
}

// undisturbed checks that the same pods run, were not restarted, and answer.
func (w *workload) undisturbed(t *testing.T) {
	t.Helper()
	w.answers(t, 5*time.Second)
	if diff := cmp.Diff(w.pods, w.list(t)); diff != "" {
		t.Error("pods changed (-before +after):", diff)
	}
}

func (w *workload) answers(t *testing.T, limit time.Duration) {
	t.Helper()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		response, err := client.Get("http://10.250.0.200/")
		if err == nil {
			_ = response.Body.Close()
			if response.Header.Get("X-Version") != "" {
				return
			}
			err = fmt.Errorf("status %s", response.Status)
		}
		if time.Now().After(deadline) {
			t.Fatal("the load balancer does not answer: ", err)
		}
	}
}

func (w *workload) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	client, err := w.node.Client()
	must(t, err)
	return client
}

func (w *workload) list(t *testing.T) string {
	t.Helper()
	pods, err := w.client(t).CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	must(t, err)
	var b strings.Builder
	for _, pod := range pods.Items {
		fmt.Fprintf(&b, "%s %s %s", pod.Name, pod.UID, pod.Status.PodIP)
		for _, c := range pod.Status.ContainerStatuses {
			fmt.Fprintf(&b, " restarts %d %v", c.RestartCount, c.Ready)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}
