// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// Problem is one thing that is wrong with an object, as its owner will read it.
// Each problem has one constructor in this package: grep finds its one meaning.
type Problem struct {
	// Condition is the Gateway API condition type it makes False (or True, for
	// negative conditions such as Conflicted).
	Condition string
	// Reason is the Gateway API reason in CamelCase.
	Reason string
	// Message says which field is wrong and what to write instead.
	Message string
}

// Has tells whether one of the problems concerns the condition.
func Has(problems []Problem, condition string) bool {
	for _, p := range problems {
		if p.Condition == condition {
			return true
		}
	}
	return false
}

func problem[C, R ~string](condition C, reason R, format string, args ...any) Problem {
	return Problem{Condition: string(condition), Reason: string(reason), Message: fmt.Sprintf(format, args...)}
}

// Of classes and Gateways.

func classParametersInvalid(text string) Problem {
	return problem(gwv1.GatewayClassConditionStatusAccepted, gwv1.GatewayClassReasonInvalidParameters, "%s", text)
}

func classNotAccepted(class string) Problem {
	return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonInvalid,
		"GatewayClass %q is not accepted: see its status", class)
}

func gatewayParametersInvalid(text string) Problem {
	return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonInvalidParameters, "%s", text)
}

// parametersUnsupported is the sentence about a reference of a Gateway or a class to
// another kind.
func parametersUnsupported(field, group, kind, name string) string {
	return fmt.Sprintf("%s names %s %q of group %q: name a ProxyConfig of group %s, or remove it", field, kind, name, group, v1beta1.GroupVersion.Group)
}

func addressUnsupported(i int, addressType string) Problem {
	return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonUnsupportedAddress,
		"spec.addresses[%d] has type %q: only IPAddress is supported", i, addressType)
}

func addressInvalid(i int, value string) Problem {
	return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonUnsupportedAddress,
		"spec.addresses[%d] is %q: write an IPv4 or IPv6 address, or leave value out to have one assigned", i, value)
}

func listenersNotValid(names []string, all bool) Problem {
	if all {
		return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonListenersNotValid,
			"no listener can be served (%s): see their conditions", quoted(names))
	}
	return problem(gwv1.GatewayConditionAccepted, gwv1.GatewayReasonListenersNotValid,
		"listeners %s are not served: see their conditions", quoted(names))
}

// Of listeners.

func protocolUnsupported(protocol gwv1.ProtocolType) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonUnsupportedProtocol,
		"protocol %q is not supported: write HTTP, HTTPS, TLS, TCP or UDP", protocol)
}

func portReserved(port int32) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonPortUnavailable,
		"port %d is used by the proxy itself: write another one", port)
}

func portInvalid(port int32) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonPortUnavailable,
		"port %d does not exist: write a number from 1 to 65535", port)
}

func portTaken(port, by int32) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonPortUnavailable,
		"port %d is what the proxy binds for the listener on port %d: write another one", port, by)
}

func listenerValueUnsupported(format string, args ...any) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonUnsupportedValue, format, args...)
}

func protocolConflict(port int32, names []string) Problem {
	return problem(gwv1.ListenerConditionConflicted, gwv1.ListenerReasonProtocolConflict,
		"port %d has listeners of different protocols (%s): give each protocol a port of its own", port, quoted(names))
}

func hostnameConflict(port int32, hostname string, names []string) Problem {
	return problem(gwv1.ListenerConditionConflicted, gwv1.ListenerReasonHostnameConflict,
		"listeners %s all serve %s on port %d: give each a hostname of its own", quoted(names), hostText(hostname), port)
}

func overlappingHostnames(hostname string, other gwv1.SectionName, otherHostname string) Problem {
	return problem(gwv1.ListenerConditionOverlappingTLSConfig, gwv1.ListenerReasonOverlappingHostnames,
		"%s overlaps with %s of listener %q: a client that reuses a connection may get the certificate of the other",
		hostText(hostname), hostText(otherHostname), other)
}

func routeKindInvalid(group, kind string, possible []RouteKind) Problem {
	var names []string
	for _, k := range possible {
		names = append(names, string(k))
	}
	return problem(gwv1.ListenerConditionResolvedRefs, gwv1.ListenerReasonInvalidRouteKinds,
		"allowedRoutes.kinds names %s of group %q: the listener can serve %s of group %q", kind, group, strings.Join(names, " and "), gwv1.GroupName)
}

