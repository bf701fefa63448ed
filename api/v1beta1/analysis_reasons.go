// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

// Reasons of verdicts beside those of the release: each has one cause and one
// thing to do about it, see docs/analysis.md.
const (
	// ReasonNotJudged: at weight 0 no request reaches the canary, so the metrics of the gateway do not judge.
	ReasonNotJudged = "NotJudged"
	// ReasonInconclusive: there is data, and it speaks neither clearly for nor clearly against the canary.
	ReasonInconclusive = "Inconclusive"
	// ReasonNoProxies: no proxy of Headgate's own gateway reports requests of the versions.
	ReasonNoProxies = "NoProxies"
	// ReasonWarmingUp: new pods are slow at first, so latency is not judged yet.
	ReasonWarmingUp = "WarmingUp"
	// ReasonLearning: stable is not known well enough yet to compare with.
	ReasonLearning = "Learning"
	// ReasonPodsFailTogether: a pod of stable, where nothing changed, looks as bad as a version that would be rolled back.
	ReasonPodsFailTogether = "PodsFailTogether"
	// ReasonSplitNotAsAsked: the canary answers more than its share of the requests, or what came by other ways than
	// the weight may alone be why it looks as it does, so no comparison can be trusted.
	ReasonSplitNotAsAsked = "SplitNotAsAsked"
	// ReasonNotGoodEnough: at these rates the canary will neither be accepted nor rolled back.
	ReasonNotGoodEnough = "NotGoodEnough"
	// ReasonTemplateNotFound: the Canary's namespace has no MetricTemplate of that name.
	ReasonTemplateNotFound = "TemplateNotFound"
	// ReasonSecretNotFound: a Secret or a key of one that a metric refers to does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonClockSkew: the clock of a Prometheus is not ours, so its intervals are not ours either.
	ReasonClockSkew = "ClockSkew"
	// ReasonNotDecided: a webhook answered that it cannot say yet.
	ReasonNotDecided = "NotDecided"
	// ReasonJobRunning: a Job that judges the canary has not ended yet.
	ReasonJobRunning = "JobRunning"
	// ReasonJobRefused: the API server does not let the Job of a metric be created.
	ReasonJobRefused = "JobRefused"
	// ReasonStaleMeasurements: the newest usable measurement is too old to promote on.
	ReasonStaleMeasurements = "StaleMeasurements"
	// ReasonAccessDenied: the source answered 401 or 403.
	ReasonAccessDenied = "AccessDenied"
	// ReasonSourceNotFound: nothing answers like Prometheus at the address (404, or a page instead of JSON).
	ReasonSourceNotFound = "SourceNotFound"
	// ReasonQueryRejected: the source refused the query, by syntax or by cost.
	ReasonQueryRejected = "QueryRejected"
	// ReasonQueryTimedOut: the source did not answer in time.
	ReasonQueryTimedOut = "QueryTimedOut"
	// ReasonNoSeries: the query matched nothing.
	ReasonNoSeries = "NoSeries"
	// ReasonSeveralSeries: the query gave more than one number.
	ReasonSeveralSeries = "SeveralSeries"
	// ReasonNotANumber: the query gave NaN or an infinity.
	ReasonNotANumber = "NotANumber"
)
