// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package analysis turns measurements into verdicts. It is pure: what to ask is
// data ([Due]), the answers are data ([Measurement]), and [Judge] compares them.
// Asking is done by the packages below it: measure schedules, prometheus asks.
//
//	spec ──PlanFor──▶ Plan ──Due──▶ Query ──(a source asks)──▶ Measurement
//	                   │                                           │ History.With
//	                   └──────────────Judge◀────────── History ◀───┘
package analysis

import (
	"time"

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
	// Since is when the gateway confirmed the present weight: samples older than
	// this are not asked for.
	Since time.Time
	// Weight is the canary's confirmed share of the traffic in percent.
	Weight int32
}

// Plan is everything that decides what is measured next: the metrics of the
// spec with their defaults filled in, how often, and of what.
type Plan struct {
	Metrics  []v1beta1.Metric
	Interval time.Duration
	Subject  Subject
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
}

// Bucket is a cumulative count: requests that took at most Le seconds.
type Bucket struct {
	Le    float64
	Count float64
}

// Sample is what was measured of one arm.
type Sample struct {
	// Requests and Bad are counts in the interval, for KindCounts. For
	// KindHistogram Requests is the count of the +Inf bucket.
	Requests, Bad float64
	// Unanswered is how many more requests were sent to the version than were
	// answered in the interval, for KindCounts where the source knows it. It is
	// negative when requests of an earlier interval were answered in this one.
	Unanswered float64
	// Buckets are cumulative and end with Le +Inf, for KindHistogram.
	Buckets []Bucket
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
	Asked          time.Time
	Stable, Canary Sample
	// Says is the reason that came with a KindVerdict, in one sentence of at most 512 bytes; may be empty.
	Says string
	// Problem is set when there is no usable answer; the samples are then empty.
	Problem *Problem
}

// History is what was measured since Subject.Since, oldest first. It may be
// empty at any time (a restart loses it): the next queries then reach back.
// Measurements with To at or before Since are of stable only: what the canary is
// compared with once it has all the traffic.
type History struct {
	Since        time.Time
	Measurements []Measurement
	// Pending are the metrics that are being asked for: they are not due.
	Pending []string
	// At is when the history was read; zero when that is not known.
	At time.Time
}

// Verdict is what the analysis says of a release at its present step.
type Verdict struct {
	Result v1beta1.VerdictResult
	// Reason and Why are those of the metric that decided.
	Reason, Why string
	// Metrics is one entry per metric, in the order of the spec.
	Metrics []v1beta1.MetricStatus
}
