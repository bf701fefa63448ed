// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package status turns the graph, and what is known about the proxies, into the
// statuses that objects should have. It gives only those that differ from what
// the objects have, and leaves what other controllers wrote as it is.
package status

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/dataplane/graph"
)

// Update is one object whose status differs from what it should be.
type Update struct {
	// Old is the object as it stands in the graph.
	Old client.Object
	// New is a copy with the status it should have.
	New client.Object
}

// Programmed is what is known about the proxies of each Gateway. A Gateway that
// is missing has none yet.
type Programmed map[types.NamespacedName]State

// State is what is known about the proxies of one Gateway.
type State struct {
	// Addresses are the IP addresses and hostnames the Gateway's Service has.
	Addresses []string
	// Ready counts the proxies that can take traffic.
	Ready int32
	// Acked is the newest version of the configuration that every connected proxy
	// acknowledged; 0 when none is connected.
	Acked uint64
	// Since is the version that first carried an object's present generation.
	// An object that is missing was not published yet.
	Since map[ObjectKey]uint64
	// Answered is the newest version of which every connected proxy acknowledged all
	// that no proxy refused.
	Answered uint64
	// Refusal is the proxies' sentence about what they do not accept, or empty.
	Refusal string
	// Harmed are the objects whose configuration is, in part, what was refused, each
	// with the proxies' sentence. All others are served as if nothing had been refused.
	Harmed map[ObjectKey]string
	// Refused are the rules that the proxies do not serve, of each route.
	Refused map[ObjectKey][]graph.Problem
	// Problem says why the proxies could not be set up, or is empty.
	Problem string
}

// ObjectKey names an object that a configuration carries.
type ObjectKey struct {
	Kind string
	types.NamespacedName
}

// acknowledged tells whether the proxies confirmed an object's present generation.
func (s State) acknowledged(key ObjectKey) bool {
	since, published := s.Since[key]
	return published && since > 0 && len(s.Refused[key]) == 0 && (s.Acked >= since || s.Answered >= since && s.Harmed[key] == "")
}

// Updates gives the statuses to be written, Gateway classes first, then Gateways,
// their ListenerSets, then routes, then policies, in the graph's order.
func Updates(g *graph.Graph, p Programmed, controllerName string, now metav1.Time) []Update {
	var updates []Update
	add := func(old, desired client.Object, changed bool) {
		if changed {
			updates = append(updates, Update{Old: old, New: desired})
		}
	}
	for _, c := range g.Classes {
		desired := c.Source.DeepCopy()
		desired.Status = classStatus(c, now)
		add(c.Source, desired, !equality.Semantic.DeepEqual(c.Source.Status, desired.Status))
	}
	for _, gw := range g.Gateways {
		desired := gw.Source.DeepCopy()
		desired.Status = gatewayStatus(gw, p[gw.Key], now)
		add(gw.Source, desired, !equality.Semantic.DeepEqual(gw.Source.Status, desired.Status))
	}
	for _, set := range g.ListenerSets {
		desired := set.Source.DeepCopy()
		desired.Status = listenerSetStatus(set, p[set.Gateway.Key], now)
		add(set.Source, desired, !equality.Semantic.DeepEqual(set.Source.Status, desired.Status))
	}
	for _, r := range g.Routes {
		desired, changed := routeStatus(r, p, controllerName, now)
		add(r.Source, desired, changed)
	}
	for _, policy := range g.Policies {
		desired := policy.Source.DeepCopy()
		desired.Status.Ancestors = tlsPolicyStatus(policy, controllerName, now)
		add(policy.Source, desired, !equality.Semantic.DeepEqual(policy.Source.Status, desired.Status))
	}
	for _, x := range g.XBackends {
		desired := x.Source.DeepCopy()
		desired.Status.Ancestors = xbackendStatus(x, controllerName, now)
		add(x.Source, desired, !equality.Semantic.DeepEqual(x.Source.Status, desired.Status))
	}
	for _, policy := range g.TrafficPolicies {
		desired := policy.Source.DeepCopy()
		desired.Status.Ancestors = trafficPolicyStatus(policy, controllerName, now)
		add(policy.Source, desired, !equality.Semantic.DeepEqual(policy.Source.Status, desired.Status))
	}
	return updates
}

// maxMessage is the API's limit on the length of a condition's message.
const maxMessage = 32768

// setCondition gives conditions with one of them set; the others keep their
// place. Time moves only with the status. A condition about a newer generation
// than ours stays: our copy of the object is stale.
func setCondition(conditions []metav1.Condition, c metav1.Condition) []metav1.Condition {
	if len(c.Message) > maxMessage {
		c.Message = c.Message[:maxMessage-3] + "..."
	}
	for i, old := range conditions {
		if old.Type != c.Type {
			continue
		}
		if old.ObservedGeneration > c.ObservedGeneration {
			return conditions
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		conditions[i] = c
		return conditions
	}
	return append(conditions, c)
}

func removeCondition(conditions []metav1.Condition, conditionType string) []metav1.Condition {
	var kept []metav1.Condition
	for _, c := range conditions {
		if c.Type != conditionType {
			kept = append(kept, c)
		}
	}
	return kept
}

// conditions sets conditions of one object at one generation.
type conditions struct {
	list       []metav1.Condition
	generation int64
	now        metav1.Time
}

func newConditions(existing []metav1.Condition, generation int64, now metav1.Time) *conditions {
	return &conditions{list: append([]metav1.Condition(nil), existing...), generation: generation, now: now}
}

func (c *conditions) set(conditionType string, status metav1.ConditionStatus, reason, message string) {
	c.list = setCondition(c.list, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: message,
		ObservedGeneration: c.generation, LastTransitionTime: c.now,
	})
}

// judge sets a condition to False with the first reason and every message of the
// problems that concern it, or to True with goodReason.
func (c *conditions) judge(conditionType, goodReason string, problems ...[]graph.Problem) {
	if reason, message, found := sumUp(conditionType, problems...); found {
		c.set(conditionType, metav1.ConditionFalse, reason, message)
		return
	}
	c.set(conditionType, metav1.ConditionTrue, goodReason, "")
}

// isTrue tells whether a condition is True for the present generation.
func (c *conditions) isTrue(conditionType string) bool {
	for _, existing := range c.list {
		if existing.Type == conditionType {
			return existing.Status == metav1.ConditionTrue && existing.ObservedGeneration == c.generation
		}
	}
	return false
}

func sumUp(conditionType string, problems ...[]graph.Problem) (reason, message string, found bool) {
	var messages []string
	for _, list := range problems {
		for _, p := range list {
			if p.Condition != conditionType {
				continue
			}
			if len(messages) == 0 {
				reason = p.Reason
			}
			messages = append(messages, p.Message)
		}
	}
	return reason, strings.Join(messages, "; "), len(messages) > 0
}
