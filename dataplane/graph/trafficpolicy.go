// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"cmp"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	gwxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/gateway-api/pkg/utils"
)

// RetryBudget bounds the retries to a backend, whatever its routes ask for (GEP-3388).
type RetryBudget struct {
	// Percent of the requests that may be retries, 0 to 100.
	Percent int
	// Interval is for how long a request counts.
	Interval time.Duration
	// MinPerSecond is how many retries a second are allowed in any case, at least 1.
	MinPerSecond uint32
}

// TrafficPolicy is an XBackendTrafficPolicy whose targets a route of ours sends to, or one
// that carries a status of ours from the time when a route did; then Ancestors is empty.
type TrafficPolicy struct {
	Key    types.NamespacedName
	Source *gwxv1alpha1.XBackendTrafficPolicy
	// Ancestors are the Gateways whose routes send to one of its targets, by name.
	Ancestors []*Gateway
	Problems  []Problem
	budget    *RetryBudget
}

// budgets are the policies in force, by what they are for.
type budgets map[budgetTarget]*TrafficPolicy

type budgetTarget struct {
	kind UpstreamKind
	types.NamespacedName
}

// of is the budget of an upstream, or nil.
func (b budgets) of(key ClusterKey) *RetryBudget {
	if p := b[budgetTarget{key.Kind, types.NamespacedName{Namespace: key.Namespace, Name: key.Service}}]; p != nil {
		return p.budget
	}
	return nil
}

// buildTrafficPolicies makes every policy, and finds which are in force: of several for the
// same target the oldest is, then the one whose name comes first in the alphabet. One with
// a mistake is not: the retries stay as the routes ask.
func buildTrafficPolicies(sources map[types.NamespacedName]*gwxv1alpha1.XBackendTrafficPolicy) ([]*TrafficPolicy, budgets) {
	var all []*TrafficPolicy
	for _, key := range sortedKeys(sources) {
		if src := sources[key]; src != nil {
			all = append(all, buildTrafficPolicy(src))
		}
	}
	byAge := slices.Clone(all)
	slices.SortStableFunc(byAge, func(a, b *TrafficPolicy) int {
		return cmp.Or(a.Source.CreationTimestamp.Compare(b.Source.CreationTimestamp.Time), compareKeys(a.Key, b.Key))
	})
	inForce := budgets{}
	for _, p := range byAge {
		for _, target := range p.targets() {
			if other := inForce[target]; other != nil && other != p {
				p.Problems = append(p.Problems, trafficPolicyConflicted(target, other.Key))
				continue
			}
			inForce[target] = p
		}
	}
	return all, inForce
}

func (p *TrafficPolicy) targets() []budgetTarget {
	var targets []budgetTarget
	for _, ref := range p.Source.Spec.TargetRefs {
		name := types.NamespacedName{Namespace: p.Key.Namespace, Name: string(ref.Name)}
		switch {
		case ref.Group == "" && ref.Kind == "Service":
			targets = append(targets, budgetTarget{UpstreamService, name})
		case ref.Group == gwxv1alpha1.GroupName && ref.Kind == xbackendKind:
			targets = append(targets, budgetTarget{UpstreamXBackend, name})
		}
	}
	return targets
}

func buildTrafficPolicy(src *gwxv1alpha1.XBackendTrafficPolicy) *TrafficPolicy {
	p := &TrafficPolicy{Key: keyOf(src), Source: src}
	bad := func(format string, args ...any) { p.Problems = append(p.Problems, xbackendInvalid(format, args...)) }
	for i, ref := range src.Spec.TargetRefs {
		if (ref.Group != "" || ref.Kind != "Service") && (ref.Group != gwxv1alpha1.GroupName || ref.Kind != xbackendKind) {
			bad("spec.targetRefs[%d] names a %s of group %q: write a Service of the core group (\"\") or an XBackend of group %q", i, ref.Kind, ref.Group, gwxv1alpha1.GroupName)
		}
	}
	if src.Spec.SessionPersistence != nil { //nolint:staticcheck // it is deprecated, and refused rather than ignored
		bad("spec.sessionPersistence is not supported: write it into an XBackend of type EndpointSelector")
	}
	if c := src.Spec.RetryConstraint; c != nil {
		var why []string
		p.budget, why = readBudget(c)
		for _, sentence := range why {
			bad("spec.retryConstraint.%s", sentence)
		}
	}
	if len(p.Problems) > 0 {
		p.budget = nil
	}
	return p
}

func readBudget(src *gwxv1alpha1.RetryConstraint) (*RetryBudget, []string) {
	out := &RetryBudget{Percent: 20, Interval: 10 * time.Second, MinPerSecond: 10} // the defaults of the API
	var why []string
	interval := func(field string, d *gwv1.Duration, otherwise, least time.Duration) time.Duration {
		if d == nil {
			return otherwise
		}
		parsed, err := utils.ParseDuration(string(*d))
		if err != nil || *parsed < least || *parsed > time.Hour {
			why = append(why, field+" is \""+string(*d)+"\": write a duration from "+least.String()+" to 1h")
			return otherwise
		}
		return *parsed
	}
	if b := src.Budget; b != nil {
		out.Percent = deref(b.Percent, out.Percent)
		out.Interval = interval("budget.interval", b.Interval, out.Interval, time.Second)
		if out.Percent < 0 || out.Percent > 100 {
			why = append(why, "budget.percent is not a percentage: write a number from 0 to 100")
		}
	}
	if m := src.MinRetryRate; m != nil {
		count := deref(m.Count, 10)
		every := interval("minRetryRate.interval", m.Interval, time.Second, time.Millisecond)
		if count < 1 || count > 1_000_000 {
			why = append(why, "minRetryRate.count is out of range: write a number from 1 to 1000000")
			count = 1
		}
		rate := math.Ceil(float64(count) * float64(time.Second) / float64(every))
		out.MinPerSecond = uint32(min(max(rate, 1), math.MaxUint32))
	}
	return out, why
}

// linkTrafficPolicies finds the Gateways that each policy concerns, and keeps the
// policies that have one, or had.
func (g *Graph) linkTrafficPolicies(all []*TrafficPolicy, controllerName string) {
	byKind := map[UpstreamKind]map[types.NamespacedName][]*Gateway{
		UpstreamService: g.gatewaysOf(UpstreamService), UpstreamXBackend: g.gatewaysOf(UpstreamXBackend),
	}
	for _, p := range all {
		for _, target := range p.targets() {
			for _, gw := range byKind[target.kind][target.NamespacedName] {
				if !slices.Contains(p.Ancestors, gw) {
					p.Ancestors = append(p.Ancestors, gw)
				}
			}
		}
		slices.SortFunc(p.Ancestors, func(a, b *Gateway) int { return compareKeys(a.Key, b.Key) })
		had := slices.ContainsFunc(p.Source.Status.Ancestors, func(a gwv1.PolicyAncestorStatus) bool {
			return string(a.ControllerName) == controllerName
		})
		if len(p.Ancestors) > 0 || had {
			g.TrafficPolicies = append(g.TrafficPolicies, p)
		}
	}
}
