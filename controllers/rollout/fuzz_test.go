// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"math/rand/v2"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/api/v1beta1"
)

// TestDecideIsTotal is I10: statuses that nobody wrote and worlds that cannot be
// must not make it panic, and never send traffic to pods that are not there.
func TestDecideIsTotal(t *testing.T) {
	for seed := range uint64(200_000) {
		in := nonsense(rand.New(rand.NewPCG(seed, 3)))
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("seed %d: %v\n%+v\n%+v", seed, r, in.Canary.Status, in.Seen)
				}
			}()
			d := Decide(in)
			if d.After < 0 {
				t.Fatalf("seed %d: After is %s", seed, d.After)
			}
			for _, a := range d.Actions {
				if w, ok := a.(EnsureWeights); ok && (w.Percent < 0 || w.Percent > 100) {
					t.Fatalf("seed %d: a weight of %d is asked for", seed, w.Percent)
				}
			}
		}()
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func nonsense(r *rand.Rand) Input {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func() *metav1.MicroTime {
		if r.IntN(2) == 0 {
			return nil
		}
		m := metav1.NewMicroTime(now.Add(time.Duration(r.IntN(7200)-3600) * time.Second))
		return &m
	}
	second := func() *metav1.Time {
		if m := at(); m != nil {
			return &metav1.Time{Time: m.Time}
		}
		return nil
	}
	c := &v1beta1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "checkout"}}
	c.Spec.Suspend = r.IntN(5) == 0
	if r.IntN(2) == 0 {
		c.Finalizers = []string{v1beta1.Finalizer}
	}
	if r.IntN(5) == 0 {
		c.DeletionTimestamp = &metav1.Time{Time: now}
	}
	if r.IntN(3) == 0 {
		c.Annotations = map[string]string{v1beta1.AnnotationCommand: pick(r, append([]string{"", "x", ":"}, verbs...)...)}
	}
	s := &c.Status
	s.Phase = pick(r, v1beta1.PhaseInitializing, v1beta1.PhaseIdle, v1beta1.PhaseStarting, v1beta1.PhaseStepping, v1beta1.PhasePromoting,
		v1beta1.PhaseRollingBack, v1beta1.PhaseRolledBack, "", "Nonsense")
	s.Weight = int32(r.IntN(300) - 100)
	hashes := []string{"a", "b", Revision("t1", 1), Revision("t1", 2), ""}
	if r.IntN(5) > 0 {
		s.Release = &v1beta1.ReleaseProgress{
			Revision: pick(r, hashes...), Stable: pick(r, hashes...), Attempt: int64(r.IntN(4) - 1), StepIndex: int32(r.IntN(9) - 4),
			ConfirmedAt: at(), SettleUntil: at(), StageSince: at(), ReadyDeadline: second(), KeepUntil: second(), FinishedAt: second(),
			Approved: r.IntN(2) == 0, Expedited: r.IntN(4) == 0, Paused: r.IntN(4) == 0, Needed: int32(r.IntN(5) - 1),
			Outcome: pick(r, "", v1beta1.OutcomeRolledBack, v1beta1.OutcomeSuperseded, v1beta1.OutcomeReverted, v1beta1.OutcomeSucceeded, "x"),
			Promotion: pick(r, "", v1beta1.PromotionScaling, v1beta1.PromotionService, v1beta1.PromotionRoutes, v1beta1.PromotionHandOver,
				v1beta1.PromotionNative, v1beta1.PromotionCleanup, "x"),
		}
		for range r.IntN(4) {
			s.Release.Steps = append(s.Release.Steps, v1beta1.Step{Weight: int32(r.IntN(101)), Approval: r.IntN(3) == 0})
		}
	}
	o := Observation{Verdict: analysis.Verdict{Result: pick(r, "", v1beta1.VerdictPass, v1beta1.VerdictFail, v1beta1.VerdictUnknown, "x")}}
	if r.IntN(20) == 0 {
		o.Problem = &Problem{v1beta1.ReasonNotAllowed, "no"}
	}
	if r.IntN(8) > 0 {
		o.Target = &Target{Template: pick(r, "t0", "t1"), Replicas: int32(r.IntN(5)), Paused: r.IntN(2) == 0, Held: r.IntN(2) == 0, Label: pick(r, "", "checkout", "other"), Bypass: r.IntN(4) == 0}
	}
	for range r.IntN(4) {
		n := int32(r.IntN(5))
		o.ReplicaSets = append(o.ReplicaSets, ReplicaSet{
			Name: pick(r, "x", "y"), Hash: pick(r, hashes...), Template: pick(r, "t0", "t1"), Owner: pick(r, OwnerTarget, OwnerCanary),
			Replicas: n, Pods: n, Ready: int32(r.IntN(int(n) + 1)), Available: int32(r.IntN(int(n) + 1)), Trouble: pick(r, "", "", "crash"),
		})
	}
	if r.IntN(6) > 0 {
		o.Service = &Service{Name: "checkout", Hash: pick(r, hashes...), Traces: r.IntN(2) == 0, Ready: pick(r, nil, map[string]int32{"a": 1, "b": 3})}
	} else if r.IntN(2) == 0 {
		o.ServiceProblem = &Problem{v1beta1.ReasonServiceNotFound, "no"}
	}
	o.CanaryService = CanaryService{Name: "checkout-canary", Presence: pick(r, Absent, Ours, Foreign), Hash: pick(r, hashes...), InSync: r.IntN(2) == 0, Ready: int32(r.IntN(4))}
	for range r.IntN(3) {
		route := Route{Percent: int32(r.IntN(102)) - 1, Traces: r.IntN(2) == 0, Reaches: r.IntN(2) == 0, Programmed: r.IntN(2) == 0, Foreign: r.IntN(2) == 0}
		if r.IntN(4) == 0 {
			route.Closed = &Closing{Attempt: int64(r.IntN(3))}
		}
		o.Routes = append(o.Routes, route)
	}
	if r.IntN(3) == 0 {
		o.Scalers = []Scaler{{Name: "h", Held: r.IntN(2) == 0, Traces: r.IntN(2) == 0}}
	}
	return Input{Canary: c, Seen: o, Now: now}
}
