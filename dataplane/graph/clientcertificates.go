// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// readClientCertificate reads what the proxies of a Gateway show to backends. One that
// cannot be used takes nothing else down: backends that ask for it will refuse.
func readClientCertificate(src *gwv1.Gateway, refs references) (*Certificate, []Problem) {
	if src.Spec.TLS == nil || src.Spec.TLS.Backend == nil || src.Spec.TLS.Backend.ClientCertificateRef == nil {
		return nil, nil
	}
	c, f := refs.keyPair("spec.tls.backend.clientCertificateRef", "Gateway", src.Namespace, *src.Spec.TLS.Backend.ClientCertificateRef)
	if f != nil {
		return nil, []Problem{f.problem(string(gwv1.GatewayConditionResolvedRefs), string(gwv1.GatewayReasonInvalidClientCertificateRef),
			string(gwv1.GatewayReasonRefNotPermitted), string(gwv1.GatewayReasonInvalidClientCertificateRef))}
	}
	return &c, nil
}

// frontendValidation is what a Gateway asks of the certificates of clients on a port, and
// the field where that stands. What is written for the port replaces the default whole.
func frontendValidation(src *gwv1.Gateway, port int32) (*gwv1.FrontendTLSValidation, string) {
	if src.Spec.TLS == nil || src.Spec.TLS.Frontend == nil {
		return nil, ""
	}
	for i, p := range src.Spec.TLS.Frontend.PerPort {
		if p.Port == port {
			return p.TLS.Validation, fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i)
		}
	}
	return src.Spec.TLS.Frontend.Default.Validation, "spec.tls.frontend.default.validation"
}

// readClientValidation reads what a listener that ends TLS on the port asks of its clients.
// With no authority left the listener is not accepted: it must not serve everybody.
func readClientValidation(src *gwv1.Gateway, port int32, refs references) (*ClientValidation, []Problem) {
	validation, field := frontendValidation(src, port)
	if validation == nil {
		return nil, nil
	}
	var problems []Problem
	bundle, failures := refs.authorities(field+".caCertificateRefs", "Gateway", src.Namespace, validation.CACertificateRefs)
	for _, f := range failures {
		problems = append(problems, f.problem(string(gwv1.ListenerConditionResolvedRefs), string(gwv1.ListenerReasonInvalidCACertificateKind),
			string(gwv1.ListenerReasonRefNotPermitted), string(gwv1.ListenerReasonInvalidCACertificateRef)))
	}
	if len(bundle) == 0 {
		problems = append(problems, clientAuthorityMissing(field))
	}
	v := &ClientValidation{
		Trust:    TrustBundle{Name: fmt.Sprintf("clients/%s/%s/%d", src.Namespace, src.Name, port), PEM: bundle},
		Insecure: validation.Mode == gwv1.AllowInsecureFallback,
	}
	if !v.Insecure && validation.Mode != gwv1.AllowValidOnly && validation.Mode != "" {
		problems = append(problems, listenerValueUnsupported("the Gateway's %s.mode is %q: write AllowValidOnly or AllowInsecureFallback", field, validation.Mode))
	}
	return v, problems
}

// insecureValidation tells, as a problem of the Gateway, where clients are let in whose
// certificate is not valid.
func insecureValidation(src *gwv1.Gateway) []Problem {
	if src.Spec.TLS == nil || src.Spec.TLS.Frontend == nil {
		return nil
	}
	var problems []Problem
	tell := func(field string, v *gwv1.FrontendTLSValidation) {
		if v != nil && v.Mode == gwv1.AllowInsecureFallback {
			problems = append(problems, clientsNotValidated(field))
		}
	}
	tell("spec.tls.frontend.default.validation", src.Spec.TLS.Frontend.Default.Validation)
	for i, p := range src.Spec.TLS.Frontend.PerPort {
		tell(fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i), p.TLS.Validation)
	}
	return problems
}
