// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/pki"
)

// TestTrustBundlesOfEveryVersion reads them from API servers that have v1, v1beta1 only, and none.
func TestTrustBundlesOfEveryVersion(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("needs an API server: set KUBEBUILDER_ASSETS to the folder of etcd and kube-apiserver, as make test does")
	}
	const group = "certificates.k8s.io/"
	var authorities [2][]byte
	for i := range authorities {
		pair, err := pki.NewAuthority(time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		authorities[i] = pair.Cert
	}
	one, two := authorities[0], authorities[1]
	v1 := func(pem []byte) client.Object {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "partners"}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: string(pem)}}
	}
	beta := func(pem []byte) client.Object {
		return &certificatesv1beta1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "partners"}, Spec: certificatesv1beta1.ClusterTrustBundleSpec{TrustBundle: string(pem)}}
	}
	for _, tt := range []struct {
		name, runtime string
		bundle        func([]byte) client.Object
	}{
		{"v1", group + "v1=true", v1},
		{"v1beta1 only", group + "v1=false," + group + "v1beta1=true", beta},
		{"none", group + "v1=false", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &envtest.Environment{}
			server.ControlPlane.GetAPIServer().Configure().Set("runtime-config", tt.runtime)
			config, err := server.Start()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = server.Stop() }()
			c, err := client.NewWithWatch(config, client.Options{Scheme: testScheme(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.List(t.Context(), &certificatesv1.ClusterTrustBundleList{}); unserved(err) != strings.Contains(tt.runtime, "v1=false") {
				t.Fatalf("listing v1 ended with %v", err)
			}
			n := newNeeded(c)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = n.Start(ctx) }()
			ref := graph.Reference{Kind: graph.KindClusterTrustBundle, NamespacedName: types.NamespacedName{Name: "partners"}}
			e := &env{T: t, Client: c}
			e.must(n.want(ctx, []graph.Reference{ref}))
			has := func(what, want string) {
				t.Helper()
				e.eventuallyWithin(40*time.Second, what, func() string {
					r := graph.NewResources("test")
					n.fill(&r, []graph.Reference{ref})
					got := ""
					if b := r.ClusterTrustBundles["partners"]; b != nil {
						got = b.Spec.TrustBundle
					}
					if r.Denied[ref] {
						return "it may not be read"
					}
					if got != want {
						return "it is " + got
					}
					return ""
				})
			}
			has("there is no bundle", "")
			if tt.bundle == nil {
				return
			}
			bundle := tt.bundle(one)
			e.must(c.Create(ctx, bundle))
			has("the bundle is read", string(one))
			changed := tt.bundle(two)
			changed.SetResourceVersion(bundle.GetResourceVersion())
			e.must(c.Update(ctx, changed))
			has("the change is read", string(two))
			e.must(c.Delete(ctx, changed))
			has("the bundle is gone", "")
		})
	}
}
