// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

const (
	// settle is how long a gateway that does not report its proxies is given to
	// serve what it accepted, and proxies to learn new endpoints.
	settle = 2 * time.Second
	// patience is how long the way back waits for a gateway to confirm that
	// traffic left the canary before it restores the routes without. The canary's
	// pods are still there then, and the stable ones always.
	patience = 30 * time.Second
	// drain is how long the canary's pods wait for that confirmation.
	drain = 10 * time.Minute
	// adoption is how long the Deployment controller gets to adopt the ReplicaSet.
	adoption = time.Minute

	defaultProgressDeadline = 10 * time.Minute
	defaultKeepFailed       = 10 * time.Minute
	journalLength           = 32
)

// Decide says what a Canary's status is now and what has to be done for it. It
// is total: every status and every observation has a decision.
func Decide(in Input) Decision {
	p := begin(in)
	if problem := in.Seen.Problem; problem != nil {
		p.stalled(problem.Reason, problem.Message)
		return p.end()
	}
	if in.Canary.DeletionTimestamp != nil {
		p.delete()
		return p.end()
	}
	if !slices.Contains(in.Canary.Finalizers, v1beta1.Finalizer) {
		// Before anything else is touched: what is touched must be restorable.
		p.do(EnsureFinalizer{})
	}
	p.takeCommand()
	p.phase()
	return p.end()
}

func (p *pass) phase() {
	switch p.status.Phase {
	case v1beta1.PhaseStarting:
		p.start()
	case v1beta1.PhaseStepping:
		p.step()
	case v1beta1.PhasePromoting:
		p.promote()
	case v1beta1.PhaseRollingBack:
		p.rollBack()
	case v1beta1.PhaseRolledBack:
		p.rolledBack()
	case v1beta1.PhaseIdle:
		p.idle()
	default:
		p.initialize()
	}
}

// pass is one decision in the making.
type pass struct {
	in      Input
	seen    Observation
	now     time.Time
	status  v1beta1.CanaryStatus
	release *v1beta1.ReleaseProgress // status.Release; nil without one
	// command is the verb to carry out in this pass; why is what the person gave as the reason.
	command, why, by string
	urgent           bool
	actions          []Action
	events           []Event
	after            time.Duration
}

func begin(in Input) *pass {
	p := &pass{in: in, seen: in.Seen, now: in.Now, status: *in.Canary.Status.DeepCopy()}
	p.release = p.status.Release
	if p.release == nil {
		switch p.status.Phase {
		case v1beta1.PhaseInitializing, v1beta1.PhaseIdle:
		default:
			// A phase of a release without one: somebody edited the status.
			// Initializing sweeps whatever the release left.
			p.status.Phase = v1beta1.PhaseInitializing
		}
	}
	if p.open() && len(p.release.Steps) == 0 {
		p.release.Steps = Steps(in.Canary.Spec.Steps)
	}
	if p.release != nil && len(p.release.Steps) > 0 {
		p.release.StepIndex = min(max(p.release.StepIndex, 0), int32(len(p.release.Steps)-1))
	}
	p.status.Weight = min(max(p.status.Weight, 0), 100)
	return p
}

func (p *pass) end() Decision {
	p.admit()
	p.status.ObservedGeneration = p.in.Canary.Generation
	p.status.Step = p.stepName()
	if p.seen.Service != nil {
		p.status.Service = p.seen.Service.Name
	}
	if p.seen.Problem == nil {
		p.status.Routes = nil
		for _, r := range p.seen.Routes {
			p.status.Routes = append(p.status.Routes, r.Ref)
		}
	}
	return Decision{Status: p.status, Urgent: p.urgent, Actions: p.actions, Events: p.events, After: p.after}
}

// open is true while a release has traffic or may get some.
func (p *pass) open() bool {
	switch p.status.Phase {
	case v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhasePromoting:
		return p.release != nil
	}
	return false
}

func (p *pass) stepName() string {
	if !p.open() {
		return ""
	}
	return fmt.Sprintf("%d/%d", p.release.StepIndex+1, len(p.release.Steps))
}

func (p *pass) do(a ...Action) { p.actions = append(p.actions, a...) }

// until asks for a decision at t, unless an earlier one is asked for.
func (p *pass) until(t time.Time) {
	d := max(t.Sub(p.now), time.Millisecond)
	if p.after == 0 || d < p.after {
		p.after = d
	}
}

func (p *pass) event(warning bool, reason, note string) {
	p.events = append(p.events, Event{Warning: warning, Reason: reason, Note: note})
}

// tell writes the journal and publishes the same as an event.
func (p *pass) tell(reason, format string, args ...any) { p.write(false, reason, format, args...) }

// warn is tell for what a person may have to act on.
func (p *pass) warn(reason, format string, args ...any) { p.write(true, reason, format, args...) }

func (p *pass) write(warning bool, reason, format string, args ...any) {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	p.event(warning, reason, message)
	if p.release == nil {
		return
	}
	p.release.Told = max(p.release.Told, int64(len(p.release.Journal))) + 1
	j := append(p.release.Journal, v1beta1.JournalEntry{
		Time: metav1.NewTime(p.now), Reason: reason, Message: message, Weight: p.status.Weight, By: p.by,
	})
	p.release.Journal = j[max(0, len(j)-journalLength):]
}

func (p *pass) enter(phase v1beta1.Phase) {
	p.status.Phase = phase
	if p.release != nil {
		p.release.StageSince = p.micro(p.now)
	}
}

func (p *pass) stageAge() time.Duration {
	if p.release == nil || p.release.StageSince == nil {
		return 1<<63 - 1
	}
	return p.now.Sub(p.release.StageSince.Time)
}

func (p *pass) micro(t time.Time) *metav1.MicroTime {
	// Status keeps microseconds; cut here so that what is decided on is what is stored.
	m := metav1.NewMicroTime(t.Truncate(time.Microsecond))
	return &m
}

func (p *pass) second(t time.Time) *metav1.Time {
	s := metav1.NewTime(t.Truncate(time.Second))
	return &s
}

// Steps are the steps of a spec, or the default ones.
func Steps(spec []v1beta1.Step) []v1beta1.Step {
	if len(spec) > 0 {
		out := make([]v1beta1.Step, len(spec))
		for i := range spec {
			out[i] = *spec[i].DeepCopy()
		}
		return out
	}
	minute := &metav1.Duration{Duration: time.Minute}
	return []v1beta1.Step{{Weight: 5, Hold: minute}, {Weight: 25, Hold: minute}, {Weight: 50, Hold: minute}, {Weight: 100}}
}

// Revision is the pod-template-hash of a canary: it depends on the template and
// on the attempt, because a version that is released a second time may stand in
// the Deployment's history already.
func Revision(template string, attempt int64) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", template, attempt)
	// The alphabet of Kubernetes' own hashes: no vowels, hence no words.
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	var b strings.Builder
	for n, i := h.Sum64(), 0; i < 10; i++ {
		b.WriteByte(alphabet[n%uint64(len(alphabet))])
		n /= uint64(len(alphabet))
	}
	return b.String()
}

// replicasFor is how many pods a share needs: rounded up, at least one.
func replicasFor(weight, replicas int32) int32 {
	if replicas <= 0 {
		return 0
	}
	return max(1, int32((int64(weight)*int64(replicas)+99)/100))
}

func durationOr(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}
