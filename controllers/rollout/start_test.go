// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// heldInput is a Canary at rest, without a memory of releases, whose Deployment
// holds a template that stands in the Deployment's history already.
func heldInput() Input {
	w := newWorld(1)
	w.canary.Spec.Steps = nil
	w.canary.Finalizers = []string{v1beta1.Finalizer}
	w.canary.Status = v1beta1.CanaryStatus{Phase: v1beta1.PhaseIdle}
	w.dep.label, w.dep.template, w.dep.paused, w.dep.held = "checkout", "t1", true, true
	return Input{Canary: w.canary, Seen: w.observe(), Now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// A Canary that was made anew counts its releases from 1 again: the ReplicaSets
// that the one before promoted are the Deployment's, and not to be touched.
func TestARevisionIsNeverOneOfTheHistory(t *testing.T) {
	in := heldInput()
	for attempt := range int64(3) {
		hash := Revision("t1", attempt+1)
		in.Seen.ReplicaSets = append(in.Seen.ReplicaSets, ReplicaSet{Name: "checkout-" + hash, Hash: hash, Template: "t1", Owner: OwnerTarget})
	}
	d := Decide(in)
	if d.Status.Phase != v1beta1.PhaseStarting {
		t.Fatalf("no release was started: %s", d.Status.Phase)
	}
	if rs := in.Seen.find(d.Status.Release.Revision); rs != nil {
		t.Errorf("the release takes the revision of ReplicaSet %s, which is the Deployment's", rs.Name)
	}
}
