// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

// limited is a user with the rights that the chart gives the gateway half, except that it may do
// anything with Secrets only where somebody binds the ClusterRole of its name.
func limited(t *testing.T) *rest.Config {
	t.Helper()
	if config == nil {
		t.Skip("needs an API server: set KUBEBUILDER_ASSETS to the folder of etcd and kube-apiserver, as make test does")
	}
	data, err := os.ReadFile("../../charts/headgate/files/rbac/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	everywhere := &rbacv1.ClusterRole{}
	for doc := range strings.SplitSeq(string(data), "---\n") {
		if strings.Contains(doc, "kind: ClusterRole\n") {
			if err := yaml.UnmarshalStrict([]byte(doc), everywhere); err != nil {
				t.Fatal(err)
			}
		}
	}
	user := "limited-" + fmt.Sprint(time.Now().UnixNano())
	secrets := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}}
	everywhere.ObjectMeta = metav1.ObjectMeta{Name: user + "-everywhere"}
	for i := range everywhere.Rules {
		r := &everywhere.Rules[i]
		if !slices.Contains(r.Resources, "secrets") {
			continue
		}
		apart := *r.DeepCopy()
		apart.Resources = []string{"secrets"}
		secrets.Rules = append(secrets.Rules, apart)
		r.Resources = slices.DeleteFunc(r.Resources, func(name string) bool { return name == "secrets" })
	}
	everywhere.Rules = slices.DeleteFunc(everywhere.Rules, func(r rbacv1.PolicyRule) bool { return len(r.Resources) == 0 })
	if len(secrets.Rules) == 0 {
		t.Fatal("the chart gives no right to Secrets")
	}
	admin := &env{T: t, Client: adminClient(t)}
	admin.must(admin.Create(t.Context(), everywhere))
	admin.must(admin.Create(t.Context(), secrets))
	admin.must(admin.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: everywhere.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}))
	as := rest.CopyConfig(config)
	as.Impersonate.UserName = user
	return as
}

// maySecrets lets a limited user do in a namespace with Secrets what the chart lets it do.
func (e *env) maySecrets(user *rest.Config, namespace string) {
	e.Helper()
	name := user.Impersonate.UserName
	e.must(e.Create(e.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}))
}

func secretOf(t *testing.T, namespace, name, host string) *corev1.Secret {
	cert, key := keyPair(t, host)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": cert, "tls.key": key},
	}
}

// secureListener gives a Gateway an HTTPS listener, beside its first.
func secureListener(ref gwv1.SecretObjectReference) func(*gwv1.Gateway) {
	return func(gw *gwv1.Gateway) {
		gw.Spec.Listeners = append(gw.Spec.Listeners, gwv1.Listener{
			Name: "https", Port: 443, Protocol: gwv1.HTTPSProtocolType,
			TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{ref}},
		})
	}
}

// secondListener is a condition of the listener that secureListener gave.
func (e *env) secondListener(conditionType string) (*metav1.Condition, error) {
	gw := &gwv1.Gateway{}
	if err := e.get("web", gw); err != nil {
		return nil, err
	}
	if len(gw.Status.Listeners) < 2 {
		return &metav1.Condition{}, nil
	}
	if c := meta.FindStatusCondition(gw.Status.Listeners[1].Conditions, conditionType); c != nil {
		return c, nil
	}
	return &metav1.Condition{}, nil
}

func (e *env) secondListenerSays(want string, words ...string) {
	e.Helper()
	e.eventuallyWithin(40*time.Second, "the listener says "+want, func() string {
		c, err := e.secondListener("ResolvedRefs")
		if err != nil {
			return err.Error()
		}
		got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		for _, word := range append(words, want) {
			if !strings.Contains(got, word) {
				return "it says " + got
			}
		}
		return ""
	})
}

func TestARightThatIsMissingIsSaidAndTheRestGoesOn(t *testing.T) {
	user := limited(t)
	e := startAs(t, user)
	e.maySecrets(user, e.ns)
	private := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "private-"}}
	e.must(e.Create(e.Context(), private))
	secret := secretOf(t, private.Name, "cert", "a.example.com")
	e.must(e.Create(e.Context(), secret))
	ref := gwv1.SecretObjectReference{Name: "cert", Namespace: ptr.To(gwv1.Namespace(private.Name))}
	e.gateway("web", secureListener(ref))
	e.secondListenerSays("False RefNotPermitted", "ReferenceGrant")
	e.must(e.Create(e.Context(), &gwv1beta1.ReferenceGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: private.Name, Name: "web"},
		Spec: gwv1beta1.ReferenceGrantSpec{
			From: []gwv1beta1.ReferenceGrantFrom{{Group: gwv1.GroupName, Kind: "Gateway", Namespace: gwv1.Namespace(e.ns)}},
			To:   []gwv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
		},
	}))
	e.secondListenerSays("False", "tls.certificateRefs[0]", "Headgate may not read Secret "+private.Name+"/cert")
	// What needs no such right is served.
	e.serve("web")
	e.service("shop")
	e.route("shop", nil)
	e.routeHas("shop", "ResolvedRefs=True ResolvedRefs")
	web := types.NamespacedName{Namespace: e.ns, Name: "web"}
	for name := range e.server.snapshot(web).Secrets {
		if strings.HasPrefix(name, private.Name+"/") {
			t.Errorf("the proxies get %s", name)
		}
	}
	// A right that is given is noticed without a restart.
	e.maySecrets(user, private.Name)
	e.secondListenerSays("True ResolvedRefs")
	// And one that is taken away ends no service.
	e.must(e.Delete(e.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: private.Name, Name: user.Impersonate.UserName}}))
	time.Sleep(time.Second)
	e.secondListenerSays("True ResolvedRefs")
	if e.server.snapshot(web).Secrets[private.Name+"/cert"] == nil {
		t.Error("the certificate is not served any more")
	}
}

