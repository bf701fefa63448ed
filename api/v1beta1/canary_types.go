// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Canary releases every new version of one workload step by step, by the
// weights of the routes that lead to it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cn,categories=headgate
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.status.weight`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="a Canary's name is also a label value: use at most 63 characters"
type Canary struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CanarySpec   `json:"spec"`
	Status CanaryStatus `json:"status,omitempty"`
}

// CanaryList is a list of Canaries.
//
// +kubebuilder:object:root=true
type CanaryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Canary `json:"items"`
}

// CanarySpec says what is released and how. Only target is required.
type CanarySpec struct {
	// Target is the workload whose new versions are released. It lives in the
	// Canary's namespace.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the target cannot change: create another Canary for the other workload and delete this one"
	Target TargetReference `json:"target"`

	// Service is the name of the Service that selects the target's pods and that
	// the routes name as a backend. Empty: the one Service of the namespace that
	// selects the target's pods and is named by a route.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Service string `json:"service,omitempty"`

	// Routes are the routes whose weights are patched. Empty: every HTTPRoute and
	// GRPCRoute of the namespace that names the Service.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Routes []RouteReference `json:"routes,omitempty"`

	// Steps are the stages of a release, in order, weights rising to 100. Empty:
	// 5, 25, 50 with a hold of one minute each, then 100.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self[self.size()-1].weight == 100",message="the last step must be {weight: 100}: a release ends with all traffic on the new version"
	// +kubebuilder:validation:XValidation:rule="self.all(i, s, i == 0 || self[i-1].weight < s.weight)",message="weights must rise from step to step: 5, 25, 50, 100 for example"
	// +kubebuilder:validation:XValidation:rule="self.all(s, !has(s.bake) || s.weight == 100)",message="bake belongs to the step with weight 100; use hold on the others"
	// +kubebuilder:validation:XValidation:rule="self.all(s, !has(s.hold) || s.weight < 100)",message="hold belongs to steps below weight 100; use bake on the last one"
	Steps []Step `json:"steps,omitempty"`

	// Analysis says how the new version is compared with the one that serves.
	// Absent: error rate and 99th percentile of latency as the bundled gateway
	// measures them, with the default tolerances.
	// +optional
	Analysis *Analysis `json:"analysis,omitempty"`

	// ProgressDeadline is how long the canary's pods may take to become ready
	// before the release is rolled back. At least 10s. Default 10m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10s')",message="write a duration of at least 10s, such as 5m: pods need time to start"
	ProgressDeadline *metav1.Duration `json:"progressDeadline,omitempty"`

	// KeepFailed is how long the pods of a rejected version stay, without
	// traffic, to be looked at. 0s removes them at once. Default 10m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",message="write a duration such as 30s, 2m or 1h30m"
	KeepFailed *metav1.Duration `json:"keepFailed,omitempty"`

	// Windows are when a release may start and take a step. Empty: always. Outside
	// of them the weight stays as it is; a fault still rolls back, and a person's
	// promote goes through.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Windows []Window `json:"windows,omitempty"`

	// Suspend stops the release where it stands: weights stay, no step is taken,
	// no release starts. A fault still rolls back.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// TargetReference names a workload in the Canary's namespace.
type TargetReference struct {
	// Kind of the workload.
	// +kubebuilder:validation:Enum=Deployment
	// +kubebuilder:default=Deployment
	// +optional
	Kind string `json:"kind,omitempty"`
	// Name of the workload.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// RouteReference names a Gateway API route in the Canary's namespace.
type RouteReference struct {
	// Kind of the route.
	// +kubebuilder:validation:Enum=HTTPRoute;GRPCRoute
	// +kubebuilder:default=HTTPRoute
	// +optional
	Kind string `json:"kind,omitempty"`
	// Name of the route.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Window opens at every time its schedule names and closes after its duration.
type Window struct {
	// Schedule is a cron expression of five fields (minute, hour, day of the month,
	// month, day of the week): "0 9 * * 1-4" opens at nine on Monday to Thursday.
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^ ]+( +[^ ]+){4}$')",message="write five fields, minute hour day month weekday: '0 9 * * 1-4' is nine o'clock on Monday to Thursday"
	Schedule string `json:"schedule"`
	// Duration is how long it stays open, at least 1m.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(m|h))+$')",message="write a duration of minutes and hours such as 90m or 8h"
	Duration metav1.Duration `json:"duration"`
	// TimeZone is the IANA name of the schedule's time zone, for example
	// Europe/Berlin. Default UTC.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
}

// Step is one stage of a release. It is left when the weight was confirmed by
// the gateway, hold (or bake) has passed since, the verdict is Pass and, with
// approval, a person has said so.
type Step struct {
	// Weight is the canary's share of the traffic in percent.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// Hold is how long the step lasts at least, from the moment the gateway
	// confirmed the weight. Default: none.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",message="write a duration such as 30s, 2m or 1h30m"
	Hold *metav1.Duration `json:"hold,omitempty"`
	// Approval makes the step wait for a person: kubectl headgate promote.
	// +optional
	Approval bool `json:"approval,omitempty"`
	// Bake is how long the new version serves all traffic before the old one is
	// scaled down. Only with weight 100. Default: none.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",message="write a duration such as 30s, 2m or 1h30m"
	Bake *metav1.Duration `json:"bake,omitempty"`
}

// Analysis says which metrics judge the new version and how often.
type Analysis struct {
	// Metrics must all pass for a step to be left; one that fails rolls back.
	// Empty: the two default metrics of the gateway.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Metrics []Metric `json:"metrics,omitempty"`
	// Interval is the time between two measurements, at least 1s. Default 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s')",message="write a duration of at least 1s, such as 10s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Disabled turns the analysis off: steps are left by time and approval, and
	// only pods that are not ready roll back.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// GatewayMetric is a metric that the bundled gateway measures by itself.
// +kubebuilder:validation:Enum=ErrorRate;Latency
type GatewayMetric string

// The metrics of the bundled gateway.
const (
	// GatewayErrorRate is the share of requests answered with a 5xx or, where they
	// are gRPC calls, with a code that is the server's fault, by the version or by
	// the proxy in its place, in percent. The codes are Unknown, DeadlineExceeded,
	// Unimplemented, Internal, Unavailable and DataLoss.
	GatewayErrorRate GatewayMetric = "ErrorRate"
	// GatewayLatency is a quantile of the time from request to response.
	GatewayLatency GatewayMetric = "Latency"
)

// Metric judges one number: from the gateway, or from a Prometheus query.
//
// +kubebuilder:validation:XValidation:rule="has(self.gateway) != has(self.prometheus)",message="give exactly one of gateway (ErrorRate or Latency) and prometheus (a query)"
// +kubebuilder:validation:XValidation:rule="!has(self.quantile) || (has(self.gateway) && self.gateway == 'Latency')",message="quantile belongs to gateway: Latency"
// +kubebuilder:validation:XValidation:rule="!(has(self.tolerance) && has(self.threshold))",message="give tolerance (compare with stable) or threshold (compare with a number), not both"
// +kubebuilder:validation:XValidation:rule="!has(self.prometheus) || has(self.tolerance) || has(self.threshold)",message="a query needs tolerance (compare with stable) or threshold (compare with a number)"
// +kubebuilder:validation:XValidation:rule="!(has(self.prometheus) && has(self.tolerance)) || (has(self.prometheus.stableQuery) || self.prometheus.query.contains('{{'))",message="a query compared with stable must say which version it measures: use {{.Pods}} or {{.Service}} in it"
type Metric struct {
	// Name is what reasons and events call the metric.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
	Name string `json:"name"`
	// Gateway names a metric of the bundled gateway.
	// +optional
	Gateway GatewayMetric `json:"gateway,omitempty"`
	// Quantile of a Latency metric, between 0 and 1 exclusive. Default "0.99".
	// +optional
	// +kubebuilder:validation:Pattern="^0\\.[0-9]{1,6}$"
	Quantile string `json:"quantile,omitempty"`
	// Prometheus is a query of the user's own.
	// +optional
	Prometheus *PrometheusQuery `json:"prometheus,omitempty"`
	// Tolerance is how much worse than stable the canary may be. Default for
	// ErrorRate: 25% relative plus 0.5% absolute; for Latency: 20% relative plus
	// 5ms absolute.
	// +optional
	Tolerance *Tolerance `json:"tolerance,omitempty"`
	// Threshold compares the canary with fixed numbers instead.
	// +optional
	Threshold *Threshold `json:"threshold,omitempty"`
	// MinRequests is how many canary requests a gateway metric needs before it
	// says Pass or Fail. Default 50.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MinRequests *int64 `json:"minRequests,omitempty"`
}

// PrometheusQuery is an instant query that yields one number.
type PrometheusQuery struct {
	// Query is PromQL with the fields {{.Namespace}}, {{.Canary}} (name of the
	// Canary), {{.Service}}, {{.Pods}} (a regular expression of the version's pod
	// names) and {{.Window}} (time since the weight was confirmed, for example
	// 90s, at most 5m). With tolerance it is asked once per version.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// StableQuery is asked for stable instead of Query.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	StableQuery string `json:"stableQuery,omitempty"`
	// Address of the Prometheus, for example http://prometheus.monitoring:9090.
	// Default: the one Headgate was installed with.
	// +optional
	// +kubebuilder:validation:Pattern="^https?://[^ ]+$"
	Address string `json:"address,omitempty"`
}

// Tolerance is how much worse the canary may be: canary <= stable*(1+relative)+absolute.
//
// +kubebuilder:validation:XValidation:rule="has(self.relative) || has(self.absolute)",message="give relative (20%), absolute (0.5% for errors, 5ms for latency, a number for queries) or both"
type Tolerance struct {
	// Relative, in percent of stable's value: 20%.
	// +optional
	// +kubebuilder:validation:Pattern="^[0-9]+(\\.[0-9]+)?%$"
	Relative string `json:"relative,omitempty"`
	// Absolute: 0.5% (points) for ErrorRate, 5ms for Latency, a number for queries.
	// +optional
	Absolute *Amount `json:"absolute,omitempty"`
	// Better says which direction is better for a query: Lower (default) or Higher.
	// +optional
	// +kubebuilder:validation:Enum=Lower;Higher
	Better string `json:"better,omitempty"`
}

// Threshold is a closed range of allowed values.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="give min, max or both"
type Threshold struct {
	// Min is the smallest allowed value: 1% for ErrorRate, 300ms for Latency, a number for queries.
	// +optional
	Min *Amount `json:"min,omitempty"`
	// Max is the largest allowed value, in the units of Min.
	// +optional
	Max *Amount `json:"max,omitempty"`
}

// Amount is a number with an optional unit: 10, "0.5", "0.5%", "300ms", "1.5s".
// A number with a decimal point is written in quotes.
//
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="type(self) == int || self.matches('^-?[0-9]+([.][0-9]+)?(%|us|ms|s|m)?$')",message="write a number with an optional unit: 10, '0.5', 0.5%, 300ms, 1.5s"
type Amount intstr.IntOrString
