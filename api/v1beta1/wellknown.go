// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

// ControllerName is what a GatewayClass names in spec.controllerName to be
// served by Headgate's gateway half.
const ControllerName = "headgate.dev/gateway-controller"

// Labels.
const (
	// LabelHold stands on a Deployment while a Canary watches it. The admission
	// policy of the chart holds template changes of Deployments that carry it.
	// Its value is the Canary's name. Releases carry it too.
	LabelHold = "headgate.dev/canary"
	// LabelManagedBy stands on every object Headgate creates; value ManagedBy.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of LabelManagedBy.
	ManagedBy = "headgate"
)

// LabelAttempt stands on a Release; its value is the attempt's number.
const LabelAttempt = "headgate.dev/attempt"

// Annotations.
const (
	// AnnotationBypass on a Deployment, with any value, lets its next template
	// change roll out natively, without a release. Headgate removes it afterwards.
	AnnotationBypass = "headgate.dev/bypass"
	// AnnotationHeld stands on a Deployment whose template change was held by the
	// admission policy. While it stands, only Headgate (or an update that carries
	// AnnotationBypass) can unpause the Deployment.
	AnnotationHeld = "headgate.dev/held"
	// AnnotationRelease stands on a route, a Service or an autoscaler while a
	// release changes it. Its value is JSON: the Canary and what is needed to
	// bring the original back. On a route it also tells the gateway half to carry
	// the weights as runtime keys. It is a JSON object with one entry per Canary,
	// by name, because two Canaries may share a route.
	AnnotationRelease = "headgate.dev/release"
	// AnnotationCommand on a Canary asks for something: "<verb>" or
	// "<verb>: <reason>", with a verb of the Command constants. It is removed
	// when it was carried out or refused.
	AnnotationCommand = "headgate.dev/command"
	// AnnotationCommandBy says who asked. The plugin fills it; it is informative.
	AnnotationCommandBy = "headgate.dev/command-by"
)

// Finalizer on a Canary makes its deletion restore the user's objects first.
const Finalizer = "headgate.dev/restore"

// Verbs of AnnotationCommand.
const (
	// CommandPromote approves the current step, or ends its hold early.
	CommandPromote = "promote"
	// CommandPromoteFull skips the remaining steps and goes to 100 %.
	CommandPromoteFull = "promote-full"
	// CommandAbort takes all traffic back to stable.
	CommandAbort = "abort"
	// CommandRetry releases the rejected version again, from the first step.
	CommandRetry = "retry"
	// CommandPause stops the release at its present weight.
	CommandPause = "pause"
	// CommandResume continues a paused release.
	CommandResume = "resume"
)

// RouteConditionProgrammed is the condition, in the parent status that Headgate's gateway
// writes on a route, that is True once every connected proxy has acknowledged
// the route at observedGeneration.
const RouteConditionProgrammed = "headgate.dev/Programmed"

// ReasonRuleRefused is the reason of RouteConditionProgrammed and of an event on a route
// of which the proxies refuse a rule. The rule answers 500; everything else is served.
const ReasonRuleRefused = "RuleRefused"

// ReasonInvalidBackendTLS is a reason of ResolvedRefs of a route: a backend is one that a
// BackendTLSPolicy wants spoken to over TLS, and the policy cannot be followed. Its share
// is answered with 500.
const ReasonInvalidBackendTLS = "InvalidBackendTLS"
