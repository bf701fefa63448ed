// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// references is what objects may refer to.
type references struct {
	services map[types.NamespacedName]*corev1.Service
	secrets  map[types.NamespacedName]*corev1.Secret
	grants   map[string][]*gwv1beta1.ReferenceGrant
	proxies  proxyConfigs

	configMaps   map[types.NamespacedName]*corev1.ConfigMap
	trustBundles map[string]*certificatesv1.ClusterTrustBundle
	// denied are the objects that may exist and may not be read.
	denied map[Reference]bool
	// system are the well-known authorities.
	system   []byte
	policies policies
	// xbackends and budgets are made before the routes.
	xbackends map[types.NamespacedName]*XBackend
	budgets   budgets
	// externalNames lets Services of type ExternalName be used.
	externalNames bool
}

func grantsByNamespace(grants map[types.NamespacedName]*gwv1beta1.ReferenceGrant) map[string][]*gwv1beta1.ReferenceGrant {
	out := map[string][]*gwv1beta1.ReferenceGrant{}
	for _, key := range sortedKeys(grants) {
		if g := grants[key]; g != nil {
			out[key.Namespace] = append(out[key.Namespace], g)
		}
	}
	return out
}

// permitted tells whether an object of a Gateway API kind may refer to an object
// of the core group: always in its own namespace, else by a ReferenceGrant there.
func (r references) permitted(fromKind, fromNamespace, toKind string, to types.NamespacedName) bool {
	return r.permittedTo(fromKind, fromNamespace, "", toKind, to)
}

func (r references) permittedTo(fromKind, fromNamespace, toGroup, toKind string, to types.NamespacedName) bool {
	if fromNamespace == to.Namespace {
		return true
	}
	for _, grant := range r.grants[to.Namespace] {
		if grantsFrom(grant, fromKind, fromNamespace) && grantsTo(grant, toGroup, toKind, to.Name) {
			return true
		}
	}
	return false
}

// groupOf is the API group of a kind that refers to others.
func groupOf(kind string) string {
	if kind == xbackendKind {
		return gwxv1alpha1.GroupName
	}
	return gwv1.GroupName
}

func grantsFrom(grant *gwv1beta1.ReferenceGrant, kind, namespace string) bool {
	for _, from := range grant.Spec.From {
		if string(from.Group) == groupOf(kind) && string(from.Kind) == kind && string(from.Namespace) == namespace {
			return true
		}
	}
	return false
}

func grantsTo(grant *gwv1beta1.ReferenceGrant, group, kind, name string) bool {
	for _, to := range grant.Spec.To {
		if string(to.Group) == group && string(to.Kind) == kind && (to.Name == nil || *to.Name == "" || string(*to.Name) == name) {
			return true
		}
	}
	return false
}
