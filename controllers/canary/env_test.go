// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/template"
	"time"

	"github.com/go-logr/logr/funcr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/measure"
	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/controllers/canary/meter"
)

const operatorUser = "system:serviceaccount:headgate-system:headgate"

// server is the API server all tests of this package share, with the real
// controllers of Deployments, ReplicaSets and EndpointSlices. Pods become ready
// by a loop of the test, routes are served by another.
var server struct {
	config *rest.Config
	client client.Client
	scheme *runtime.Scheme
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	ctrl.SetLogger(funcr.New(func(prefix, args string) {
		if testing.Verbose() {
			fmt.Fprintln(os.Stderr, prefix, args)
		}
	}, funcr.Options{}))
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run() // the tests that need an API server say so
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop, err := serve(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		cancel()
		stop()
		return 1
	}
	code := m.Run()
	cancel()
	stop()
	return code
}

func serve(ctx context.Context) (stop func(), err error) {
	stop = func() {}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return stop, fmt.Errorf("finding the Gateway API's CRDs: %w", err)
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard"), "../../charts/headgate/files/crds"},
		ErrorIfCRDPathMissing: true,
	}
	stop = func() { _ = env.Stop() } // the process ends anyway
	if server.config, err = env.Start(); err != nil {
		return stop, err
	}
	server.config.QPS = -1
	server.scheme = runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(server.scheme), v1beta1.AddToScheme(server.scheme), gwv1.Install(server.scheme)); err != nil {
		return stop, err
	}
	if server.client, err = client.New(server.config, client.Options{Scheme: server.scheme}); err != nil {
		return stop, err
	}
	manager, err := controllerManager(ctx, env.KubeConfig)
	if err != nil {
		return stop, err
	}
	stop = func() { manager(); _ = env.Stop() }
	if err := server.client.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}); err != nil {
		return stop, err
	}
	go kubelet(ctx)
	go gateway(ctx)
	return stop, errors.Join(grant(ctx), applyPolicy(ctx))
}

// controllerManager runs the real controllers. The test node's binary is every
// Kubernetes program in one, chosen by the name it is called by.
func controllerManager(ctx context.Context, kubeconfig []byte) (stop func(), err error) {
	binary, err := filepath.EvalSymlinks(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver"))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "headgate-kcm")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary)
	cmd.Args = []string{
		"kube-controller-manager", "--kubeconfig=" + file, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,endpointslice-controller,garbage-collector-controller",
		"--kube-api-qps=200", "--kube-api-burst=400", "--endpointslice-updates-batch-period=0s",
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the controllers: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	return func() { <-ended; _ = log.Close(); _ = os.RemoveAll(dir) }, nil
}

// broken are images whose pods do not become ready.
var broken sync.Map

// kubelet makes pods ready, or keeps those of broken images from it.
func kubelet(ctx context.Context) {
	for n := 1; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		pods := &corev1.PodList{}
		if server.client.List(ctx, pods) != nil {
			continue
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			if pod.DeletionTimestamp != nil {
				complain(ctx, "ending a pod", server.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
				continue
			}
			if pod.Spec.NodeName == "" { // without a node it would be no endpoint
				complain(ctx, "scheduling a pod", server.client.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}))
				continue
			}
			_, bad := broken.Load(pod.Spec.Containers[0].Image)
			ready := pod.Status.PodIP != "" && len(pod.Status.Conditions) > 0 && pod.Status.Conditions[0].Status == corev1.ConditionTrue
			if ready == !bad && pod.Status.PodIP != "" {
				continue
			}
			n++
			status := corev1.ConditionTrue
			pod.Status.Phase = corev1.PodRunning
			pod.Status.ContainerStatuses = nil
			if bad {
				status = corev1.ConditionFalse
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"},
				}}}
			}
			if pod.Status.PodIP == "" {
				pod.Status.PodIP = fmt.Sprintf("10.9.%d.%d", n/250%250, n%250+1)
				pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
			}
			now := metav1.Now()
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: now}}
			complain(ctx, "running a pod", server.client.Status().Update(ctx, pod))
		}
	}
}

// complain shows what a loop of the test could not do; the next round tries again.
func complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		fmt.Fprintln(os.Stderr, what, err)
	}
}

// deaf makes the gateway stop answering.
var deaf atomic.Bool

