// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package env

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// On an API server of its own, since the cluster of the scenarios is shared.
func TestInstallGatewayAPI(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("needs an API server: run `make test`, or set KUBEBUILDER_ASSETS")
	}
	server := &envtest.Environment{}
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Client: api, Repo: repo, Out: io.Discard, Local: true}

	has := func() string {
		t.Helper()
		var crd apiextensionsv1.CustomResourceDefinition
		if err := api.Get(t.Context(), client.ObjectKey{Name: "httproutes.gateway.networking.k8s.io"}, &crd); err != nil {
			t.Fatal(err)
		}
		return crd.Annotations[channelAnnotation]
	}
	for _, step := range []struct{ name, install, want string }{
		{"on an empty cluster", Standard, Standard},
		{"again, which changes nothing", Standard, Standard},
		{"experimental over standard, which a policy forbids by default", Experimental, Experimental},
		{"standard where experimental is, which already has it", Standard, Experimental},
	} {
		if err := c.InstallGatewayAPI(t.Context(), step.install); err != nil {
			t.Fatal(step.name, err)
		}
		if got := has(); got != step.want {
			t.Errorf("%s: the cluster has %s, want %s", step.name, got, step.want)
		}
	}
	if err := c.SwitchGatewayAPI(t.Context(), Standard); err != nil {
		t.Fatal(err)
	}
	if got := has(); got != Standard {
		t.Errorf("after switching, the cluster has %s, want %s", got, Standard)
	}
	var crds apiextensionsv1.CustomResourceDefinitionList
	if err := api.List(t.Context(), &crds); err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds.Items {
		if crd.Annotations[channelAnnotation] != Standard && crd.DeletionTimestamp == nil {
			t.Errorf("CRD %s is of channel %s", crd.Name, crd.Annotations[channelAnnotation])
		}
	}
	c.Local = false
	if err := c.SwitchGatewayAPI(t.Context(), Standard); err != nil {
		t.Error("a cluster that has the channel already is refused:", err)
	}
	if err := c.InstallGatewayAPI(t.Context(), "stable"); err == nil {
		t.Error("an unknown channel is accepted")
	}
}
