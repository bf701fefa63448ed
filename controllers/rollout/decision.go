// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Decision is what one pass came to.
type Decision struct {
	// Status is recorded with an optimistic lock before anything is done, unless
	// Urgent: then the actions come first. A crash between the two is repaired by
	// the next decision, which asks again for whatever it does not see.
	Status v1beta1.CanaryStatus
	Urgent bool
	// Actions are carried out in order; the first failure ends the pass.
	Actions []Action
	// Events are published once the status is recorded.
	Events []Event
	// After is when to decide again if nothing happens before; 0 is never.
	After time.Duration
}

// Event is something worth telling in the Canary's events.
type Event struct {
	// Warning is true when a person may have to act.
	Warning bool
	// Reason is one of package v1beta1, Note a sentence.
	Reason, Note string
}

// Action is one change to the cluster. The set is closed: what Headgate ever
// does to a cluster for a release is the list below. Each is idempotent and says
// what must be true afterwards, not what to do.
type Action interface{ action() }

// EnsureFinalizer puts the finalizer on the Canary.
type EnsureFinalizer struct{}

// EnsureFinalizerRemoved lets a deleted Canary go.
type EnsureFinalizerRemoved struct{}

// ClearCommand removes the command annotation, if it still has this value.
type ClearCommand struct{ Value string }

// EnsureHoldLabel marks the Deployment for the admission policy.
type EnsureHoldLabel struct{}

// EnsureHoldLabelRemoved takes every mark of Headgate's off the Deployment. It
// does not touch spec.paused.
type EnsureHoldLabelRemoved struct{}

// EnsureUnpaused lets the Deployment go on, provided that it is the very object
// that was seen: a template that came in between stays held. Pausing is not an
// action: the admission policy holds a new template before anybody could see it.
type EnsureUnpaused struct{}

// ClearBypass removes the bypass annotation after the update it let through.
type ClearBypass struct{}

// EnsureServiceNarrowed makes the stable Service select one version only.
type EnsureServiceNarrowed struct{ Hash string }

// EnsureServiceRestored makes the stable Service what the user wrote.
type EnsureServiceRestored struct{}

// EnsureCanaryService gives the canary's pods a Service like the stable one.
type EnsureCanaryService struct{ Hash string }

// EnsureCanaryServiceRemoved deletes that Service.
type EnsureCanaryServiceRemoved struct{}

// EnsureCanaryReplicaSet makes the ReplicaSet exist from the Deployment's
// template, with this many pods.
type EnsureCanaryReplicaSet struct {
	Hash     string
	Replicas int32
}

// EnsureCanaryRemoved deletes a ReplicaSet of the Canary's with its pods.
type EnsureCanaryRemoved struct{ Hash string }

// EnsureWeights makes every rule that names the Service give this share of it
// to the canary. With Closed it also leaves a mark on the routes, so that a
// release that was rolled back stays so if the status could not be recorded.
type EnsureWeights struct {
	Percent int32
	Closed  *Closing
}

// Closing is that mark.
type Closing struct {
	Attempt int64           `json:"attempt"`
	Outcome v1beta1.Outcome `json:"outcome"`
	Reason  string          `json:"reason"`
	Message string          `json:"message"`
}

// EnsureRoutesRestored makes the routes what the user wrote.
type EnsureRoutesRestored struct{}

// EnsureHistoryMerged deletes old ReplicaSets without pods whose template is the
// new one's: the Deployment controller would take the oldest for the current
// version and restart every pod. It does the same merge itself when it rolls
// back to an old revision.
type EnsureHistoryMerged struct{ Names []string }

// EnsureHandedOver makes the Deployment the controller of the canary's ReplicaSet.
type EnsureHandedOver struct{ Hash string }

// EnsureTakenBack makes the Canary its controller again.
type EnsureTakenBack struct{ Hash string }

// EnsureScaleDownHeld keeps autoscalers from shrinking the stable side while it
// may have to take everything back.
type EnsureScaleDownHeld struct{}

// EnsureScaleDownRestored makes the autoscalers what the user wrote.
type EnsureScaleDownRestored struct{}

func (EnsureFinalizer) action()            {}
func (EnsureFinalizerRemoved) action()     {}
func (ClearCommand) action()               {}
func (EnsureHoldLabel) action()            {}
func (EnsureHoldLabelRemoved) action()     {}
func (EnsureUnpaused) action()             {}
func (ClearBypass) action()                {}
func (EnsureServiceNarrowed) action()      {}
func (EnsureServiceRestored) action()      {}
func (EnsureCanaryService) action()        {}
func (EnsureCanaryServiceRemoved) action() {}
func (EnsureCanaryReplicaSet) action()     {}
func (EnsureCanaryRemoved) action()        {}
func (EnsureWeights) action()              {}
func (EnsureRoutesRestored) action()       {}
func (EnsureHistoryMerged) action()        {}
func (EnsureHandedOver) action()           {}
func (EnsureTakenBack) action()            {}
func (EnsureScaleDownHeld) action()        {}
func (EnsureScaleDownRestored) action()    {}
