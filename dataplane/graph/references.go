// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Kinds of objects that are read by need: only those that something refers to.
const (
	KindSecret             = "Secret"
	KindConfigMap          = "ConfigMap"
	KindClusterTrustBundle = "ClusterTrustBundle"
)

// Reference names an object that is read by need. A ClusterTrustBundle has no namespace.
type Reference struct {
	Kind string
	types.NamespacedName
}

// String is "Secret shop/web".
func (r Reference) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.NamespacedName.String()
}

// failure is why a reference cannot be used. The condition and the reason that it has
// depend on who refers.
type failure struct {
	fault   fault
	message string
}

type fault int

const (
	faultKind    fault = iota // of a kind that is not supported
	faultGrant                // in another namespace, without a ReferenceGrant
	faultContent              // not there, not readable, or not what it should be
)

// problem makes the problem of it, with a reason for each fault.
func (f failure) problem(condition, kind, grant, content string) Problem {
	return Problem{Condition: condition, Reason: [...]string{faultKind: kind, faultGrant: grant, faultContent: content}[f.fault], Message: f.message}
}

func failed(f fault, format string, args ...any) *failure {
	return &failure{fault: f, message: fmt.Sprintf(format, args...)}
}

// missing says why an object that is referred to is not there.
func (r references) missing(field string, to Reference) *failure {
	if r.denied[to] {
		return failed(faultContent, "%s: Headgate may not read %s: let its ServiceAccount get, list and watch it", field, to)
	}
	return failed(faultContent, "%s: %s does not exist", field, to)
}

// keyPair reads the Secret that an object of kind from in the namespace refers to.
func (r references) keyPair(field, from, namespace string, ref gwv1.SecretObjectReference) (Certificate, *failure) {
	if group, kind := deref(ref.Group, ""), deref(ref.Kind, KindSecret); group != "" || kind != KindSecret {
		return Certificate{}, failed(faultKind, "%s names a %s of group %q: only Secrets of the core group (\"\") are supported", field, kind, group)
	}
	key := SecretKey(namespace, ref)
	// Before anything is said about the Secret: whether it exists is not for
	// those to know who may not use it.
	if !r.permitted(from, namespace, KindSecret, key) {
		return Certificate{}, failed(faultGrant, "%s: no ReferenceGrant in namespace %q lets %ss of namespace %q use Secret %q", field, key.Namespace, from, namespace, key.Name)
	}
	secret := r.secrets[key]
	if secret == nil {
		return Certificate{}, r.missing(field, Reference{KindSecret, key})
	}
	c := Certificate{Secret: key, Cert: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}
	if err := checkKeyPair(c.Cert, c.Key); err != nil {
		return Certificate{}, failed(faultContent, "%s: Secret %s cannot be used: %v", field, key, err)
	}
	return c, nil
}

// authorityRef is the object that a caCertificateRef of an object in the namespace names.
// That of a kind that is not supported is not ok.
func authorityRef(namespace string, ref gwv1.ObjectReference) (Reference, bool) {
	local := Reference{string(ref.Kind), types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}}
	switch {
	case ref.Group == "" && (ref.Kind == KindConfigMap || ref.Kind == KindSecret):
		return local, true
	case ref.Group == certificatesv1.GroupName && ref.Kind == KindClusterTrustBundle:
		return Reference{KindClusterTrustBundle, types.NamespacedName{Name: string(ref.Name)}}, true
	}
	return local, false
}

// authorities reads the authorities that an object of kind from in the namespace refers to.
// What cannot be used is left out, and named.
func (r references) authorities(field, from, namespace string, refs []gwv1.ObjectReference) ([]byte, []failure) {
	var bundle []byte
	var failures []failure
	for i, ref := range refs {
		content, f := r.authority(fmt.Sprintf("%s[%d]", field, i), from, namespace, ref)
		if f != nil {
			failures = append(failures, *f)
			continue
		}
		bundle = append(bundle, content...)
	}
	return bundle, failures
}

func (r references) authority(field, from, namespace string, ref gwv1.ObjectReference) ([]byte, *failure) {
	to, ok := authorityRef(namespace, ref)
	if !ok {
		return nil, failed(faultKind, "%s names a %s of group %q: write a ConfigMap or a Secret of the core group (\"\"), or a ClusterTrustBundle of group %q",
			field, ref.Kind, ref.Group, certificatesv1.GroupName)
	}
	if to.Namespace != "" && !r.permitted(from, namespace, to.Kind, to.NamespacedName) {
		return nil, failed(faultGrant, "%s: no ReferenceGrant in namespace %q lets %ss of namespace %q use %s %q", field, to.Namespace, from, namespace, to.Kind, to.Name)
	}
	content, found := r.bundle(to)
	if !found {
		return nil, r.missing(field, to)
	}
	clean, err := readAuthorities(content)
	if err != nil {
		return nil, failed(faultContent, "%s: %s cannot be used: %v", field, to, err)
	}
	return clean, nil
}

// bundle is the content of an object that holds authorities, under the key ca.crt.
func (r references) bundle(to Reference) (content []byte, found bool) {
	switch to.Kind {
	case KindConfigMap:
		if o := r.configMaps[to.NamespacedName]; o != nil {
			if text, ok := o.Data[authorityKey]; ok {
				return []byte(text), true
			}
			return o.BinaryData[authorityKey], true
		}
	case KindSecret:
		if o := r.secrets[to.NamespacedName]; o != nil {
			return o.Data[authorityKey], true
		}
	case KindClusterTrustBundle:
		if o := r.trustBundles[to.Name]; o != nil {
			return []byte(o.Spec.TrustBundle), true
		}
	}
	return nil, false
}

// authorityKey is where the Gateway API looks for authorities in a ConfigMap or Secret.
const authorityKey = "ca.crt"

// readAuthorities gives the certificates of a bundle and nothing else: Envoy refuses a
// bundle with a single one that it cannot read.
func readAuthorities(bundle []byte) ([]byte, error) {
	var clean bytes.Buffer
	rest := bundle
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has a PEM block %q: only CERTIFICATE belongs there", authorityKey, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("a certificate of %s cannot be read: %w", authorityKey, err)
		}
		block.Headers = nil
		_ = pem.Encode(&clean, block) // a Buffer takes everything, and there are no headers to refuse
	}
	if clean.Len() == 0 {
		return nil, errors.New(authorityKey + " holds no certificate: put the authorities there as PEM")
	}
	return clean.Bytes(), nil
}

// SystemAuthorities gives those certificates of a machine's bundle that can be used, the
// bundle of policies that trust the well-known authorities. It is empty when there is none.
func SystemAuthorities(bundle []byte) []byte {
	var clean []byte
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return clean
		}
		if one, err := readAuthorities(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})); err == nil {
			clean = append(clean, one...)
		}
	}
}
