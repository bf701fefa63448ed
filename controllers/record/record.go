// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package record derives the Release, the record of one attempt, from the status of its
// Canary: [New] what is released, [Next] what is recorded after the Canary's status
// became another one, [Due] whether that is worth a write now, [Surplus] which records are
// too many.
//
//	Canary.status ── Next ──▶ Release.status
//	     │ 32 entries, numbered by told       │ 512 entries, steps with their numbers
//	     └────── replaced by the next attempt └── stays
//
// The Canary's status stays what decides; nothing is read from a record but the
// evidence. Next may be asked any number of times, and for any status that
// came meanwhile: entries are numbered, so what was missed is caught up from the journal and
// what was told already is not told twice.
package record

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"headgate.dev/headgate/api/v1beta1"
)

const (
	// JournalLength is how many entries of a journal are kept.
	JournalLength = 512
	// EvidenceLimit is how many bytes of evidence are kept.
	EvidenceLimit = 256 << 10
	// Interval is how often the numbers of a step that is watched are written.
	Interval = 10 * time.Second

	// A record must stay below what the API server takes at once.
	sentenceLimit = 512
	stepsLimit    = 64
)

// DefaultHistory is how many ended releases are kept where the Canary does not say.
const DefaultHistory = 10

// Name is the name of the record of an attempt. It is a label value as well, so the
// end of a Canary's name that is too long is replaced by a digest.
func Name(canary string, attempt int64) string {
	const limit = 63
	end := "-" + strconv.FormatInt(attempt, 10)
	if len(canary)+len(end) <= limit {
		return canary + end
	}
	sum := sha256.Sum256([]byte(canary))
	end = "-" + hex.EncodeToString(sum[:4]) + end
	return strings.TrimRight(canary[:limit-len(end)], "-.") + end
}

// New is the record of the release in progress, without what happened yet. The templates are
// those of both versions; one that is not known is nil.
func New(c *v1beta1.Canary, canary, stable *corev1.PodTemplateSpec) v1beta1.Release {
	r, yes := c.Status.Release, true
	return v1beta1.Release{
		TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.GroupVersion.String(), Kind: "Release"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: Name(c.Name, r.Attempt),
			Labels: map[string]string{
				v1beta1.LabelManagedBy: v1beta1.ManagedBy, v1beta1.LabelHold: c.Name, v1beta1.LabelAttempt: strconv.FormatInt(r.Attempt, 10),
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1beta1.GroupVersion.String(), Kind: "Canary", Name: c.Name, UID: c.UID, Controller: &yes, BlockOwnerDeletion: &yes,
			}},
		},
		Spec: v1beta1.ReleaseSpec{
			Canary: c.Name, Target: c.Spec.Target, Attempt: r.Attempt, Revision: r.Revision, Stable: r.Stable,
			Images: images(canary), StableImages: images(stable), Steps: r.DeepCopy().Steps,
		},
	}
}

func images(t *corev1.PodTemplateSpec) (list []v1beta1.ContainerImage) {
	if t == nil {
		return nil
	}
	for _, c := range slices.Concat(t.Spec.InitContainers, t.Spec.Containers) {
		list = append(list, v1beta1.ContainerImage{Name: c.Name, Image: c.Image})
	}
	return list
}

// Next is what is recorded of a Canary's release, given what is recorded already.
func Next(prev v1beta1.ReleaseStatus, c *v1beta1.Canary) v1beta1.ReleaseStatus {
	r := c.Status.Release
	next := *prev.DeepCopy()
	next.Phase, next.Weight = c.Status.Phase, c.Status.Weight
	next.Outcome, next.Reason, next.Message = r.Outcome, r.Reason, shorten(r.Message)
	started := r.StartedAt
	next.StartedAt, next.FinishedAt = &started, r.FinishedAt.DeepCopy()
	if next.Outcome == "" {
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionReady); ready != nil {
			next.Message = shorten(ready.Message)
		}
	}
	for _, e := range news(prev.Told, r) {
		e.Message = shorten(e.Message)
		next.Journal = append(next.Journal, e)
		next.Steps = follow(next.Steps, e, r)
		if next.Outcome != "" && next.DecidedAt == nil && e.Reason == next.Reason {
			next.DecidedAt = e.Time.DeepCopy()
		}
	}
	next.Journal = next.Journal[max(0, len(next.Journal)-JournalLength):]
	next.Told = max(prev.Told, told(r))
	next.Steps = next.Steps[max(0, len(next.Steps)-stepsLimit):]
	measured(next.Steps, c)
	if next.DecidedAt != nil {
		next.Steps = left(next.Steps, *next.DecidedAt)
	}
	if Ended(next) {
		next.Phase = ""
	}
	if next.Outcome != "" {
		next.Evidence = nil
	}
	return next
}