func certificateMissing() Problem {
	return problem(gwv1.ListenerConditionResolvedRefs, gwv1.ListenerReasonInvalidCertificateRef,
		"tls.certificateRefs is empty: name a Secret of type kubernetes.io/tls")
}

// clientAuthorityMissing is of a listener whose clients could not be told from anybody.
func clientAuthorityMissing(field string) Problem {
	return problem(gwv1.ListenerConditionAccepted, gwv1.ListenerReasonNoValidCACertificate,
		"none of the Gateway's %s.caCertificateRefs can be used: nobody is let in until one can", field)
}

func clientsNotValidated(field string) Problem {
	return problem(gwv1.GatewayConditionInsecureFrontendValidationMode, gwv1.GatewayReasonConfigurationChanged,
		"%s.mode is AllowInsecureFallback: clients are let in whose certificate is missing or not valid; write AllowValidOnly to refuse them", field)
}

// Of policies of backends.

func policyInvalid(format string, args ...any) Problem {
	return problem(gwv1.PolicyConditionAccepted, gwv1.PolicyReasonInvalid, format, args...)
}

func policyWithoutAuthority(field string) Problem {
	return problem(gwv1.PolicyConditionAccepted, gwv1.BackendTLSPolicyReasonNoValidCACertificate,
		"none of %s.caCertificateRefs can be used: requests to the backend are answered with 500 until one can", field)
}

func policyConflicted(target policyTarget, by types.NamespacedName) Problem {
	what := "Service " + target.service.String()
	if target.section != "" {
		what = fmt.Sprintf("port %q of %s", target.section, what)
	}
	return problem(gwv1.PolicyConditionAccepted, gwv1.PolicyReasonConflicted,
		"%s has an older BackendTLSPolicy, %s, which stays in force: delete one of the two, or target a port with sectionName", what, by)
}

func policyTargetNotFound(target policyTarget) Problem {
	return problem(gwv1.PolicyConditionAccepted, gwv1.PolicyReasonTargetNotFound,
		"Service %s has no port named %q: write the name of one of its ports as sectionName, or leave it out for all of them", target.service, target.section)
}

// Of routes, rules and backends. Their messages begin with the field.

func hostnameInvalid(i int, hostname string) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonUnsupportedValue,
		"spec.hostnames[%d] is %q: write a DNS name such as shop.example.com or *.example.com", i, hostname)
}

func valueUnsupported(field, format string, args ...any) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonUnsupportedValue, "%s: %s", field, fmt.Sprintf(format, args...))
}

func filterUnsupported(field, filterType string) Problem {
	return valueUnsupported(field, "%s is not supported: remove it", filterType)
}

func mirrorOfOneBackend(field string) Problem {
	return valueUnsupported(field, "RequestMirror of a single backend is not supported, because the proxy decides on copies before it chooses the backend: write it into the rule's filters")
}

func filterUnfit(field, filterType string) Problem {
	return valueUnsupported(field, "%s is not a filter of a single backend: write it into the rule's filters", filterType)
}

func filterRepeated(field, filterType string) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonIncompatibleFilters,
		"%s: %s stands here twice: join the two", field, filterType)
}

func filtersIncompatible(field, format string, args ...any) Problem {
	return problem(gwv1.RouteConditionAccepted, gwv1.RouteReasonIncompatibleFilters, "%s: %s", field, fmt.Sprintf(format, args...))
}

func rulesDropped(messages string) Problem {
	return problem(gwv1.RouteConditionPartiallyInvalid, gwv1.RouteReasonUnsupportedValue,
		"Dropped Rule: requests that match it are answered with 500: %s", messages)
}

// RuleRefused is the one problem that Build cannot see: the proxies refuse a rule.
func RuleRefused(index int, message string) Problem {
	return problem(gwv1.RouteConditionPartiallyInvalid, gwv1.RouteReasonUnsupportedValue,
		"Dropped Rule: requests that match spec.rules[%d] are answered with 500, because the proxies refuse it: %s", index, message)
}

