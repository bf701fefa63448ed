// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// readCertificates gives the key pairs of an HTTPS listener. One that cannot be
// used does not take the others down.
func readCertificates(l *Listener, src *gwv1.ListenerTLSConfig, refs references) ([]Certificate, []Problem) {
	if src == nil {
		return nil, []Problem{certificateMissing()}
	}
	var problems []Problem
	if mode := deref(src.Mode, gwv1.TLSModeTerminate); mode != gwv1.TLSModeTerminate {
		problems = append(problems, listenerValueUnsupported("tls.mode is %q: write Terminate, or Passthrough with protocol TLS", mode))
	}
	problems = append(problems, optionProblems(src)...)
	if len(src.CertificateRefs) == 0 {
		problems = append(problems, certificateMissing())
	}
	kind, owner := l.Owner()
	var certificates []Certificate
	for i, ref := range src.CertificateRefs {
		c, f := refs.keyPair(fmt.Sprintf("tls.certificateRefs[%d]", i), kind, owner.Namespace, ref)
		if f != nil {
			problems = append(problems, f.problem(string(gwv1.ListenerConditionResolvedRefs), string(gwv1.ListenerReasonInvalidCertificateRef),
				string(gwv1.ListenerReasonRefNotPermitted), string(gwv1.ListenerReasonInvalidCertificateRef)))
			continue
		}
		certificates = append(certificates, c)
	}
	return certificates, problems
}

func optionProblems(src *gwv1.ListenerTLSConfig) []Problem {
	var problems []Problem
	for _, option := range slices.Sorted(maps.Keys(src.Options)) {
		problems = append(problems, listenerValueUnsupported("tls.options has %q, which is not known: remove it", option))
	}
	return problems
}

// SecretKey is the Secret that a certificateRef of a Gateway or ListenerSet in the namespace names.
func SecretKey(namespace string, ref gwv1.SecretObjectReference) types.NamespacedName {
	return types.NamespacedName{Namespace: string(deref(ref.Namespace, gwv1.Namespace(namespace))), Name: string(ref.Name)}
}

// checkKeyPair refuses what Envoy would refuse: pairs that do not belong
// together, intermediate certificates that cannot be read, weak RSA keys, and
// curves other than the three of TLS.
func checkKeyPair(cert, key []byte) error {
	switch {
	case len(cert) == 0:
		return fmt.Errorf("%s is missing: put the certificate there as PEM", corev1.TLSCertKey)
	case len(key) == 0:
		return fmt.Errorf("%s is missing: put the private key there as PEM", corev1.TLSPrivateKeyKey)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	for rest := cert; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s has a PEM block %q: only CERTIFICATE belongs there", corev1.TLSCertKey, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("a certificate of the chain cannot be read: %w", err)
		}
	}
	switch pub := pair.Leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return fmt.Errorf("the RSA key has %d bits: at least 2048 are needed", pub.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() && pub.Curve != elliptic.P521() {
			return errors.New("the curve of the ECDSA key is not supported: use P-256, P-384 or P-521")
		}
	default:
		return errors.New("the kind of key is not supported: use RSA or ECDSA")
	}
	return nil
}