func TestASecretThatIsMadeAnewIsServedAnew(t *testing.T) {
	e := start(t)
	e.must(e.Create(e.Context(), secretOf(t, e.ns, "cert", "a.example.com")))
	e.gateway("web", secureListener(gwv1.SecretObjectReference{Name: "cert"}))
	e.secondListenerSays("True ResolvedRefs")
	web := types.NamespacedName{Namespace: e.ns, Name: "web"}
	for range 5 {
		e.must(e.Delete(e.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "cert"}}))
		e.must(e.Create(e.Context(), secretOf(t, e.ns, "cert", "a.example.com")))
	}
	e.secondListenerSays("True ResolvedRefs")
	time.Sleep(time.Second) // at rest
	e.secondListenerSays("True ResolvedRefs")
	if e.server.snapshot(web).Secrets[e.ns+"/cert"] == nil {
		t.Error("the certificate is not served")
	}
	e.must(e.Delete(e.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "cert"}}))
	e.secondListenerSays("False InvalidCertificateRef", "does not exist")
	e.eventually("a certificate that its owner took back is not served", func() string {
		if e.server.snapshot(web).Secrets[e.ns+"/cert"] != nil {
			return "it is"
		}
		return ""
	})
}

func TestAnAuthorityThatChangesIsServed(t *testing.T) {
	e := start(t)
	e.gateway("web", nil)
	e.service("shop")
	e.route("shop", nil)
	first, _ := keyPair(t, "first")
	second, _ := keyPair(t, "second")
	authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "authority"}, Data: map[string]string{"ca.crt": string(first)}}
	e.must(e.Create(e.Context(), &gwv1.BackendTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: "shop"},
		Spec: gwv1.BackendTLSPolicySpec{
			TargetRefs: []gwv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gwv1.LocalPolicyTargetReference{Kind: "Service", Name: "shop"}}},
			Validation: gwv1.BackendTLSPolicyValidation{
				Hostname:          "shop.internal",
				CACertificateRefs: []gwv1.LocalObjectReference{{Kind: "ConfigMap", Name: "authority"}},
			},
		},
	}))
	accepted := func(want string) {
		t.Helper()
		e.condition("BackendTLSPolicy shop", want, func() (int64, []metav1.Condition, error) {
			p := &gwv1.BackendTLSPolicy{}
			if err := e.get("shop", p); err != nil || len(p.Status.Ancestors) == 0 {
				return p.Generation, nil, err
			}
			return p.Generation, p.Status.Ancestors[0].Conditions, nil
		})
	}
	web := types.NamespacedName{Namespace: e.ns, Name: "web"}
	served := func(pem []byte) {
		t.Helper()
		e.eventually("the authority is served", func() string {
			secret := fmt.Sprint(e.server.snapshot(web).Secrets["trust:policy/"+e.ns+"/shop"])
			if want := fmt.Sprintf("%q", pem); !strings.Contains(strings.ReplaceAll(secret, `\\`, `\`), strings.Trim(want, `"`)) {
				return secret
			}
			return ""
		})
	}
	accepted("Accepted=False NoValidCACertificate")
	e.must(e.Create(e.Context(), authority))
	accepted("Accepted=True Accepted")
	served(first)
	authority.Data["ca.crt"] = string(second)
	e.must(e.Update(e.Context(), authority))
	served(second)
	for _, pem := range [][]byte{first, second, first} {
		e.must(e.Delete(e.Context(), &corev1.ConfigMap{ObjectMeta: authority.ObjectMeta}))
		authority.ObjectMeta = metav1.ObjectMeta{Namespace: e.ns, Name: "authority"}
		authority.Data["ca.crt"] = string(pem)
		e.must(e.Create(e.Context(), authority))
		served(pem)
	}
	time.Sleep(time.Second) // at rest
	accepted("Accepted=True Accepted")
	e.routeHas("shop", "ResolvedRefs=True ResolvedRefs")
	e.must(e.Delete(context.WithoutCancel(e.Context()), authority))
	accepted("Accepted=False NoValidCACertificate")
	e.routeHas("shop", "ResolvedRefs=False InvalidBackendTLS")
}
