// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"headgate.dev/headgate/api/v1beta1"
)

// installExperimental adds kinds of the experimental channel. They stay: an API server is
// long in removing a kind, and does not take it again meanwhile.
func installExperimental(t *testing.T, files ...string) {
	t.Helper()
	if config == nil {
		t.Skip("KUBEBUILDER_ASSETS names no API server")
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		files[i] = filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "experimental", file)
	}
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: files}); err != nil {
		t.Fatal(err)
	}
}

// ancestorHas waits for a condition under Gateway web in the status of an object with
// ancestors, and with an empty want for there being no entry of ours.
func (e *env) ancestorHas(name string, o client.Object, want string) {
	e.Helper()
	conditions := func() (int64, []metav1.Condition, error) {
		err := e.get(name, o)
		switch o := o.(type) {
		case *gwxv1alpha1.XBackend:
			for _, a := range o.Status.Ancestors {
				if a.ControllerName == v1beta1.ControllerName && a.AncestorRef.Name == "web" {
					return o.Generation, a.Conditions, err
				}
			}
		case *gwxv1alpha1.XBackendTrafficPolicy:
			for _, a := range o.Status.Ancestors {
				if a.ControllerName == v1beta1.ControllerName && a.AncestorRef.Name == "web" {
					return o.Generation, a.Conditions, err
				}
			}
		}
		return o.GetGeneration(), nil, err
	}
	if want != "" {
		e.condition(name, want, conditions)
		return
	}
	e.eventually(name+" has no entry of ours", func() string {
		if _, list, err := conditions(); err != nil || list != nil {
			return "it has one"
		}
		return ""
	})
}

// TestXBackendsAndTheirPoliciesHaveAStatus goes the way of an XBackend from its creation to
// the end of its last route, with an authority that comes late and policies that conflict.
func TestXBackendsAndTheirPoliciesHaveAStatus(t *testing.T) {
	installExperimental(t, "gateway.networking.x-k8s.io_xbackends.yaml", "gateway.networking.x-k8s.io_xbackendtrafficpolicies.yaml")
	e := start(t)
	e.gateway("web", nil)
	e.serve("web")
	group, kind := gwv1.Group(gwxv1alpha1.GroupName), gwv1.Kind("XBackend")
	route := e.route("api", func(r *gwv1.HTTPRoute) {
		r.Spec.Rules[0].BackendRefs[0].BackendObjectReference = gwv1.BackendObjectReference{Group: &group, Kind: &kind, Name: "api"}
	})
	e.routeHas("api", "ResolvedRefs=False BackendNotFound")

	backend := &gwxv1alpha1.XBackend{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "api"}}
	backend.Spec.Type, backend.Spec.Port.Number, backend.Spec.Protocol = gwxv1alpha1.BackendTypeExternalHostname, 443, ptr.To(gwxv1alpha1.BackendProtocolHTTP2)
	backend.Spec.ExternalHostname = &gwxv1alpha1.ExternalHostnameBackend{Hostname: "api.example.com"}
	backend.Spec.TLS = &gwxv1alpha1.BackendTLS{Mode: gwxv1alpha1.BackendTLSModeServerOnly, Validation: &gwv1.BackendTLSPolicyValidation{
		Hostname: "api.example.com", CACertificateRefs: []gwv1.LocalObjectReference{{Kind: "ConfigMap", Name: "authority"}},
	}}
	e.must(e.Create(e.Context(), backend))
	e.ancestorHas("api", &gwxv1alpha1.XBackend{}, "Accepted=False Invalid")
	e.routeHas("api", "ResolvedRefs=False BackendNotFound")
	certificate, _ := keyPair(t, "api.example.com")
	e.must(e.Create(e.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "authority"}, Data: map[string]string{"ca.crt": string(certificate)},
	}))
	e.ancestorHas("api", &gwxv1alpha1.XBackend{}, "Accepted=True Accepted")
	e.routeHas("api", "ResolvedRefs=True ResolvedRefs")
	e.routeHas("api", v1beta1.RouteConditionProgrammed+"=True Programmed")

	policy := func(name string, percent int) *gwxv1alpha1.XBackendTrafficPolicy {
		p := &gwxv1alpha1.XBackendTrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name}}
		p.Spec.TargetRefs = []gwv1.LocalPolicyTargetReference{{Group: group, Kind: kind, Name: "api"}}
		p.Spec.RetryConstraint = &gwxv1alpha1.RetryConstraint{Budget: &gwxv1alpha1.BudgetDetails{Percent: &percent}}
		e.must(e.Create(e.Context(), p))
		return p
	}
	first := policy("a", 20)
	policy("b", 30) // of the same second at the earliest: then its name decides
	e.ancestorHas("a", &gwxv1alpha1.XBackendTrafficPolicy{}, "Accepted=True Accepted")
	e.ancestorHas("b", &gwxv1alpha1.XBackendTrafficPolicy{}, "Accepted=False Conflicted")
	e.must(e.Delete(e.Context(), first))
	e.ancestorHas("b", &gwxv1alpha1.XBackendTrafficPolicy{}, "Accepted=True Accepted")

	// What the API server itself refuses never comes here; a host of the cluster does, by
	// its short name.
	e.must(e.get("api", backend))
	backend.Spec.ExternalHostname.Hostname = "web.finance.svc"
	e.must(e.Update(e.Context(), backend))
	e.ancestorHas("api", &gwxv1alpha1.XBackend{}, "Accepted=False Invalid")
	around := &gwxv1alpha1.XBackend{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "around"}, Spec: *backend.Spec.DeepCopy()}
	around.Spec.ExternalHostname.Hostname = "web.finance.svc.cluster.local"
	if err := e.Create(e.Context(), around, client.DryRunAll); !apierrors.IsInvalid(err) {
		t.Errorf("the API server says %v to a name of the cluster", err)
	}
	e.must(e.Delete(e.Context(), route))
	e.ancestorHas("api", &gwxv1alpha1.XBackend{}, "")
	e.ancestorHas("b", &gwxv1alpha1.XBackendTrafficPolicy{}, "")
}
