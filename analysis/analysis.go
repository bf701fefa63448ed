// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package analysis turns what was measured into verdicts. It is pure: what to ask is
// data ([Due]), what came is data ([Reading], [Measurement]), what it amounts to is data
// ([Evidence], which can be stored as JSON), and [Judge] says what it means. Asking and
// listening is done by the packages below it.
//
//	spec ──PlanFor──▶ Plan ──Due──▶ Query ──(a source asks)──▶ Measurement ─┐
//	                   │            proxies ─(envoystats)─▶ Reading ────────┤
//	                   └──────────────Judge◀────────── Evidence ◀─Add──Read─┘
//
// Whatever counts requests, the gateway's proxies or counters in a Prometheus, is judged by
// package trial: tests that may be looked at as often as one likes, with a stated
// chance of rolling back a tolerable version.
package analysis

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// Arm is one of the two versions that are compared.
type Arm string

// The two arms of a release.
const (
	Stable Arm = "stable"
	Canary Arm = "canary"
)

// Version says where the measurements of one arm are found.
type Version struct {
	// Revision is the version's pod-template-hash.
	Revision string
	// Service and Ports name the backend whose proxy statistics are the arm's.
	Service string
	Ports   []int32
	// PodPattern is an anchored regular expression of the arm's pod names.
	PodPattern string
}

// Subject is what is measured: one release at one step.
type Subject struct {
	Namespace string
	// Canary is the name of the Canary resource.
	Canary string
	// Attempt counts the releases of the Canary from 1, Step the steps of this one from 1.
	Attempt int64
	Step    int32
	// StableVersion and CanaryVersion are the two arms.
	StableVersion, CanaryVersion Version
	// Gateways are those that the routes of the release belong to: their proxies count, and no others.
	Gateways []types.NamespacedName
	// Since is when the gateway confirmed the present weight: what was counted before says
	// nothing of this step. Zero while no weight is confirmed, or the routes do not carry it.
	Since time.Time
	// Resumed is when the same weight was confirmed again, after routes that somebody else wrote did not carry it
	// for a while: what was counted in between says nothing of it either. Zero where that did not happen.
	Resumed time.Time
	// Weight is the canary's confirmed share of the traffic in percent.
	Weight int32
	// Mixed is true when requests reach the versions by other ways than by Weight too, or
	// not at random (another route, a rule for testers, sticky sessions): then how many
	// each version answers says nothing.
	Mixed bool
	// OtherWays is true for the first of these: then the versions may be asked for
	// different things, and of requests that the weight does not account for the worst is assumed.
	OtherWays bool
}

// Plan is everything that decides what is measured, of what, and how it is judged.
type Plan struct {
	// Metrics of the spec, with their templates resolved and their defaults filled in.
	Metrics []v1beta1.Metric
	// Problems say, by name, why a metric cannot be measured at all.
	Problems map[string]Problem
	// Interval is the time between two measurements of a metric that is asked for.
	Interval time.Duration
	// WarmUp is how long after Since the latency of the gateway is not judged.
	WarmUp time.Duration
	// Alpha is the allowed chance of rolling back a tolerable version.
	Alpha   float64
	Subject Subject
}

// Kind is the shape of an answer.
type Kind string

// The kinds of measurements.
const (
	// KindCounts is requests and bad requests per arm in [From, To).
	KindCounts Kind = "Counts"
	// KindHistogram is cumulative request counts by upper bound per arm in [From, To).
	KindHistogram Kind = "Histogram"
	// KindScalar is one number per arm at To.
	KindScalar Kind = "Scalar"
	// KindVerdict is a pass (Value 0) or a fail (Value 1) of the canary, with a reason in Says.
	KindVerdict Kind = "Verdict"
)

// Query is one question to a source.
type Query struct {
	Metric   v1beta1.Metric
	Kind     Kind
	Subject  Subject
	From, To time.Time
	// Asked is when the question was found due; the answer carries it back.
	Asked time.Time
	// Counted is the ID of the newest answer that the evidence of this step has, which must not be given
	// again. Empty where it has none.
	Counted string
}

// Sample is what was measured of one arm.
type Sample struct {
	// Requests and Bad are counts in the interval, for KindCounts. For
	// KindHistogram Requests is the count of the +Inf bucket.
	Requests, Bad float64
	// Buckets are cumulative and end with Le +Inf, for KindHistogram.
	Buckets []sequential.Bucket
	// Value is the number, for KindScalar.
	Value float64
	// Present is false when the source had no answer for this arm.
	Present bool
}

// Problem is why a measurement could not be made.
type Problem struct {
	// Reason is one of the v1beta1 reasons: SourceUnavailable, UnusableAnswer, ….
	Reason string
	// Message is a sentence: what was asked, what came, what to do.
	Message string
}

// Measurement is the answer to one Query.
type Measurement struct {
	Metric   string
	Kind     Kind
	From, To time.Time
	// Asked is the Asked of the query.
	Asked time.Time
	// ID tells apart answers that a source may find again, as a Job that ended. Empty for all others. It is stored
	// with what the answer counted for, so it counts once, whatever is restarted.
	ID             string `json:",omitempty"`
	Stable, Canary Sample
	// Says is the reason that came with a KindVerdict, in one sentence of at most 512 bytes; may be empty.
	Says string
	// Problem is set when there is no usable answer; the samples are then empty.
	Problem *Problem
}

// Reading is what the gateway's proxies counted of both versions in one interval,
// which began after the present weight was confirmed.
type Reading struct {
	Stable, Canary trial.Arm
	// StablePods is Stable.Requests pod by pod; empty where that is not known.
	StablePods []trial.Pod
	// Proxies is how many of them report at present, Newest when the newest report came; zero for never.
	Proxies int
	Newest  time.Time
	// Usual is the time from report to report, of the slowest of them; zero where that is not known yet.
	Usual time.Duration
}

// Verdict is what the analysis says of a release at its present step.
type Verdict struct {
	Result v1beta1.VerdictResult
	// Reason and Why are those of the metric that decided.
	Reason, Why string
	// Metrics is one entry per metric, in the order of the spec.
	Metrics []v1beta1.MetricStatus
	// Findings are the numbers behind them, for those that count requests; zero for the others.
	Findings []trial.Finding
}
