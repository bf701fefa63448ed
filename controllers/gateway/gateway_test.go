// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/measure"
	"headgate.dev/headgate/dataplane/pki"
	"headgate.dev/headgate/dataplane/server"
	"headgate.dev/headgate/dataplane/xds"
)

var config *rest.Config

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run() // the tests that need an API server say so
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "finding the Gateway API's CRDs:", err)
		return 1
	}
	env := &envtest.Environment{
		CRDDirectoryPaths: []string{
			"../../charts/headgate/files/crds",
			filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard"),
		},
		ErrorIfCRDPathMissing: true,
	}
	if config, err = env.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		return 1
	}
	defer func() { _ = env.Stop() }() // the process ends anyway
	return m.Run()
}

// fakeServer acknowledges what it is told to.
type fakeServer struct {
	mu        sync.Mutex
	changes   *Changes
	hold      bool
	delay     time.Duration // of acknowledgements
	versions  map[types.NamespacedName]uint64
	acked     map[types.NamespacedName]uint64
	nack      *server.Nack
	isolated  []server.Isolated
	endpoints map[graph.ClusterKey]int
	withdrawn map[types.NamespacedName]bool
	// updates counts the publications of differences alone.
	updates int
	last    map[types.NamespacedName]xds.Snapshot
}

func (f *fakeServer) Publish(snap xds.Snapshot) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.versions[snap.Gateway]++
	f.last[snap.Gateway] = snap
	version := f.versions[snap.Gateway]
	switch {
	case f.hold:
	case f.delay > 0:
		time.AfterFunc(f.delay, func() { f.acknowledge(snap.Gateway, version) })
	default:
		f.acked[snap.Gateway] = version
	}
	return version
}

// acknowledgeAfter lets the proxies acknowledge what is published from now on after a time.
func (f *fakeServer) acknowledgeAfter(delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = delay
}

func (f *fakeServer) acknowledge(gateway types.NamespacedName, version uint64) {
	f.mu.Lock()
	f.acked[gateway] = max(f.acked[gateway], version)
	f.mu.Unlock()
	f.changes.Notify(gateway)
}

// Update is told what differs.
func (f *fakeServer) Update(d xds.Delta) (uint64, bool) {
	f.mu.Lock()
	last := f.last[d.Gateway]
	f.updates++
	f.mu.Unlock()
	return f.Publish(d.Apply(last)), true
}

// snapshot is what was published last.
func (f *fakeServer) snapshot(gateway types.NamespacedName) xds.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[gateway]
}

func (f *fakeServer) Withdraw(gateway types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.withdrawn[gateway] = true
}

func (f *fakeServer) PublishEndpoints(key graph.ClusterKey, _ *endpointv3.ClusterLoadAssignment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endpoints[key]++
}

func (f *fakeServer) RemoveEndpoints(key graph.ClusterKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.endpoints, key)
}

func (f *fakeServer) State(gateway types.NamespacedName) server.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := server.State{Connected: 1, Published: f.versions[gateway], Acked: f.acked[gateway], Answered: f.acked[gateway], Nack: f.nack}
	state.Isolated = f.isolated
	if f.nack != nil {
		state.Refused, state.Answered = []server.Nack{*f.nack}, state.Published
	}
	return state
}

// refuse lets the proxies refuse rules, and nothing else.
func (f *fakeServer) refuse(rules ...server.Isolated) {
	f.mu.Lock()
	f.isolated = rules
	f.mu.Unlock()
	f.changes.Notify(types.NamespacedName{})
}

// release lets the proxies acknowledge everything from now on, or nothing new.
func (f *fakeServer) release(hold bool, nack *server.Nack) {
	f.mu.Lock()
	f.hold, f.nack = hold, nack
	if !hold {
		for k, v := range f.versions {
			f.acked[k] = v
		}
	}
	f.mu.Unlock()
	f.changes.Notify(types.NamespacedName{})
}

// env is an API server with the reconcilers running against it.
type env struct {
	*testing.T
	client.Client
	server *fakeServer
	passes *measure.Passes
	ns     string
}