// gateway reports routes as served, as Headgate's does once proxies acknowledged.
func gateway(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(30 * time.Millisecond) {
		if deaf.Load() {
			continue
		}
		routes := &unstructured.UnstructuredList{}
		routes.SetGroupVersionKind(routeKind("HTTPRouteList"))
		if server.client.List(ctx, routes) != nil {
			continue
		}
		for i := range routes.Items {
			route := &routes.Items[i]
			// Asked again, as a test may have made it deaf while the list was on its way.
			if ok, _, _ := served(route); ok || deaf.Load() {
				continue
			}
			condition := func(kind string) any {
				return map[string]any{
					"type": kind, "status": "True", "reason": "Good", "message": "", "observedGeneration": route.GetGeneration(),
					"lastTransitionTime": "2030-01-01T00:00:00Z",
				}
			}
			refs, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
			var parents []any
			for _, ref := range refs {
				parents = append(parents, map[string]any{
					"parentRef": ref, "controllerName": v1beta1.ControllerName,
					"conditions": []any{condition("Accepted"), condition(v1beta1.RouteConditionProgrammed)},
				})
			}
			_ = unstructured.SetNestedSlice(route.Object, parents, "status", "parents")
			complain(ctx, "serving a route", server.client.Status().Update(ctx, route))
		}
	}
}

// grant gives the operator exactly the rules that the chart installs.
func grant(ctx context.Context) error {
	file, err := os.ReadFile("../../charts/headgate/files/rbac/operator.yaml")
	if err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{}
	for _, doc := range strings.Split(string(file), "---\n") {
		if strings.Contains(doc, "kind: ClusterRole") {
			if err := yaml.UnmarshalStrict([]byte(doc), role); err != nil {
				return err
			}
		}
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: operatorUser}},
	}
	return errors.Join(server.client.Create(ctx, role), server.client.Create(ctx, binding))
}

// policyObjects renders the chart's policy as helm would.
func policyObjects() ([]*unstructured.Unstructured, error) {
	file, err := os.ReadFile("../../charts/headgate/templates/hold-policy.yaml")
	if err != nil {
		return nil, err
	}
	t, err := template.New("hold-policy").Funcs(template.FuncMap{
		"include": func(name string, _ any) string {
			return map[string]string{"headgate.labels": "app: headgate"}[name] + map[bool]string{true: "headgate"}[name != "headgate.labels"]
		},
		"nindent": func(n int, s string) string { return "\n" + strings.Repeat(" ", n) + s },
	}).Parse(string(file))
	if err != nil {
		return nil, err
	}
	out := &bytes.Buffer{}
	if err := t.Execute(out, map[string]any{
		"Release": map[string]any{"Namespace": "headgate-system"},
		"Values":  map[string]any{"admission": map[string]any{"enabled": true}},
	}); err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, doc := range strings.Split(out.String(), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func applyPolicy(ctx context.Context) error {
	objects, err := policyObjects()
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := server.client.Create(ctx, o); err != nil {
			return fmt.Errorf("applying the hold policy: %w", err)
		}
	}
	// A policy takes effect a moment after it was stored.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "warm-up"}}
	if err := server.client.Create(ctx, ns); err != nil {
		return err
	}
	d := deployment(ns.Name, "v1", 0)
	d.Labels = map[string]string{v1beta1.LabelHold: "x"}
	if err := server.client.Create(ctx, d); err != nil {
		return err
	}
	for n := range 200 {
		d := &appsv1.Deployment{}
		if err := server.client.Get(ctx, types.NamespacedName{Namespace: ns.Name, Name: "checkout"}, d); err != nil {
			return err
		}
		d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("warm-%d", n)
		err := server.client.Update(ctx, d)
		if err == nil && d.Spec.Paused {
			return nil
		}
		if err != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("waiting for the hold policy: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the hold policy does not hold")
}

// env is one namespace with the objects of a user.
type env struct {
	*testing.T
	ctx       context.Context
	namespace string
	verdicts  *verdicts
	roads     *roads
	meter     *meter.Meter // of the process that runs
	stop      func()
}

// verdicts is the analysis of a test: counts that make the real judge say it.
type verdicts struct {
	mu      sync.Mutex
	bad     map[int64]bool // attempt
	silent  bool
	asked   analysis.Plan                // the newest of a release
	known   map[int64]*analysis.Evidence // by attempt
	answers chan types.NamespacedName
	// evidence is what it knows, saved what it was given by attempt.
	evidence string
	saved    []string
}

func (v *verdicts) Evidence(types.NamespacedName) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return []byte(v.evidence)
}

func (v *verdicts) Follow(_ types.NamespacedName, r measure.Release) analysis.Verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Saved != nil {
		v.saved = append(v.saved, string(r.Saved))
	}
	if r.Attempt > 0 {
		v.asked = r.Plan
	}
	now, since := time.Now(), r.Plan.Subject.Since
	if since.IsZero() { // what is known stays
		return analysis.Judge(r.Plan, cmp.Or(v.known[r.Attempt], &analysis.Evidence{}), now)
	}
	e := &analysis.Evidence{}
	e.Begin(r.Plan)
	v.known[r.Attempt] = e
	if v.silent {
		return analysis.Judge(r.Plan, e, now)
	}
	for _, m := range r.Plan.Metrics {
		value := 1.0
		if v.bad[r.Attempt] {
			value = 100
		}
		for range 3 { // as many as a verdict on a query takes
			e.Add(r.Plan, analysis.Measurement{
				Metric: m.Name, Kind: analysis.KindScalar, From: since, To: now,
				Stable: analysis.Sample{Value: 1, Present: true}, Canary: analysis.Sample{Value: value, Present: true},
			})
		}
	}
	return analysis.Judge(r.Plan, e, now)
}