// told is how many entries a journal had in all; a status that was written before they were
// counted has all of them.
func told(r *v1beta1.ReleaseProgress) int64 { return max(r.Told, int64(len(r.Journal))) }

// news are the entries of a journal after the first so many.
func news(known int64, r *v1beta1.ReleaseProgress) []v1beta1.JournalEntry {
	n := min(max(told(r)-known, 0), int64(len(r.Journal)))
	return r.Journal[int64(len(r.Journal))-n:]
}

// follow makes the steps what they are after an entry of the journal.
func follow(steps []v1beta1.ReleaseStep, e v1beta1.JournalEntry, r *v1beta1.ReleaseProgress) []v1beta1.ReleaseStep {
	at := e.Time
	switch e.Reason {
	case v1beta1.ReasonWeightSet:
		index := slices.IndexFunc(r.Steps, func(s v1beta1.Step) bool { return s.Weight == e.Weight })
		if index < 0 {
			index = int(r.StepIndex) // the steps were edited since
		}
		return append(left(steps, at), v1beta1.ReleaseStep{Index: int32(index), Weight: e.Weight, SetAt: &at})
	case v1beta1.ReasonWeightConfirmed:
		if n := len(steps); n > 0 && steps[n-1].ConfirmedAt == nil && steps[n-1].LeftAt == nil {
			steps[n-1].ConfirmedAt = &metav1.MicroTime{Time: at.Time}
		}
	case v1beta1.ReasonPromoting:
		return left(steps, at)
	}
	return steps
}

// left ends the last step, unless it ended before.
func left(steps []v1beta1.ReleaseStep, at metav1.Time) []v1beta1.ReleaseStep {
	if n := len(steps); n > 0 && steps[n-1].LeftAt == nil {
		steps[n-1].LeftAt = &at
	}
	return steps
}

// measured gives the last step what the analysis says of it. A new weight begins without
// metrics, so metrics are always the last step's.
func measured(steps []v1beta1.ReleaseStep, c *v1beta1.Canary) {
	r := c.Status.Release
	if len(steps) == 0 {
		return
	}
	last := &steps[len(steps)-1]
	if r.ConfirmedAt != nil && c.Status.Weight == last.Weight && last.LeftAt == nil {
		last.ConfirmedAt = r.ConfirmedAt.DeepCopy()
	}
	if len(r.Metrics) > 0 {
		last.Metrics = nil
		for _, m := range r.Metrics {
			m.Message = shorten(m.Message)
			last.Metrics = append(last.Metrics, m)
		}
	}
	condition := meta.FindStatusCondition(c.Status.Conditions, v1beta1.ConditionAnalysis)
	if condition == nil {
		return
	}
	last.Why = shorten(condition.Message)
	last.Verdict = map[metav1.ConditionStatus]v1beta1.VerdictResult{
		metav1.ConditionTrue: v1beta1.VerdictPass, metav1.ConditionFalse: v1beta1.VerdictFail,
	}[condition.Status]
	switch {
	case condition.Reason == v1beta1.ReasonAnalysisDisabled:
		last.Verdict = "" // nothing was judged
	case last.Verdict == "":
		last.Verdict = v1beta1.VerdictUnknown
	}
}

