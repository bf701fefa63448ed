// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MetricTemplate is a metric that Canaries of its namespace share.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=mt,categories=headgate
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MetricTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec MetricTemplateSpec `json:"spec"`
}

// MetricTemplateList is a list of MetricTemplates.
//
// +kubebuilder:object:root=true
type MetricTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MetricTemplate `json:"items"`
}

// MetricTemplateSpec is a metric with arguments.
type MetricTemplateSpec struct {
	// Args are the arguments that the metric's texts name as {{.Args.name}}.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Args []Parameter `json:"args,omitempty"`
	// Metric is what a Canary's metric with this template is, field by field, where
	// the Canary does not say otherwise. Its name is not used.
	// +kubebuilder:validation:XValidation:rule="!has(self.template)",message="a template cannot refer to another template: write the source itself"
	Metric Metric `json:"metric"`
}

// Parameter is an argument of a template.
type Parameter struct {
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z][A-Za-z0-9]*$"
	Name string `json:"name"`
	// Default is the value where a Canary gives none. Absent: the argument is required.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Default *string `json:"default,omitempty"`
}
