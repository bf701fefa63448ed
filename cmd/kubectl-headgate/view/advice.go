// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"headgate.dev/headgate/api/v1beta1"
)

// Advice says what a person can do now, one sentence or command a line. It is
// empty when nothing is asked of anybody.
func Advice(c v1beta1.Canary) []string {
	run := func(what string) string {
		return fmt.Sprintf("kubectl headgate %s %s -n %s", what, c.Name, c.Namespace)
	}
	reason := ready(c).Reason
	switch c.Status.Phase {
	case v1beta1.PhaseStarting, v1beta1.PhaseStepping:
		switch {
		case reason == v1beta1.ReasonWaitingForApproval:
			return []string{"approve this step:   " + run("promote"), "or take it back:     " + run("abort")}
		case reason == v1beta1.ReasonPaused:
			return []string{"go on:               " + run("resume"), "or take it back:     " + run("abort")}
		case reason == v1beta1.ReasonSuspended:
			return []string{"go on: set spec.suspend of the Canary to false"}
		case reason == v1beta1.ReasonWaitingForVerdict:
			return append(unknown(c), "go on without it:    "+run("promote"), "or take it back:     "+run("abort"))
		}
	case v1beta1.PhaseRolledBack:
		return rejected(c, run)
	}
	return waiting(c, reason)
}

// rejected is what remains to be done after a release that failed.
func rejected(c v1beta1.Canary, run func(string) string) []string {
	var list []string
	if r := c.Status.Release; r != nil && r.Revision != "" {
		list = append(list, fmt.Sprintf("look at its pods:    kubectl get pods -n %s -l pod-template-hash=%s", c.Namespace, r.Revision))
	}
	return append(list,
		"release a fix:       change the Deployment as usual; a new version starts a new release",
		"or go back for good: apply the template that serves now; the Deployment is paused with the rejected one",
		"or try it again:     "+run("retry"))
}

// verdictAdvice is what brings a verdict, by the reason there is none.
var verdictAdvice = map[string]string{
	v1beta1.ReasonNoTraffic:           "more requests settle it; the release waits for them",
	v1beta1.ReasonTooFewRequests:      "more requests settle it; the release waits for them",
	v1beta1.ReasonInconclusive:        "more requests settle it; the release waits for them",
	v1beta1.ReasonNotGoodEnough:       "compare the two versions yourself: the numbers are near the limits",
	v1beta1.ReasonPodsFailTogether:    "look at that pod of stable; the test that tells versions apart cannot tell pods apart",
	v1beta1.ReasonSplitNotAsAsked:     "find the other way by which requests reach the canary's Service, or stable's",
	v1beta1.ReasonLearning:            "more requests of stable settle it; the release waits for them",
	v1beta1.ReasonWarmingUp:           "nothing: the new pods get time to warm up",
	v1beta1.ReasonNoProxies:           "see whether the proxies of the Gateway run, or judge by other metrics",
	v1beta1.ReasonTemplateNotFound:    "create the MetricTemplate in the Canary's namespace, or correct its name",
	v1beta1.ReasonSecretNotFound:      "create the Secret in the Canary's namespace, or correct its name or key",
	v1beta1.ReasonStaleMeasurements:   "see whether the proxies, or the metric's source, still answer",
	v1beta1.ReasonSourceUnavailable:   "make its Prometheus reachable from Headgate; the release waits for it",
	v1beta1.ReasonSourceNotConfigured: "name a Prometheus: prometheus.address of the chart, or prometheus.address of the metric",
	v1beta1.ReasonSourceNotFound:      "correct the address of the Prometheus",
	v1beta1.ReasonAccessDenied:        "let Headgate's pods query the Prometheus",
	v1beta1.ReasonQueryRejected:       "correct the query",
	v1beta1.ReasonQueryTimedOut:       "make the query cheaper; the release waits",
	v1beta1.ReasonNoSeries:            "correct the query: it matches nothing",
	v1beta1.ReasonSeveralSeries:       "correct the query: it must yield one number",
	v1beta1.ReasonNotANumber:          "correct the query: it must yield one number",
	v1beta1.ReasonUnusableAnswer:      "correct the query: it must yield one number",
	v1beta1.ReasonAnalysisBroken:      "decide by hand, with promote or abort, and report what Headgate's log says",
}

// unknown says how to get a verdict where there is none.
func unknown(c v1beta1.Canary) []string {
	r := c.Status.Release
	if r == nil {
		return nil
	}
	for _, m := range r.Metrics {
		if m.Verdict != v1beta1.VerdictUnknown {
			continue
		}
		if advice := verdictAdvice[m.Reason]; advice != "" {
			return []string{advice}
		}
	}
	return nil
}

// waiting is for Canaries without a release that can go on.
func waiting(c v1beta1.Canary, reason string) []string {
	switch reason {
	case v1beta1.ReasonTargetNotFound:
		return []string{fmt.Sprintf("create the Deployment %s, or name another target in a new Canary", c.Spec.Target.Name)}
	case v1beta1.ReasonServiceNotFound, v1beta1.ReasonServiceAmbiguous:
		return []string{"name the Service in spec.service"}
	case v1beta1.ReasonRouteNotFound:
		return []string{"create an HTTPRoute or GRPCRoute that names the Service as a backend"}
	case v1beta1.ReasonRouteNotAccepted:
		return []string{"read the route's status: kubectl describe httproute"}
	case v1beta1.ReasonTargetPaused:
		return []string{fmt.Sprintf("start the release:   kubectl rollout resume deployment/%s -n %s", c.Spec.Target.Name, c.Namespace)}
	case v1beta1.ReasonSuspended:
		return []string{"go on: set spec.suspend of the Canary to false"}
	}
	return nil
}

// Refuse says why a command makes no sense now, or nothing. Headgate itself
// checks again when it takes the command up.
func Refuse(c v1beta1.Canary, verb string) string {
	at := c.Status.Phase
	running := at == v1beta1.PhaseStarting || at == v1beta1.PhaseStepping
	switch verb {
	case v1beta1.CommandPromote, v1beta1.CommandPromoteFull:
		switch {
		case at == v1beta1.PhaseStepping, at == v1beta1.PhaseStarting && verb == v1beta1.CommandPromoteFull:
			return ""
		case at == v1beta1.PhaseStarting:
			return "there is no step to promote yet: the canary's pods are starting (promote --full goes to 100 % as soon as they are ready)"
		case at == v1beta1.PhasePromoting:
			return "the new version is being promoted already"
		case at == v1beta1.PhaseRolledBack:
			return "the release was rolled back: use retry to release the same version again, or apply a new one"
		}
		return "no release is in progress: one starts when the Deployment's template changes"
	case v1beta1.CommandAbort:
		switch {
		case running, at == v1beta1.PhasePromoting:
			return ""
		case at == v1beta1.PhaseRollingBack:
			return "the traffic is going back to stable already"
		}
		return "no release is in progress, so there is nothing to abort"
	case v1beta1.CommandRetry:
		if at == v1beta1.PhaseRolledBack {
			return ""
		}
		return "there is no rejected version to release again"
	case v1beta1.CommandPause:
		switch {
		case !running:
			return "no release is in progress; to keep the next one from starting, set spec.suspend to true"
		case c.Status.Release != nil && c.Status.Release.Paused:
			return "the release is paused already"
		}
	case v1beta1.CommandResume:
		switch {
		case c.Spec.Suspend:
			return "the Canary is suspended: set spec.suspend to false"
		case !running || c.Status.Release == nil || !c.Status.Release.Paused:
			return "no release is paused"
		}
	}
	return ""
}