// Overtaken is what is recorded of a release whose place a newer one has taken.
func Overtaken(prev v1beta1.ReleaseStatus, at metav1.Time) v1beta1.ReleaseStatus {
	next := *prev.DeepCopy()
	next.Phase, next.Weight, next.Evidence = "", 0, nil
	next.FinishedAt = &at
	next.Steps = left(next.Steps, at)
	if next.Outcome == "" {
		// The end of it was never recorded; that it ended is certain.
		next.Outcome, next.Reason = v1beta1.OutcomeSuperseded, v1beta1.ReasonSuperseded
		next.Message = "A newer release took its place."
	}
	if next.DecidedAt == nil {
		next.DecidedAt = &at
	}
	return next
}

// Ended is true once nothing more is done for a release.
func Ended(s v1beta1.ReleaseStatus) bool { return s.FinishedAt != nil }

// Told is true while the record has every entry of the Canary's journal and its end; then
// it is as complete as it can be for a release that is over.
func Told(s v1beta1.ReleaseStatus, c *v1beta1.Canary) bool {
	r := c.Status.Release
	return s.Told == told(r) && s.FinishedAt.Equal(r.FinishedAt) && s.Outcome == r.Outcome
}

// WithEvidence adds the state of the analysis, a JSON object, to what is recorded of a release
// under way. The second answer is false when it cannot be kept.
func WithEvidence(s v1beta1.ReleaseStatus, evidence []byte) (v1beta1.ReleaseStatus, bool) {
	evidence = bytes.TrimSpace(evidence)
	switch {
	case s.Outcome != "" || len(evidence) == 0:
		return s, true
	case len(evidence) > EvidenceLimit, evidence[0] != '{', !json.Valid(evidence):
		s.Evidence = nil
		return s, false
	}
	s.Evidence = &runtime.RawExtension{Raw: evidence}
	return s, true
}

// Due says whether the next status is to be written now. What happened is, and a verdict that
// became another one; numbers that move all the time only every [Interval].
func Due(prev, next v1beta1.ReleaseStatus, now time.Time) bool {
	if !equality.Semantic.DeepEqual(essence(prev), essence(next)) {
		return true
	}
	return Stale(prev, next, now) && !equality.Semantic.DeepEqual(prev, next)
}

// Stale is true when the numbers of a step that is watched are to be written again.
func Stale(prev, next v1beta1.ReleaseStatus, now time.Time) bool {
	watched := next.Outcome == "" && len(next.Steps) > 0
	return watched && (prev.RecordedAt == nil || now.Sub(prev.RecordedAt.Time) >= Interval)
}

// essence is a status without the numbers that move all the time.
func essence(s v1beta1.ReleaseStatus) v1beta1.ReleaseStatus {
	s = *s.DeepCopy()
	s.RecordedAt, s.Evidence = nil, nil
	if s.Outcome != "" || len(s.Steps) == 0 {
		return s
	}
	s.Message = ""
	last := &s.Steps[len(s.Steps)-1]
	last.Why = ""
	for i, m := range last.Metrics {
		last.Metrics[i] = v1beta1.MetricStatus{Name: m.Name, Verdict: m.Verdict, Observed: m.Observed}
	}
	return s
}

// Surplus are the names of ended records of a Canary that are more than its history limit
// allows, oldest first. The record of the present attempt is never one before it ended.
func Surplus(records []v1beta1.Release, c *v1beta1.Canary) []string {
	limit := DefaultHistory
	if l := c.Spec.ReleaseHistoryLimit; l != nil {
		limit = int(*l)
	}
	var ended []v1beta1.Release
	for _, r := range records {
		present := c.Status.Release != nil && c.Status.Release.Attempt == r.Spec.Attempt
		if Ended(r.Status) || !present {
			ended = append(ended, r)
		}
	}
	slices.SortFunc(ended, func(a, b v1beta1.Release) int {
		return cmp.Or(cmp.Compare(a.Spec.Attempt, b.Spec.Attempt), cmp.Compare(a.Name, b.Name))
	})
	var names []string
	for _, r := range ended[:max(0, len(ended)-limit)] {
		names = append(names, r.Name)
	}
	return names
}

// shorten cuts a sentence to what a record has room for, between two characters.
func shorten(s string) string {
	const mark = " …"
	if len(s) <= sentenceLimit {
		return s
	}
	return strings.ToValidUTF8(s[:sentenceLimit-len(mark)], "") + mark
}
