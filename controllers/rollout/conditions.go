// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"headgate.dev/headgate/api/v1beta1"
)

// condition sets a condition; its transition time moves only with its status.
// It says whether the reason is a new one.
func (p *pass) condition(kind string, status metav1.ConditionStatus, reason, message string) (news bool) {
	old := meta.FindStatusCondition(p.status.Conditions, kind)
	news = old == nil || old.Reason != reason
	meta.SetStatusCondition(&p.status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: p.in.Canary.Generation,
		LastTransitionTime: metav1.NewTime(p.now),
	})
	return news
}

func (p *pass) conditionIs(kind string, status metav1.ConditionStatus) bool {
	return meta.IsStatusConditionPresentAndEqual(p.status.Conditions, kind, status)
}

func (p *pass) forget(kinds ...string) {
	for _, k := range kinds {
		meta.RemoveStatusCondition(&p.status.Conditions, k)
	}
}

// summary is the kstatus triple: at rest, under way, or waiting for a person.
func (p *pass) summary(ready, reconciling, stalled metav1.ConditionStatus, reason, message string) (news bool) {
	news = p.condition(v1beta1.ConditionReady, ready, reason, message)
	p.condition(v1beta1.ConditionReconciling, reconciling, reason, message)
	p.condition(v1beta1.ConditionStalled, stalled, reason, message)
	return news
}

func (p *pass) resting(reason, message string) {
	p.summary(metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionFalse, reason, message)
}

func (p *pass) working(reason, message string) { p.news(reason, message) }

// news is working, and says whether the reason is a new one.
func (p *pass) news(reason, message string) bool {
	return p.summary(metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionFalse, reason, message)
}

// stalled also publishes the sentence once per reason: a person has to act.
func (p *pass) stalled(reason, message string) {
	if p.summary(metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, reason, message) {
		p.event(true, reason, message)
	}
}

// ended forgets the facts of a release that is over.
func (p *pass) ended() {
	p.forget(v1beta1.ConditionCanaryReady, v1beta1.ConditionWeightConfirmed, v1beta1.ConditionAnalysis)
}

// admit says beside what is being done that the API server refuses it.
func (p *pass) admit() {
	if p.seen.Failure == "" || len(p.actions) == 0 {
		return
	}
	note := "The API server refuses a change that the release needs: " + sentence(p.seen.Failure)
	if old := meta.FindStatusCondition(p.in.Canary.Status.Conditions, v1beta1.ConditionReady); old == nil || !strings.Contains(old.Message, note) {
		p.event(true, v1beta1.ReasonWriteFailed, note)
	}
	for _, kind := range []string{v1beta1.ConditionReady, v1beta1.ConditionReconciling, v1beta1.ConditionStalled} {
		if c := meta.FindStatusCondition(p.status.Conditions, kind); c != nil && !strings.Contains(c.Message, note) {
			c.Message = strings.TrimSpace(c.Message + " " + note)
		}
	}
}
