// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

// readXBackendTLS reads how TLS is spoken to an XBackend; nil for not at all.
func readXBackendTLS(src *gwxv1alpha1.XBackend, _ references) (*UpstreamTLS, []Problem) {
	secure := src.Spec.TLS != nil && src.Spec.TLS.Mode != "" && src.Spec.TLS.Mode != gwxv1alpha1.BackendTLSModeNone
	if protocol := deref(src.Spec.Protocol, ""); !secure && (protocol == gwxv1alpha1.BackendProtocolHTTP2 || protocol == gwxv1alpha1.BackendProtocolWSS) {
		return nil, []Problem{xbackendInvalid("spec.protocol is %s, which needs spec.tls: add it, or write H2C or HTTP", protocol)}
	}
	if secure {
		return nil, []Problem{xbackendInvalid("spec.tls.mode is %s, which is not supported: write None", src.Spec.TLS.Mode)}
	}
	return nil, nil
}
