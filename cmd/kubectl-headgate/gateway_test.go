// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/cmd/kubectl-headgate/explain"
	"headgate.dev/headgate/cmd/kubectl-headgate/view"
	"headgate.dev/headgate/dataplane/infra"
)

var class sync.Once

// shopOf creates a shop in the namespace: a Gateway, a Service, a route that is
// fine and one that is not.
func (e *env) shopOf(namespace string) {
	e.Helper()
	class.Do(func() {
		for name, controller := range map[string]string{"headgate": v1beta1.ControllerName, "other": "example.com/other"} {
			c := &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gwv1.GatewayClassSpec{ControllerName: gwv1.GatewayController(controller)}}
			if err := e.Create(e.Context(), c); err != nil && !apierrors.IsAlreadyExists(err) {
				e.Fatal(err)
			}
		}
	})
	bad := strings.NewReplacer("name: web, namespace", "name: bad, namespace", "parentRefs: [{name: edge}]", "parentRefs: [{name: edge, sectionName: gone}, {name: nowhere}, {name: theirs}]\n  hostnames: [a.example.com]")
	theirs := "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: theirs, namespace: shop}, spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}}\n---\n"
	for _, doc := range strings.Split(strings.ReplaceAll(edge+theirs+webRoute+bad.Replace(webRoute)+webSlice, "namespace: shop", "namespace: "+namespace), "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(doc), &o.Object); err != nil {
			e.Fatal(err)
		}
		if err := e.Create(e.Context(), o); err != nil {
			e.Fatalf("%s: %v", doc, err)
		}
	}
}

func (e *env) says(got answer, code int, words ...string) {
	e.Helper()
	if got.code != code {
		e.Errorf("exit code %d, want %d: %+v", got.code, code, got)
	}
	for _, w := range words {
		if !strings.Contains(got.out+got.errOut, w) {
			e.Errorf("no %q in\n%s%s", w, got.out, got.errOut)
		}
	}
}

func TestWhyARouteIsNotAttached(t *testing.T) {
	e, ns := newEnv(t)
	e.shopOf(ns)
	e.says(e.run("gateway", "why", "web", "-n", ns), exitOK,
		"HTTPRoute "+ns+"/web is attached to 1 of its 1 parent.", "✓ its GatewayClass \"headgate\" is Headgate's", "listener http (HTTP, port 80, every host): attached", "✓ spec.rules[0] is valid")
	got := e.run("gateway", "why", "httproute/bad", "-n", ns)
	e.says(got, exitOK, "HTTPRoute "+ns+"/bad is attached to 0 of its 3 parents.",
		`has no listener "gone": write one that it has: "http" (port 80)`, "listener http (HTTP, port 80, every host): the parentRef means another",
		"✗ Gateway "+ns+"/nowhere does not exist", `✗ its GatewayClass "other" belongs to the controller example.com/other`)
	var answer explain.Answer
	if got := e.run("gateway", "why", "HTTPRoute/bad", "-n", ns, "-o", "json"); json.Unmarshal([]byte(got.out), &answer) != nil || len(answer.Parents) != 3 || answer.Parents[0].Attached {
		t.Errorf("json: %+v", got)
	}
}

func TestTheRouteTableWithoutAProxy(t *testing.T) {
	e, ns := newEnv(t)
	e.shopOf(ns)
	e.says(e.run("gateway", "routes", "edge", "-n", ns), exitError, "Gateway "+ns+"/edge has no proxy", "--expected")
	e.says(e.run("gateway", "routes", "edge", "-n", ns, "--expected"), exitOK,
		"Gateway "+ns+"/edge, as the API objects ask for it", "http-80\n", "/*  "+ns+"/web/80 100%  HTTPRoute/"+ns+"/web rule 0/0")
	var table view.RouteTable
	if got := e.run("gateway", "routes", "edge", "-n", ns, "--expected", "-o", "json"); json.Unmarshal([]byte(got.out), &table) != nil || len(table.Rows) != 1 || table.Rows[0].Backends[0].Cluster != ns+"/web/80" {
		t.Errorf("json: %+v", got)
	}
	e.says(e.run("gateway", "config", "web", "-n", ns, "--expected"), exitOK, "gateway: "+ns+"/edge", "address: 10.0.0.7", "name: HTTPRoute/"+ns+"/web/0/0")
	e.says(e.run("gateway", "config", "web", "-n", ns), exitError, "has no proxy")
	e.says(e.run("gateway", "config", "bad", "-n", ns, "--expected"), exitError, "is served by no Gateway", "gateway why bad -n "+ns)

	pod := e.proxy(ns)
	e.says(e.run("gateway", "routes", "edge", "-n", ns), exitError, "no proxy of Gateway "+ns+"/edge is running yet ("+pod.Name+")")
	pod.Status.Phase = corev1.PodRunning
	if err := e.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	e.says(e.run("gateway", "routes", "edge", "-n", ns), exitError, "no proxy of Gateway "+ns+"/edge can be read: reaching pod "+ns+"/"+pod.Name, "--expected shows")
	e.says(e.run("gateway", "routes", "edge", "-n", ns, "--pod", "x"), exitError, `there is no running proxy "x"`)
}

