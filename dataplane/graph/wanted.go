// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"maps"
	"slices"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// Wanted are the objects that Build would look at of the kinds that are read by need,
// sorted: those that our Gateways and the policies of backends may refer to. Nothing
// else needs to be read.
func Wanted(r Resources) []Reference {
	w := wanted{refs: references{grants: grantsByNamespace(r.ReferenceGrants)}, all: map[Reference]bool{}}
	for _, gw := range r.Gateways {
		if class := r.GatewayClasses[string(gw.Spec.GatewayClassName)]; class != nil && string(class.Spec.ControllerName) == r.ControllerName {
			w.gateway(gw)
		}
	}
	setWantedSecrets(r, w.certificates)
	for _, p := range r.BackendTLSPolicies {
		for _, ref := range authorityRefs(p.Spec.Validation) {
			w.authority("BackendTLSPolicy", p.Namespace, ref)
		}
	}
	for _, x := range r.XBackends {
		w.xbackend(x)
	}
	return slices.SortedFunc(maps.Keys(w.all), func(a, b Reference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), compareKeys(a.NamespacedName, b.NamespacedName))
	})
}

type wanted struct {
	refs references
	all  map[Reference]bool
}

func (w wanted) gateway(gw *gwv1.Gateway) {
	for _, l := range gw.Spec.Listeners {
		w.certificates("Gateway", gw.Namespace, l.TLS)
	}
	tls := gw.Spec.TLS
	if tls == nil {
		return
	}
	if tls.Backend != nil && tls.Backend.ClientCertificateRef != nil {
		w.secret("Gateway", gw.Namespace, *tls.Backend.ClientCertificateRef)
	}
	if tls.Frontend == nil {
		return
	}
	validations := []*gwv1.FrontendTLSValidation{tls.Frontend.Default.Validation}
	for _, p := range tls.Frontend.PerPort {
		validations = append(validations, p.TLS.Validation)
	}
	for _, v := range validations {
		if v != nil {
			for _, ref := range v.CACertificateRefs {
				w.authority("Gateway", gw.Namespace, ref)
			}
		}
	}
}

func (w wanted) xbackend(x *gwxv1alpha1.XBackend) {
	tls := x.Spec.TLS
	if tls == nil {
		return
	}
	if tls.ClientCertificateRef != nil {
		w.secret(xbackendKind, x.Namespace, *tls.ClientCertificateRef)
	}
	if tls.Validation != nil {
		for _, ref := range authorityRefs(*tls.Validation) {
			w.authority(xbackendKind, x.Namespace, ref)
		}
	}
}

// certificates adds those of a listener that stands in an object of kind from in the namespace.
func (w wanted) certificates(from, namespace string, tls *gwv1.ListenerTLSConfig) {
	if tls != nil {
		for _, ref := range tls.CertificateRefs {
			w.secret(from, namespace, ref)
		}
	}
}

// secret adds a Secret that an object of kind from in the namespace may use.
func (w wanted) secret(from, namespace string, ref gwv1.SecretObjectReference) {
	key := SecretKey(namespace, ref)
	if deref(ref.Group, "") == "" && deref(ref.Kind, KindSecret) == KindSecret && w.refs.permitted(from, namespace, KindSecret, key) {
		w.all[Reference{KindSecret, key}] = true
	}
}

// authority adds an object with authorities that an object of kind from in the namespace may use.
func (w wanted) authority(from, namespace string, ref gwv1.ObjectReference) {
	to, ok := authorityRef(namespace, ref)
	if ok && (to.Namespace == "" || w.refs.permitted(from, namespace, to.Kind, to.NamespacedName)) {
		w.all[to] = true
	}
}
