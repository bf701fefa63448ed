// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CanaryStatus is the journal of the Canary: where it stands and why.
type CanaryStatus struct {
	// ObservedGeneration is the generation of the spec this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase in one word, for people.
	Phase Phase `json:"phase,omitempty"`
	// Weight is the canary's share of the traffic that was asked for last, in percent.
	// +optional
	Weight int32 `json:"weight"`
	// Step is the current step for people: "2/4". Empty at rest.
	Step string `json:"step,omitempty"`
	// Stable is the revision (pod-template-hash) that serves at rest.
	Stable string `json:"stable,omitempty"`
	// Service is the Service that was found for the target.
	Service string `json:"service,omitempty"`
	// Routes are the routes that were found for the Service.
	// +listType=atomic
	Routes []RouteReference `json:"routes,omitempty"`
	// Release is the release in progress, or the last one.
	// +optional
	Release *ReleaseProgress `json:"release,omitempty"`
	// HandledCommand is the command annotation that was carried out and is being removed.
	HandledCommand string `json:"handledCommand,omitempty"`
	// Conditions: Ready, Reconciling, Stalled, and one fact per stage.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Phase is where a Canary stands, in one word.
type Phase string

// The phases of a Canary. Drawn in package rollout.
const (
	// PhaseInitializing: target, Service and routes are looked for, or the
	// Deployment is still in a native rollout.
	PhaseInitializing Phase = "Initializing"
	// PhaseIdle: at rest, nothing of Headgate's in the user's objects but the label.
	PhaseIdle Phase = "Idle"
	// PhaseStarting: a new template is held; canary pods are coming up at weight 0.
	PhaseStarting Phase = "Starting"
	// PhaseStepping: a step has traffic and is watched.
	PhaseStepping Phase = "Stepping"
	// PhasePromoting: all traffic is on the new version; it is handed to the Deployment.
	PhasePromoting Phase = "Promoting"
	// PhaseRollingBack: traffic goes back to stable and the objects are restored.
	PhaseRollingBack Phase = "RollingBack"
	// PhaseRolledBack: stable serves all traffic; the Deployment stays paused with
	// the rejected template.
	PhaseRolledBack Phase = "RolledBack"
)

// Outcome is how a release ended.
type Outcome string

// The outcomes of a release.
const (
	// OutcomeSucceeded: the new version is the stable one.
	OutcomeSucceeded Outcome = "Succeeded"
	// OutcomeRolledBack: the machine took the traffic back.
	OutcomeRolledBack Outcome = "RolledBack"
	// OutcomeAborted: a person took the traffic back.
	OutcomeAborted Outcome = "Aborted"
	// OutcomeSuperseded: a newer template took its place.
	OutcomeSuperseded Outcome = "Superseded"
	// OutcomeReverted: the template went back to the stable one.
	OutcomeReverted Outcome = "Reverted"
)

// ReleaseProgress is one attempt to bring one revision to 100 %, as far as it has come.
type ReleaseProgress struct {
	// Revision is the canary's pod-template-hash.
	Revision string `json:"revision"`
	// Attempt counts releases of this Canary, from 1.
	Attempt int64 `json:"attempt"`
	// Stable is the revision it is compared with.
	Stable string `json:"stable"`
	// Steps are the steps of this release, as they were when it started or were
	// last edited.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Steps []Step `json:"steps,omitempty"`
	// StepIndex is the current step, from 0.
	StepIndex int32 `json:"stepIndex"`
	// StartedAt is when the new template was seen.
	StartedAt metav1.Time `json:"startedAt"`
	// ConfirmedAt is when the gateway confirmed the current step's weight: the
	// start of the step's clock and of its samples.
	// +optional
	ConfirmedAt *metav1.MicroTime `json:"confirmedAt,omitempty"`
	// OffRoute is when the routes did not carry the current step's weight, though it was confirmed:
	// somebody else wrote them. Absent where that did not happen.
	// +optional
	OffRoute *OffRoute `json:"offRoute,omitempty"`
	// ReadyDeadline is when canary pods that are not ready end the release.
	// +optional
	ReadyDeadline *metav1.Time `json:"readyDeadline,omitempty"`
	// SettleUntil is when a gateway that does not report its proxies is taken to
	// serve what it accepted, and when proxies are taken to know new endpoints.
	// +optional
	SettleUntil *metav1.MicroTime `json:"settleUntil,omitempty"`
	// StageSince is when the present phase or stage of the promotion was entered.
	// +optional
	StageSince *metav1.MicroTime `json:"stageSince,omitempty"`
	// Needed is how many canary pods must be ready for the share they serve;
	// fewer take the traffic back.
	Needed int32 `json:"needed,omitempty"`
	// UnknownSince is when the verdict on the current step became Unknown; absent while it is
	// not.
	// +optional
	UnknownSince *metav1.MicroTime `json:"unknownSince,omitempty"`
	// Approved is true when a person approved the current step.
	Approved bool `json:"approved,omitempty"`
	// Expedited is true when a person ended the current step's hold early.
	Expedited bool `json:"expedited,omitempty"`
	// Paused is true when a person paused the release.
	Paused bool `json:"paused,omitempty"`
	// Promotion is how far the hand-over has come; empty before it.
	Promotion PromotionStage `json:"promotion,omitempty"`
	// Outcome is how the release ended, or is about to end; empty while open.
	Outcome Outcome `json:"outcome,omitempty"`
	// Reason is the CamelCase cause of Outcome.
	Reason string `json:"reason,omitempty"`
	// Message says the cause in a sentence, with numbers.
	Message string `json:"message,omitempty"`
	// FinishedAt is when the last of the release's changes was removed.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
	// KeepUntil is when the pods of a rejected version are removed.
	// +optional
	KeepUntil *metav1.Time `json:"keepUntil,omitempty"`
	// Metrics is what the analysis last said of each metric.
	// +listType=map
	// +listMapKey=name
	Metrics []MetricStatus `json:"metrics,omitempty"`
	// Journal is what happened, oldest first, the newest 32 entries. The Release of
	// this attempt keeps more.
	// +listType=atomic
	Journal []JournalEntry `json:"journal,omitempty"`
	// Told is how many entries the journal had in all.
	Told int64 `json:"told,omitempty"`
}

// OffRoute is when the routes did not carry the weight that was confirmed. Nothing is counted then, and
// the step's clock stands still.
type OffRoute struct {
	// Since is from when on they do not carry it; absent once they do again and the gateway
	// confirmed that.
	// +optional
	Since *metav1.MicroTime `json:"since,omitempty"`
	// Until is when the gateway confirmed it again, the last time: what is measured of this step counts
	// from there on.
	// +optional
	Until *metav1.MicroTime `json:"until,omitempty"`
	// Lost is for how long they did not carry it in all: the step lasts so much longer.
	// +optional
	Lost metav1.Duration `json:"lost,omitempty"`
}

// PromotionStage orders the hand-over of a release. Each stage is entered only
// when the one before is true in the cluster.
type PromotionStage string

// The stages of a promotion, in order.
const (
	// PromotionScaling: the canary is brought to the Deployment's replica count.
	PromotionScaling PromotionStage = "Scaling"
	// PromotionService: the Service selects the new version and the proxies know its endpoints.
	PromotionService PromotionStage = "Service"
	// PromotionRoutes: the routes are as the user wrote them and confirmed.
	PromotionRoutes PromotionStage = "Routes"
	// PromotionHandOver: the Deployment owns the ReplicaSet and has scaled the old one down.
	PromotionHandOver PromotionStage = "HandOver"
	// PromotionNative: the Deployment did not adopt the ReplicaSet; it rolls the
	// new version out by itself while the canary keeps serving.
	PromotionNative PromotionStage = "Native"
	// PromotionCleanup: everything else that was added is removed.
	PromotionCleanup PromotionStage = "Cleanup"
)

// VerdictResult is what the analysis says: Pass, Fail or Unknown.
type VerdictResult string

// The verdicts.
const (
	VerdictPass    VerdictResult = "Pass"
	VerdictFail    VerdictResult = "Fail"
	VerdictUnknown VerdictResult = "Unknown"
)

// MetricStatus is the verdict on one metric with the numbers behind it.
type MetricStatus struct {
	// Name of the metric.
	Name string `json:"name"`
	// Verdict on it.
	Verdict VerdictResult `json:"verdict"`
	// Reason in CamelCase.
	Reason string `json:"reason"`
	// Message is a sentence with numbers and units.
	Message string `json:"message"`
	// Stable and Canary are the values compared, with units.
	Stable string `json:"stable,omitempty"`
	Canary string `json:"canary,omitempty"`
	// StableRequests and CanaryRequests are the sizes of the samples of this step, StableBad and
	// CanaryBad the bad ones among them: failed, or slower than what Message says.
	StableRequests int64 `json:"stableRequests,omitempty"`
	CanaryRequests int64 `json:"canaryRequests,omitempty"`
	StableBad      int64 `json:"stableBad,omitempty"`
	CanaryBad      int64 `json:"canaryBad,omitempty"`
	// CanaryRange holds the canary's true share of bad requests, whenever one looks, as
	// surely as falseRollbackRate says: "0.02%-1.4%".
	CanaryRange string `json:"canaryRange,omitempty"`
	// Against is the evidence against the canary over the whole release, in percent of what rolls
	// back; For the evidence of this step for it, in percent of what the step takes. Both
	// are in logarithms, so they grow evenly with the number of requests.
	Against int32 `json:"against,omitempty"`
	For     int32 `json:"for,omitempty"`
	// Needed is how many more canary requests the step takes at the present rates. Absent
	// when none are, or when no number would do.
	Needed int64 `json:"needed,omitempty"`
	// Observed is true for a metric that does not decide.
	Observed bool `json:"observed,omitempty"`
}

// JournalEntry is one thing that happened in a release.
type JournalEntry struct {
	Time    metav1.Time `json:"time"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	// Weight is the canary's weight in percent after it.
	Weight int32 `json:"weight"`
	// By is the person who asked, where one did.
	By string `json:"by,omitempty"`
}

// Condition types of a Canary. Ready, Reconciling and Stalled follow kstatus.
const (
	// ConditionReady is True at rest with the newest template serving.
	ConditionReady = "Ready"
	// ConditionReconciling is True while a release is in progress.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when only a person can make it go on.
	ConditionStalled = "Stalled"
	// ConditionAttached is True when target, Service and routes were found and fit.
	ConditionAttached = "Attached"
	// ConditionCanaryReady is True when the canary's pods can take the step's traffic.
	ConditionCanaryReady = "CanaryReady"
	// ConditionWeightConfirmed is True when the gateway serves the asked weight.
	ConditionWeightConfirmed = "WeightConfirmed"
	// ConditionAnalysis is True for Pass, False for Fail, Unknown for Unknown.
	ConditionAnalysis = "AnalysisPassing"
)

// Reasons of conditions, journal entries and events.
const (
	ReasonInitializing       = "Initializing"
	ReasonIdle               = "Idle"
	ReasonTargetNotFound     = "TargetNotFound"
	ReasonTargetTaken        = "TargetTaken"
	ReasonTargetRollingOut   = "TargetRollingOut"
	ReasonTargetPaused       = "TargetPaused"
	ReasonTargetChanged      = "TargetChanged"
	ReasonScaledToZero       = "ScaledToZero"
	ReasonServiceNameTaken   = "ServiceNameTaken"
	ReasonNotAllowed         = "NotAllowed"
	ReasonStepsChanged       = "StepsChanged"
	ReasonExpedited          = "Expedited"
	ReasonRollingBack        = "RollingBack"
	ReasonHandedOver         = "HandedOver"
	ReasonNativeRollout      = "NativeRollout"
	ReasonDetached           = "Detached"
	ReasonNotRecorded        = "NotRecorded"
	ReasonServiceNotFound    = "ServiceNotFound"
	ReasonServiceAmbiguous   = "ServiceAmbiguous"
	ReasonRouteNotFound      = "RouteNotFound"
	ReasonRouteNotAccepted   = "RouteNotAccepted"
	ReasonRouteBusy          = "RouteBusy"
	ReasonAttached           = "Attached"
	ReasonReleaseStarted     = "ReleaseStarted"
	ReasonWaitingForPods     = "WaitingForPods"
	ReasonPodsReady          = "PodsReady"
	ReasonPodsNotReady       = "PodsNotReady"
	ReasonProgressDeadline   = "ProgressDeadlineExceeded"
	ReasonWeightSet          = "WeightSet"
	ReasonWaitingForGateway  = "WaitingForGateway"
	ReasonWeightConfirmed    = "WeightConfirmed"
	ReasonHolding            = "Holding"
	ReasonWaitingForVerdict  = "WaitingForVerdict"
	ReasonWaitingForApproval = "WaitingForApproval"
	ReasonApproved           = "Approved"
	ReasonPaused             = "Paused"
	ReasonResumed            = "Resumed"
	ReasonSuspended          = "Suspended"
	// ReasonOutsideWindow: no release window is open.
	ReasonOutsideWindow = "OutsideWindow"
	ReasonStepCompleted = "StepCompleted"
	ReasonPromoting     = "Promoting"
	ReasonPromoted      = "Promoted"
	ReasonMetricFailed  = "MetricFailed"
	// ReasonStillUnknown: a step stayed without a verdict for as long as onUnknown.after allows.
	ReasonStillUnknown        = "StillUnknown"
	ReasonAborted             = "Aborted"
	ReasonSuperseded          = "Superseded"
	ReasonReverted            = "Reverted"
	ReasonRolledBack          = "RolledBack"
	ReasonRestored            = "Restored"
	ReasonBypassed            = "Bypassed"
	ReasonRouteRepaired       = "RouteRepaired"
	ReasonCommandRefused      = "CommandRefused"
	ReasonInvalidSpec         = "InvalidSpec"
	ReasonAnalysisDisabled    = "AnalysisDisabled"
	ReasonNoTraffic           = "NoTraffic"
	ReasonTooFewRequests      = "TooFewRequests"
	ReasonWithinTolerance     = "WithinTolerance"
	ReasonOutOfTolerance      = "OutOfTolerance"
	ReasonSourceUnavailable   = "SourceUnavailable"
	ReasonSourceNotConfigured = "SourceNotConfigured"
	ReasonUnusableAnswer      = "UnusableAnswer"
	// ReasonAnalysisBroken: an error in Headgate itself ended the analysis of a release.
	ReasonAnalysisBroken   = "AnalysisBroken"
	ReasonNoMeasurementYet = "NoMeasurementYet"
	ReasonWriteFailed      = "WriteFailed"
)