func start(t *testing.T) *env {
	t.Helper()
	return startAs(t, config)
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gwv1.Install, gwv1beta1.Install, gwxv1alpha1.Install, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// adminClient may do everything, and has no cache.
func adminClient(t *testing.T) client.Client {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: testScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startAs runs the reconcilers with the rights of a user of the API server.
func startAs(t *testing.T, user *rest.Config) *env {
	t.Helper()
	if config == nil {
		t.Skip("needs an API server: set KUBEBUILDER_ASSETS to the folder of etcd and kube-apiserver, as make test does")
	}
	scheme := testScheme(t)
	skip := true
	mgr, err := ctrl.NewManager(user, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:      cache.Options{ByObject: CacheByObject()},
		Controller: controllerConfig(skip),
	})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.NewAuthority(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	changes := NewChanges()
	passes := measure.New(time.Now)
	f := &fakeServer{
		changes: changes, versions: map[types.NamespacedName]uint64{}, acked: map[types.NamespacedName]uint64{},
		endpoints: map[graph.ClusterKey]int{}, withdrawn: map[types.NamespacedName]bool{},
		last: map[types.NamespacedName]xds.Snapshot{},
	}
	err = Add(mgr, Options{
		Metrics: passes,
		Server:  f, Changes: changes, Authority: func() pki.Pair { return authority },
		ControlPlaneHost: "headgate-xds.headgate-system", ControlPlanePort: 18000, ControlPlaneName: "headgate-xds",
		ProxyImage: "envoy:test", HeadgateImage: "headgate:test", Now: time.Now, Rand: rand.Reader,
		EndpointsLinger: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
	direct := adminClient(t)
	e := &env{T: t, Client: direct, server: f, passes: passes}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	e.must(direct.Create(ctx, ns))
	e.ns = ns.Name
	class := &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: e.ns}, Spec: gwv1.GatewayClassSpec{ControllerName: v1beta1.ControllerName}}
	e.must(direct.Create(ctx, class))
	t.Cleanup(func() { // contexts of tests have ended by now
		var gws gwv1.GatewayList
		_ = direct.List(context.Background(), &gws)
		for i := range gws.Items {
			_ = direct.Delete(context.Background(), &gws.Items[i])
		}
		_ = direct.Delete(context.Background(), class)
	})
	return e
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// eventually waits until check has nothing to say.
func (e *env) eventually(what string, check func() string) {
	e.Helper()
	e.eventuallyWithin(10*time.Second, what, check)
}

func (e *env) eventuallyWithin(patience time.Duration, what string, check func() string) {
	e.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = check(); last == "" {
			return
		}
	}
	e.Fatalf("%s: %s", what, last)
}

func (e *env) get(name string, into client.Object) error {
	return e.Get(e.Context(), types.NamespacedName{Namespace: e.ns, Name: name}, into)
}

// gateway creates a Gateway with one HTTP listener on port 80.
func (e *env) gateway(name string, change func(*gwv1.Gateway)) *gwv1.Gateway {
	e.Helper()
	gw := &gwv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec: gwv1.GatewaySpec{
			GatewayClassName: gwv1.ObjectName(e.ns),
			Listeners:        []gwv1.Listener{{Name: "http", Port: 80, Protocol: gwv1.HTTPProtocolType}},
		},
	}
	if change != nil {
		change(gw)
	}
	e.must(e.Create(e.Context(), gw))
	return gw
}

// serve plays the cluster: the Deployment gets ready, the Service an address.
func (e *env) serve(gateway string) {
	e.Helper()
	name := gateway + "-" + e.ns
	e.eventually("the infrastructure appears", func() string {
		d, s := &appsv1.Deployment{}, &corev1.Service{}
		if err := e.get(name, d); err != nil {
			return err.Error()
		}
		if err := e.get(name, s); err != nil {
			return err.Error()
		}
		d.Status.Replicas, d.Status.ReadyReplicas = 1, 1
		if err := e.Status().Update(e.Context(), d); err != nil {
			return err.Error()
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}, {Hostname: "lb.example.com"}}
		if err := e.Status().Update(e.Context(), s); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (e *env) route(name string, change func(*gwv1.HTTPRoute)) *gwv1.HTTPRoute {
	e.Helper()
	port := gwv1.PortNumber(80)
	r := &gwv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "web"}}},
			Rules: []gwv1.HTTPRouteRule{{BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{
				BackendObjectReference: gwv1.BackendObjectReference{Name: "shop", Port: &port},
			}}}}},
		},
	}
	if change != nil {
		change(r)
	}
	e.must(e.Create(e.Context(), r))
	return r
}

func (e *env) service(name string) {
	e.Helper()
	e.must(e.Create(e.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}))
}

// condition waits for "Type=Status Reason" among conditions at the latest generation.
func (e *env) condition(what string, want string, read func() (int64, []metav1.Condition, error)) {
	e.Helper()
	e.eventually(what+" has "+want, func() string {
		generation, conditions, err := read()
		if err != nil {
			return err.Error()
		}
		conditionType, _, _ := strings.Cut(want, "=")
		c := meta.FindStatusCondition(conditions, conditionType)
		if c == nil {
			return "there is no such condition"
		}
		if got := fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason); got != want || c.ObservedGeneration != generation {
			return fmt.Sprintf("it has %s at generation %d of %d: %s", got, c.ObservedGeneration, generation, c.Message)
		}
		return ""
	})
}

func (e *env) gatewayHas(name, want string) {
	e.Helper()
	e.condition("Gateway "+name, want, func() (int64, []metav1.Condition, error) {
		gw := &gwv1.Gateway{}
		err := e.get(name, gw)
		return gw.Generation, gw.Status.Conditions, err
	})
}

func (e *env) routeHas(name, want string) {
	e.Helper()
	e.condition("HTTPRoute "+name, want, func() (int64, []metav1.Condition, error) {
		r := &gwv1.HTTPRoute{}
		if err := e.get(name, r); err != nil {
			return 0, nil, err
		}
		for _, p := range r.Status.Parents {
			if p.ControllerName == v1beta1.ControllerName {
				return r.Generation, p.Conditions, nil
			}
		}
		return r.Generation, nil, nil
	})
}

func (e *env) attached(gateway string, want int32) {
	e.Helper()
	e.eventually("routes are counted", func() string {
		gw := &gwv1.Gateway{}
		if err := e.get(gateway, gw); err != nil {
			return err.Error()
		}
		if len(gw.Status.Listeners) == 0 || gw.Status.Listeners[0].AttachedRoutes != want {
			return fmt.Sprintf("listeners = %+v, want %d attached routes", gw.Status.Listeners, want)
		}
		return ""
	})
}

func keyPair(t *testing.T, host string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func slice(ns, service, ip string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: service + "-1", Labels: map[string]string{serviceLabel: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{ip}}},
		Ports:       []discoveryv1.EndpointPort{{Port: new(int32(8080))}},
	}
}
