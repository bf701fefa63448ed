// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
)

func TestAKindThatIsInstalledLaterIsWatchedFromThen(t *testing.T) {
	if config == nil {
		t.Skip("needs an API server: set KUBEBUILDER_ASSETS to the folder of etcd and kube-apiserver, as make test does")
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gwv1.Install, gwv1beta1.Install, gwxv1alpha1.Install, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: controllerConfig(true)})
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 100)
	world, err := controller.New("late", mgr, controller.Options{Reconciler: reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		woken <- struct{}{}
		return reconcile.Result{}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	all := graphKinds(newWritten())
	k, err := newKinds(mgr, world, all, func() {}, newNews())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.addDiscovery(mgr); err != nil {
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
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the watches did not start without the kind")
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{T: t, Client: direct}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	e.must(direct.Create(ctx, ns))

	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	e.must(err)
	installed, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "experimental", "gateway.networking.x-k8s.io_xbackends.yaml")},
	})
	e.must(err)
	t.Cleanup(func() { uninstall(t, installed) })
	for len(woken) > 0 {
		<-woken
	}
	backend := &gwxv1alpha1.XBackend{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "outside"},
		Spec: gwxv1alpha1.BackendSpec{
			Type:             gwxv1alpha1.BackendTypeExternalHostname,
			Port:             gwxv1alpha1.BackendPort{Number: 443},
			ExternalHostname: &gwxv1alpha1.ExternalHostnameBackend{Hostname: "api.example.com"},
		},
	}
	e.must(direct.Create(ctx, backend))
	e.eventually("the graph is built from the new kind", func() string {
		res := graph.NewResources("headgate.dev/test")
		if err := k.gather(ctx, &res); err != nil {
			return err.Error()
		}
		if res.XBackends[types.NamespacedName{Namespace: ns.Name, Name: "outside"}] == nil {
			return "the object is not there"
		}
		return ""
	})
	<-woken
}

// uninstall removes definitions and waits until the API server has forgotten their kinds:
// the next test must not begin to watch what is about to go.
func uninstall(t *testing.T, definitions []*apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if err := envtest.UninstallCRDs(config, envtest.CRDInstallOptions{CRDs: definitions}); err != nil {
		t.Error(err)
	}
	api, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left := 0
		for _, d := range definitions {
			for _, v := range d.Spec.Versions {
				list, err := api.ServerResourcesForGroupVersion(d.Spec.Group + "/" + v.Name)
				if err != nil {
					continue // the group is gone with its last kind
				}
				for _, r := range list.APIResources {
					if r.Kind == d.Spec.Names.Kind {
						left++
					}
				}
			}
		}
		if left == 0 {
			return
		}
	}
	t.Error("the API server still serves kinds that were uninstalled")
}
