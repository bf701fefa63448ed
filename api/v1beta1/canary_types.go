// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	// Absent: errors, latency and missing answers as the bundled gateway's proxies
	// count them, with the default tolerances.
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

	// ReleaseHistoryLimit is how many Release records of ended releases are kept.
	// Default 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ReleaseHistoryLimit *int32 `json:"releaseHistoryLimit,omitempty"`

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