func (v *verdicts) Hold(types.NamespacedName) {}

func (v *verdicts) Forget(types.NamespacedName) {}

func (v *verdicts) say(e *env, change func(*verdicts)) {
	v.mu.Lock()
	change(v)
	v.mu.Unlock()
	v.answers <- types.NamespacedName{Namespace: e.namespace, Name: "checkout"}
}

// patience is how long a test waits for anything.
const patience = 25 * time.Second

var namespaces atomic.Int64

func newEnv(t *testing.T) *env {
	t.Helper()
	if server.config == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set: make test sets it")
	}
	e := &env{
		T: t, ctx: t.Context(), namespace: fmt.Sprintf("shop-%d", namespaces.Add(1)),
		verdicts: &verdicts{bad: map[int64]bool{}, known: map[int64]*analysis.Evidence{}, answers: make(chan types.NamespacedName, 100)},
	}
	e.roads = &roads{env: e, away: map[string]string{}}
	e.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.namespace}})
	return e
}

// start runs the operator until e.stop.
func (e *env) start() { e.startWith(nil) }

// startWith also lets the test see, and refuse, each of its requests.
func (e *env) startWith(wrap transport.WrapperFunc) {
	e.Helper()
	cfg := rest.CopyConfig(server.config)
	cfg.Wrap(wrap)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: operatorUser}
	skip := true
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: server.scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &skip},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(), DefaultNamespaces: map[string]cache.Config{e.namespace: {}}, ByObject: CacheByObject(),
		},
	})
	if err != nil {
		e.Fatal(err)
	}
	e.verdicts.answers = make(chan types.NamespacedName, 100) // what a process before this one has not read is lost with it
	e.meter = meter.New(time.Now)
	if err := Add(mgr, Options{
		Measurer: e.verdicts, Answered: e.verdicts.answers, Diversions: e.diversions(), Meter: e.meter, Now: time.Now, WatchNamespaces: []string{e.namespace},
	}); err != nil {
		e.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	e.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			e.Error("the manager ended with", err)
		}
		e.stop = func() {}
	}
	e.Cleanup(func() { e.stop() })
}

func (e *env) create(o client.Object) {
	e.Helper()
	if err := server.client.Create(e.ctx, o); err != nil {
		e.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

func (e *env) get(o client.Object, name string) {
	e.Helper()
	if err := server.client.Get(e.ctx, types.NamespacedName{Namespace: e.namespace, Name: name}, o); err != nil {
		e.Fatalf("reading %T %s: %v", o, name, err)
	}
}

func (e *env) canary() *v1beta1.Canary {
	e.Helper()
	c := &v1beta1.Canary{}
	e.get(c, "checkout")
	return c
}

func (e *env) deployment() *appsv1.Deployment {
	e.Helper()
	d := &appsv1.Deployment{}
	e.get(d, "checkout")
	return d
}

func (e *env) route() *unstructured.Unstructured {
	e.Helper()
	r := &unstructured.Unstructured{}
	r.SetGroupVersionKind(routeKind("HTTPRoute"))
	e.get(r, "checkout")
	return r
}

// update changes the Deployment as a user does.
func (e *env) update(change func(*appsv1.Deployment)) {
	e.Helper()
	for {
		d := e.deployment()
		change(d)
		err := server.client.Update(e.ctx, d)
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			e.Fatal(err)
		}
	}
}

func (e *env) image(name string) {
	e.Helper()
	e.update(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = name })
}

func (e *env) command(c string) {
	e.Helper()
	body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1beta1.AnnotationCommand, c)
	if err := server.client.Patch(e.ctx, e.canary(), client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
		e.Fatal(err)
	}
}

// eventually waits until a condition holds, and says how it stood.
func (e *env) eventually(what string, ok func(*v1beta1.Canary) bool) *v1beta1.Canary {
	e.Helper()
	deadline := time.Now().Add(patience)
	for {
		c := e.canary()
		if ok(c) {
			return c
		}
		if time.Now().After(deadline) {
			out, _ := yaml.Marshal(c.Status)
			e.Fatalf("waited for: %s\n%s", what, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (e *env) phase(p v1beta1.Phase) *v1beta1.Canary {
	e.Helper()
	return e.eventually("phase "+string(p), func(c *v1beta1.Canary) bool { return c.Status.Phase == p })
}

func (e *env) weight(w int32) *v1beta1.Canary {
	e.Helper()
	return e.eventually(fmt.Sprintf("confirmed weight %d", w), func(c *v1beta1.Canary) bool {
		return c.Status.Weight == w && c.Status.Release != nil && c.Status.Release.ConfirmedAt != nil
	})
}