func backendKindInvalid(field, group, kind string) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonInvalidKind,
		"%s names a %s of group %q: only Services of the core group (\"\") are supported", field, kind, group)
}

func backendNotPermitted(field string, kind RouteKind, from string, service types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonRefNotPermitted,
		"%s: no ReferenceGrant in namespace %q lets %ss of namespace %q use Service %q", field, service.Namespace, kind, from, service.Name)
}

func backendNotFound(field string, service types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: Service %s does not exist", field, service)
}

func backendPortMissing(field string) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: port is missing: write the Service's port", field)
}

func backendPortNotFound(field string, service types.NamespacedName, transport corev1.Protocol, port int32) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: Service %s has no %s port %d", field, service, transport, port)
}

func backendExternalName(field string, service types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonInvalidKind,
		"%s: Service %s is of type ExternalName, which Headgate serves only if the chart value gateway.externalNameServices allows it: write an XBackend of type ExternalHostname", field, service)
}

func backendExternalNameOfDatagrams(field string, service types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonInvalidKind,
		"%s: Service %s is of type ExternalName, which a UDPRoute cannot use: name a Service with endpoints", field, service)
}

func backendExternalNameRefused(field string, service types.NamespacedName, why string) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: Service %s has a spec.externalName that %s", field, service, why)
}

func backendProtocolUnsupported(field string, service types.NamespacedName, protocol string, kind RouteKind) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonUnsupportedProtocol,
		"%s: Service %s has appProtocol %q, which %ss cannot use: write http, https, kubernetes.io/h2c, kubernetes.io/ws or kubernetes.io/wss", field, service, protocol, kind)
}

func backendWithoutTLS(field string, service types.NamespacedName, protocol string) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonUnsupportedProtocol,
		"%s: Service %s has appProtocol %q, but nothing says whose certificate it must show: create a BackendTLSPolicy for it", field, service, protocol)
}

func backendTLSInvalid(field string, policy types.NamespacedName, kind RouteKind) Problem {
	outcome := "answered with 500"
	if kind == KindTLSRoute || kind == KindTCPRoute {
		outcome = "closed"
	}
	return Problem{
		Condition: string(gwv1.RouteConditionResolvedRefs), Reason: v1beta1.ReasonInvalidBackendTLS,
		Message: fmt.Sprintf("%s: BackendTLSPolicy %s cannot be followed, so that its share is %s: see its status", field, policy, outcome),
	}
}

// Of XBackends and of routes that name them.

func xbackendInvalid(format string, args ...any) Problem {
	return problem(gwv1.PolicyConditionAccepted, gwv1.PolicyReasonInvalid, format, args...)
}

func xbackendNotFound(field string, key types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: XBackend %s does not exist", field, key)
}

func xbackendNotPermitted(field string, kind RouteKind, from string, key types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonRefNotPermitted,
		"%s: no ReferenceGrant in namespace %q lets %ss of namespace %q use XBackend %q", field, key.Namespace, kind, from, key.Name)
}

func xbackendPortGiven(field string) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonInvalidKind, "%s: an XBackend has its own port: remove port", field)
}

func xbackendUnusable(field string, key types.NamespacedName) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonBackendNotFound, "%s: XBackend %s cannot be used: see its status", field, key)
}

func xbackendProtocolUnsupported(field string, key types.NamespacedName, protocol string, kind RouteKind) Problem {
	return problem(gwv1.RouteConditionResolvedRefs, gwv1.RouteReasonUnsupportedProtocol,
		"%s: XBackend %s has protocol %s, which %ss cannot use", field, key, protocol, kind)
}

func trafficPolicyConflicted(target budgetTarget, other types.NamespacedName) Problem {
	kind := "Service"
	if target.kind == UpstreamXBackend {
		kind = xbackendKind
	}
	return problem(gwv1.PolicyConditionAccepted, gwv1.PolicyReasonConflicted,
		"spec.targetRefs names %s %q, which the older XBackendTrafficPolicy %s is for: join the two", kind, target.Name, other)
}

func sessionMisplaced(field string) Problem {
	return valueUnsupported(field+".sessionPersistence",
		"it is not supported here: write it into an XBackend of type EndpointSelector, and name that in backendRefs")
}