// proxy creates a pod as the proxies of Gateway edge have.
func (e *env) proxy(namespace string) *corev1.Pod {
	e.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "edge-headgate-1", Namespace: namespace, Labels: infra.PodLabels("edge")},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "envoy", Image: "envoy"}}},
	}
	// The controller that would make the ServiceAccount is not running.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: namespace}}
	if err := e.Create(e.Context(), account); err != nil && !apierrors.IsAlreadyExists(err) {
		e.Fatal(err)
	}
	if err := e.Create(e.Context(), pod); err != nil {
		e.Fatal(err)
	}
	return pod
}

func TestGatewaysAreListedAndShown(t *testing.T) {
	e, ns := newEnv(t)
	e.says(e.run("gateway", "list", "-n", ns), exitOK, "There are no Gateways of Headgate in namespace")
	e.shopOf(ns)
	got := e.run("gateway", "list", "-n", ns)
	e.says(got, exitOK, "no controller has looked at the Gateway yet")
	if strings.Contains(got.out, "theirs") {
		t.Errorf("a Gateway of another controller is listed:\n%s", got.out)
	}
	gw := &gwv1.Gateway{}
	if err := e.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "edge"}, gw); err != nil {
		t.Fatal(err)
	}
	gw.Status.Conditions = []metav1.Condition{
		{Type: "Accepted", Status: "True", Reason: "Accepted", LastTransitionTime: metav1.Now()},
		{Type: "Programmed", Status: "False", Reason: "NoResources", Message: "no proxy is ready yet", LastTransitionTime: metav1.Now()},
	}
	if err := e.Status().Update(t.Context(), gw); err != nil {
		t.Fatal(err)
	}
	e.proxy(ns)
	e.says(e.run("gateway", "status", "-A"), exitOK, ns, "0/1      ", "no proxy is ready yet")
	e.says(e.run("gateway", "status", "edge", "-n", ns), exitOK, "not served as written", "edge-headgate-1  no", "no proxy is ready yet",
		"kubectl describe pod -n "+ns+" -l gateway.networking.k8s.io/gateway-name=edge")
	if got := e.run("__complete", "gateway", "status", "-n", ns, "ed"); !strings.HasPrefix(got.out, "edge\n") {
		t.Errorf("completion: %+v", got)
	}
	if got := e.run("__complete", "gateway", "why", "-n", ns, "http"); !strings.HasPrefix(got.out, "httproute/bad\nhttproute/web\n") {
		t.Errorf("completion: %+v", got)
	}
}

func TestGatewayCommandsSayWhatIsNotThere(t *testing.T) {
	e, ns := newEnv(t)
	e.shopOf(ns)
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"routes gone", exitError, `there is no Gateway "gone" in namespace`},
		{"status gone", exitError, `there is no Gateway "gone" in namespace`},
		{"routes theirs", exitError, `is of class "other", which is not Headgate's`},
		{"why gone", exitError, `there is no HTTPRoute "gone" in namespace`},
		{"why grpcroute/web", exitError, `there is no GRPCRoute "web" in namespace`},
		{"why pod/web", exitUsage, `"pod" is not a kind of routes`},
		{"why", exitUsage, "name one route, for example: kubectl headgate gateway why httproute/checkout"},
		{"routes a b", exitUsage, "name one Gateway, for example: kubectl headgate gateway routes front"},
		{"routes edge -o xml", exitUsage, "write json or yaml"},
		{"status edge -A", exitUsage, "not both"},
		{"nothing", exitUsage, `there is no command "nothing"`},
	} {
		t.Run(row.args, func(t *testing.T) {
			got := e.run(append(append([]string{"gateway"}, strings.Fields(row.args)...), "-n", ns)...)
			if got.code != row.code || !strings.Contains(got.errOut, row.want) {
				t.Errorf("got %+v, want exit code %d and %q", got, row.code, row.want)
			}
		})
	}
}
