// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// readXBackendTLS reads how TLS is spoken to an XBackend; nil for not at all. With a problem
// the XBackend is not served: nothing is sent in the clear instead.
func readXBackendTLS(src *gwxv1alpha1.XBackend, refs references) (*UpstreamTLS, []Problem) {
	protocol := deref(src.Spec.Protocol, "")
	if src.Spec.TLS == nil || src.Spec.TLS.Mode == "" || src.Spec.TLS.Mode == gwxv1alpha1.BackendTLSModeNone {
		if protocol == gwxv1alpha1.BackendProtocolHTTP2 || protocol == gwxv1alpha1.BackendProtocolWSS {
			return nil, []Problem{xbackendInvalid("spec.protocol is %s, which needs spec.tls: add it, or write H2C or HTTP", protocol)}
		}
		return nil, nil
	}
	settings := src.Spec.TLS
	var problems []Problem
	bad := func(format string, args ...any) { problems = append(problems, xbackendInvalid(format, args...)) }
	if protocol == gwxv1alpha1.BackendProtocolH2C {
		bad("spec.protocol is H2C, which is HTTP/2 without TLS: write HTTP2, or remove spec.tls")
	}
	tls := &UpstreamTLS{}
	switch settings.Mode {
	case gwxv1alpha1.BackendTLSModeServerOnly:
		tls.Anonymous = true
		if settings.ClientCertificateRef != nil {
			bad("spec.tls.clientCertificateRef needs mode ClientAndServer: write that, or remove it")
		}
	case gwxv1alpha1.BackendTLSModeClientAndServer:
		if settings.ClientCertificateRef == nil {
			bad("spec.tls.clientCertificateRef is missing: name a Secret, or write mode ServerOnly")
			break
		}
		c, f := refs.keyPair("spec.tls.clientCertificateRef", xbackendKind, src.Namespace, *settings.ClientCertificateRef)
		if f != nil {
			bad("%s", f.message)
		}
		tls.Client = &c
	default:
		bad("spec.tls.mode is %q: write None, ServerOnly or ClientAndServer", settings.Mode)
	}
	if settings.Validation == nil {
		bad("spec.tls.validation is missing: say whose certificate the backend must show, and who has signed it")
		return nil, problems
	}
	problems = append(problems, tls.readValidation(src, *settings.Validation, refs)...)
	if len(problems) > 0 {
		return nil, problems
	}
	return tls, nil
}

// readValidation reads whose certificate an XBackend must show. An authority that cannot be
// used is left out and does no harm while there is another, as with a BackendTLSPolicy; an
// XBackend has no condition that could tell.
func (t *UpstreamTLS) readValidation(src *gwxv1alpha1.XBackend, validation gwv1.BackendTLSPolicyValidation, refs references) []Problem {
	const field = "spec.tls.validation"
	t.ServerName = strings.ToLower(string(validation.Hostname))
	problems := t.readNames(field, validation)
	failures, more := t.readTrust(field, xbackendKind, src.Namespace, validation, refs)
	t.Trust.Name = cmp.Or(t.Trust.Name, "xbackend/"+src.Namespace+"/"+src.Name)
	if len(more) > 0 {
		for _, f := range failures {
			problems = append(problems, xbackendInvalid("%s", f.message))
		}
	}
	return append(problems, more...)
}
