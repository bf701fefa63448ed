// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package status

import (
	"slices"

	"sigs.k8s.io/gateway-api/pkg/features"
)

// SupportedFeatures is what GatewayClasses publish, sorted as the API asks. It is
// also what the conformance suite is run with.
func SupportedFeatures() []features.FeatureName {
	list := []features.FeatureName{
		features.SupportGateway,
		features.SupportGatewayPort8080,
		features.SupportGatewayInfrastructure,
		features.SupportGatewayAddressEmpty,
		features.SupportGatewayStaticAddresses,
		features.SupportGatewayHTTPListenerIsolation,
		features.SupportGatewayRouteHostnameIntersectionPrecedence,
		features.SupportReferenceGrant,
		features.SupportListenerSet,

		features.SupportHTTPRoute,
		features.SupportHTTPRouteBackendRequestHeaderModification,
		features.SupportHTTPRouteQueryParamMatching,
		features.SupportHTTPRouteMethodMatching,
		features.SupportHTTPRouteResponseHeaderModification,
		features.SupportHTTPRouteCORS,
		features.SupportHTTPRoutePortRedirect,
		features.SupportHTTPRouteSchemeRedirect,
		features.SupportHTTPRoutePathRedirect,
		features.SupportHTTPRouteHostRewrite,
		features.SupportHTTPRoutePathRewrite,
		features.SupportHTTPRouteBackendURLRewrite,
		features.SupportHTTPRouteRequestMirror,
		features.SupportHTTPRouteRequestMultipleMirrors,
		features.SupportHTTPRouteRequestPercentageMirror,
		features.SupportHTTPRouteRequestTimeout,
		features.SupportHTTPRouteBackendTimeout,
		features.SupportHTTPRouteRetryCodes,
		features.SupportHTTPRouteRetryConnectionError,
		features.SupportHTTPRouteParentRefPort,
		features.SupportHTTPRouteDestinationPortMatching,
		features.SupportHTTPRouteBackendProtocolH2C,
		features.SupportHTTPRouteBackendProtocolWebSocket,
		features.SupportHTTPRouteNamedRouteRule,
		features.SupportHTTPRoute303RedirectStatusCode,
		features.SupportHTTPRoute307RedirectStatusCode,
		features.SupportHTTPRoute308RedirectStatusCode,

		features.SupportGRPCRoute,
		features.SupportGRPCRouteNamedRouteRule,
		features.SupportGRPCRouteRequestHeaderModifier,
	}
	slices.Sort(list)
	return list
}
