// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Release is the record of one attempt to release one version: what was released, and all
// that happened. Headgate writes one per attempt and keeps the newest, as many as
// spec.releaseHistoryLimit of the Canary says. It decides nothing: deleting one loses
// what it tells and changes no traffic.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=rel,categories=headgate
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.spec.canary`
// +kubebuilder:printcolumn:name="Attempt",type=integer,JSONPath=`.spec.attempt`,priority=1
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.revision`
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.images[0].image`,priority=1
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.status.weight`
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.status.outcome`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
type Release struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what was released, as it was when the release started.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a Release is a record and cannot be changed: to release something, change the Deployment's template"
	Spec ReleaseSpec `json:"spec"`
	// Status is what happened.
	Status ReleaseStatus `json:"status,omitempty"`
}

// ReleaseList is a list of Releases.
//
// +kubebuilder:object:root=true
type ReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Release `json:"items"`
}

// ReleaseSpec is what was released.
type ReleaseSpec struct {
	// Canary is the name of the Canary.
	Canary string `json:"canary"`
	// Target is the workload.
	Target TargetReference `json:"target"`
	// Attempt counts releases of the Canary, from 1.
	Attempt int64 `json:"attempt"`
	// Revision is the pod-template-hash of the new version.
	Revision string `json:"revision"`
	// Stable is the pod-template-hash of the version it was compared with.
	Stable string `json:"stable"`
	// Images are those of the new version's containers, init containers first.
	// +optional
	// +listType=atomic
	Images []ContainerImage `json:"images,omitempty"`
	// StableImages are those of the version it was compared with.
	// +optional
	// +listType=atomic
	StableImages []ContainerImage `json:"stableImages,omitempty"`
	// Steps are the steps as they were when the release started.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Steps []Step `json:"steps,omitempty"`
}

// ContainerImage is the image of one container of a pod template.
type ContainerImage struct {
	// Name of the container.
	Name string `json:"name"`
	// Image as the template names it.
	Image string `json:"image"`
}

// ReleaseStatus is what happened to a release.
type ReleaseStatus struct {
	// Phase is that of the Canary while this is its release; absent once it is over.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// Weight is the share of the traffic that was asked for last, in percent.
	// +optional
	Weight int32 `json:"weight"`
	// Outcome is how the release ended, or is about to end; absent before that is decided.
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`
	// Reason is the CamelCase cause of Outcome.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says the cause in a sentence, with numbers; before that, what the release waits for.
	// +optional
	Message string `json:"message,omitempty"`
	// StartedAt is when the new template was seen.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// DecidedAt is when Outcome was decided: the new version was promoted, or the
	// traffic was taken back.
	// +optional
	DecidedAt *metav1.Time `json:"decidedAt,omitempty"`
	// FinishedAt is when the last of the release's changes was removed, the pods of a
	// rejected version included, or when a newer release began.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
	// Steps are the weights that the version had, in order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Steps []ReleaseStep `json:"steps,omitempty"`
	// Journal is what happened, oldest first, the newest 512 entries.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=512
	Journal []JournalEntry `json:"journal,omitempty"`
	// Told is how many entries the journal had in all.
	// +optional
	Told int64 `json:"told,omitempty"`
	// Evidence is the state of the analysis while the release is under way, so that it
	// goes on after a restart. At most 256 KiB.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Evidence *runtime.RawExtension `json:"evidence,omitempty"`
	// RecordedAt is when this was last written.
	// +optional
	RecordedAt *metav1.MicroTime `json:"recordedAt,omitempty"`
}

// ReleaseStep is one weight that a version had.
type ReleaseStep struct {
	// Index is the number of the step in the Canary's steps, from 0.
	Index int32 `json:"index"`
	// Weight in percent.
	Weight int32 `json:"weight"`
	// SetAt is when the weight was asked for.
	// +optional
	SetAt *metav1.Time `json:"setAt,omitempty"`
	// ConfirmedAt is when every proxy served it: its clock and its samples start there.
	// +optional
	ConfirmedAt *metav1.MicroTime `json:"confirmedAt,omitempty"`
	// LeftAt is when another weight took its place or the promotion began.
	// +optional
	LeftAt *metav1.Time `json:"leftAt,omitempty"`
	// Verdict is the last one at this weight; absent without an analysis.
	// +optional
	Verdict VerdictResult `json:"verdict,omitempty"`
	// Why says the verdict's cause in a sentence.
	// +optional
	Why string `json:"why,omitempty"`
	// Metrics are the verdict's numbers.
	// +optional
	// +listType=map
	// +listMapKey=name
	Metrics []MetricStatus `json:"metrics,omitempty"`
}
