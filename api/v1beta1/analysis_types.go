// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Analysis says which metrics judge the new version, and how strictly.
type Analysis struct {
	// Metrics must all pass for a step to be left; one that fails rolls back.
	// Empty: errors, latency and missing answers, as the bundled gateway's proxies
	// count them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Metrics []Metric `json:"metrics,omitempty"`
	// FalseRollbackRate is the chance that a tolerable version is rolled back by the
	// metrics that are compared with stable, over the whole release and all of
	// them together, however long it runs. From 0.0001% to 10%. Default 0.1%: one release in a thousand.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern="^[0-9]+(\\.[0-9]+)?%$"
	FalseRollbackRate string `json:"falseRollbackRate,omitempty"`
	// Interval is the time between two measurements of a query, at least 1s.
	// Default 10s. The gateway's own metrics come every second.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s')",message="write a duration of at least 1s, such as 10s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// WarmUp is how long after each confirmed weight the latency of the gateway is
	// not judged: new pods are slow at first. Default 15s. Errors and missing answers
	// count from the first request.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",message="write a duration such as 0s, 15s or 2m"
	WarmUp *metav1.Duration `json:"warmUp,omitempty"`
	// OnUnknown says what happens with a step whose verdict stays Unknown. Default:
	// it holds, and a person decides.
	// +optional
	OnUnknown *OnUnknown `json:"onUnknown,omitempty"`
	// Disabled turns the analysis off: steps are left by time and approval, and
	// only pods that are not ready roll back.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// OnUnknown is the policy for a step that never gets to a verdict.
type OnUnknown struct {
	// After is how long a step may stay Unknown beyond its hold, at least 10s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10s')",message="write a duration of at least 10s, such as 15m"
	After metav1.Duration `json:"after"`
	// Then is what is done: Hold (tell, and wait for a person), Promote (go on to the
	// next step) or RollBack.
	Then UnknownAction `json:"then"`
}

// UnknownAction is what is done about a verdict that stays Unknown.
// +kubebuilder:validation:Enum=Hold;Promote;RollBack
type UnknownAction string

// The actions.
const (
	UnknownHold     UnknownAction = "Hold"
	UnknownPromote  UnknownAction = "Promote"
	UnknownRollBack UnknownAction = "RollBack"
)

// GatewayMetric is a metric that the bundled gateway measures by itself.
// +kubebuilder:validation:Enum=ErrorRate;Latency;Answers
type GatewayMetric string

// The metrics of the bundled gateway.
const (
	// GatewayErrorRate is the share of requests answered with a 5xx or, where they
	// are gRPC calls, with a code that is the server's fault, by the version or by
	// the proxy in its place, in percent. The codes are Unknown, DeadlineExceeded,
	// Unimplemented, Internal, Unavailable and DataLoss.
	GatewayErrorRate GatewayMetric = "ErrorRate"
	// GatewayLatency is the time from request to response, at one quantile or at six.
	GatewayLatency GatewayMetric = "Latency"
	// GatewayAnswers is whether the canary answers its share of the requests at all: a
	// version that hangs completes nothing, and looks perfect to the other two.
	GatewayAnswers GatewayMetric = "Answers"
)

// Metric judges one question about the new version. Exactly one source answers it.
//
// +kubebuilder:validation:XValidation:rule="[has(self.gateway), has(self.prometheus), has(self.http), has(self.job), has(self.webhook), has(self.template)].filter(x, x).size() == 1",message="give exactly one of gateway (ErrorRate, Latency or Answers), prometheus, http, job, webhook and template"
// +kubebuilder:validation:XValidation:rule="!has(self.quantile) || (has(self.gateway) && self.gateway == 'Latency') || (has(self.prometheus) && has(self.prometheus.histogram)) || has(self.template)",message="quantile belongs to gateway: Latency and to prometheus.histogram"
// +kubebuilder:validation:XValidation:rule="!(has(self.tolerance) && has(self.threshold))",message="give tolerance (compare with stable) or threshold (compare with a number), not both"
// +kubebuilder:validation:XValidation:rule="!(has(self.prometheus) && has(self.prometheus.query)) || has(self.tolerance) || has(self.threshold)",message="a query needs tolerance (compare with stable) or threshold (compare with a number)"
// +kubebuilder:validation:XValidation:rule="!has(self.http) || has(self.tolerance) || has(self.threshold)",message="http gives a number: it needs tolerance (compare with stable) or threshold (compare with a number)"
// +kubebuilder:validation:XValidation:rule="!(has(self.prometheus) && has(self.prometheus.query) && has(self.tolerance)) || (has(self.prometheus.stableQuery) || self.prometheus.query.contains('{{'))",message="a query compared with stable must say which version it measures: use {{.Pods}} or {{.Service}} in it"
// +kubebuilder:validation:XValidation:rule="!(has(self.job) || has(self.webhook)) || !(has(self.tolerance) || has(self.threshold) || has(self.goodEnough))",message="a job and a webhook say pass or fail by themselves: remove tolerance, threshold and goodEnough"
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || !(has(self.interval) || has(self.initialDelay) || has(self.misses))",message="the gateway's metrics come every second and are judged by their evidence: interval, initialDelay and misses belong to the other sources; see analysis.warmUp"
// +kubebuilder:validation:XValidation:rule="!has(self.goodEnough) || has(self.gateway) || has(self.template) || (has(self.prometheus) && !has(self.prometheus.query))",message="goodEnough belongs to what is counted by requests (gateway, counters, histogram): one number at a time passes when it is in range; remove it"
// +kubebuilder:validation:XValidation:rule="!has(self.misses) || !(has(self.prometheus) && !has(self.prometheus.query))",message="what is counted by requests is judged by its evidence, not by misses in a row: remove misses"
type Metric struct {
	// Name is what reasons and events call the metric.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
	Name string `json:"name"`
	// Gateway names a metric of the bundled gateway.
	// +optional
	Gateway GatewayMetric `json:"gateway,omitempty"`
	// Prometheus asks a Prometheus, or anything that speaks its API.
	// +optional
	Prometheus *PrometheusSource `json:"prometheus,omitempty"`
	// HTTP asks a service that answers with JSON.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`
	// Job runs a Kubernetes Job that succeeds or fails.
	// +optional
	Job *JobSource `json:"job,omitempty"`
	// Webhook asks a service of your own whether the release may go on.
	// +optional
	Webhook *WebhookSource `json:"webhook,omitempty"`
	// Template takes the source, and whatever is not set here, from a MetricTemplate.
	// +optional
	Template *TemplateReference `json:"template,omitempty"`

	// Quantile of latencies, between 0 and 1 exclusive. Empty: six of them, from the
	// median to 0.999, which share the metric's evidence.
	// +optional
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern="^0\\.[0-9]{1,6}$"
	Quantile string `json:"quantile,omitempty"`
	// Tolerance is how much worse than stable the canary may be without being rolled back.
	// Default for ErrorRate: 25% relative plus 0.05% absolute; for Latency: 18%
	// relative or 5ms absolute, whichever is more; for Answers: 20% relative.
	// +optional
	Tolerance *Tolerance `json:"tolerance,omitempty"`
	// GoodEnough is how much worse than stable the canary must be shown not to be before a
	// step is left. Default: 50% relative plus 1% absolute, or twice the tolerance where that is more; for Latency
	// of the requests that are slower than a quantile of stable's. The smaller it is, the more requests a step takes: at
	// 1% about 400 of the canary's, at 0.1% about 4,000.
	// +optional
	GoodEnough *Tolerance `json:"goodEnough,omitempty"`
	// Threshold compares the canary with fixed numbers instead of stable.
	// +optional
	Threshold *Threshold `json:"threshold,omitempty"`

	// Interval is the time between two measurements, in place of analysis.interval. A
	// Job and a webhook without one are asked once at each step.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s')",message="write a duration of at least 1s, such as 10s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// InitialDelay is how long after a confirmed weight the first measurement is made.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",message="write a duration such as 30s or 2m"
	InitialDelay *metav1.Duration `json:"initialDelay,omitempty"`
	// Misses is how many measurements in a row must be out of range to roll back, for sources
	// that give one number at a time. Default 3 with threshold and 1 for a Job and a webhook.
	// With tolerance the default is a test that keeps to falseRollbackRate: 16 measurements in a row
	// out of range at the default, or more of which most are.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Misses *int32 `json:"misses,omitempty"`
	// Weight is the metric's part of the evidence that falseRollbackRate allows: the larger, the
	// sooner it can roll back. Default 5 for ErrorRate, 3 for Latency and 1 for everything else.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight *int32 `json:"weight,omitempty"`
	// Observe shows what the metric says without letting it decide: a dry run.
	// +optional
	Observe bool `json:"observe,omitempty"`
}

// PrometheusSource asks an instant query for one number, or reads counters or a histogram.
//
// +kubebuilder:validation:XValidation:rule="[has(self.query), has(self.counters), has(self.histogram)].filter(x, x).size() == 1",message="give exactly one of query (one number), counters (bad and total) and histogram"
// +kubebuilder:validation:XValidation:rule="!has(self.stableQuery) || has(self.query)",message="stableQuery belongs to query"
type PrometheusSource struct {
	// Query is PromQL that gives one number, with the fields {{.Namespace}}, {{.Canary}},
	// {{.Release}} (number of the attempt), {{.Step}} (from 1), {{.Version}} (pod-template-hash),
	// {{.Service}}, {{.Pods}} (a regular expression of the version's pod names), {{.Window}} (time since
	// the weight was confirmed, for example 90s, at most 5m) and, in a MetricTemplate, {{.Args.name}}.
	// With tolerance it is asked once per version.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query,omitempty"`
	// StableQuery is asked for stable instead of Query.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	StableQuery string `json:"stableQuery,omitempty"`
	// Counters are judged like the gateway's errors: by every single request.
	// +optional
	Counters *Counters `json:"counters,omitempty"`
	// Histogram is a selector of a histogram of seconds, native or classic (then of its
	// series ending in _bucket), with the fields of Query: http_request_duration_seconds_bucket{pod=~"{{.Pods}}"}.
	// It is judged like the gateway's latency.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Histogram string `json:"histogram,omitempty"`
	// Address of the server, for example http://prometheus.monitoring:9090. Default:
	// the one Headgate was installed with.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern="^https?://[^ ]+$"
	Address string `json:"address,omitempty"`

	Connection `json:",inline"`
}

// Counters are selectors of counters that only rise. Headgate reads their raw samples and adds up
// by how much each one rose; do not write rate() or increase(), which extrapolate.
type Counters struct {
	// Bad counts bad requests: http_requests_total{pod=~"{{.Pods}}",code=~"5.."}.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Bad string `json:"bad"`
	// Total counts all requests, the bad ones included.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Total string `json:"total"`
}

// HTTPSource asks a service that answers with JSON, once per version with tolerance.
//
// +kubebuilder:validation:XValidation:rule="!has(self.body) || (has(self.method) && self.method == 'POST')",message="body is only sent with method: POST: write that, or remove body"
type HTTPSource struct {
	// URL with the fields of PrometheusSource.Query, their values escaped.
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:Pattern="^https?://[^ ]+$"
	URL string `json:"url"`
	// Method is GET (default) or POST.
	// +optional
	// +kubebuilder:validation:Enum=GET;POST
	Method string `json:"method,omitempty"`
	// Body is sent with POST, with the fields of URL, their values escaped for JSON.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Body string `json:"body,omitempty"`
	// Value is a CEL expression of a number over body, the answer: body.data.errors / double(body.data.total).
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`

	Connection `json:",inline"`
}

// WebhookSource posts what is being released and reads whether it may go on. The answer is
// {"verdict": "Pass"}, {"verdict": "Fail", "message": "…"} or {"verdict": "Unknown"}; 2xx without a body
// is Pass. Every other answer is Unknown.
type WebhookSource struct {
	// URL of the service.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern="^https?://[^ ]+$"
	URL string `json:"url"`

	Connection `json:",inline"`
}

// Connection is how a server is reached. Secrets are those of the Canary's namespace. An address of a
// Canary never leads to Headgate's own machine or to the metadata service of a cloud, and a redirect
// is followed on the same host only.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.basicAuth) && has(self.bearerToken))",message="give basicAuth or bearerToken, not both"
type Connection struct {
	// Headers are sent with every request, for example X-Scope-OrgID for a tenant.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Headers []Header `json:"headers,omitempty"`
	// BasicAuth names a Secret with the keys username and password.
	// +optional
	BasicAuth *SecretReference `json:"basicAuth,omitempty"`
	// BearerToken is sent as Authorization: Bearer.
	// +optional
	BearerToken *SecretKeyReference `json:"bearerToken,omitempty"`
	// TLS says whom to trust and who we are, for addresses with https.
	// +optional
	TLS *ClientTLS `json:"tls,omitempty"`
	// Timeout of one request, from 100ms to 5m. Default 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('5m')",message="write a duration from 100ms to 5m, such as 10s"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// Header is one header of a request.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.valueFrom)",message="give exactly one of value and valueFrom (a key of a Secret)"
type Header struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
	// +optional
	ValueFrom *SecretKeyReference `json:"valueFrom,omitempty"`
}

// SecretReference names a Secret of the same namespace.
type SecretReference struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SecretKeyReference names one key of a Secret of the same namespace.
type SecretKeyReference struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// ClientTLS is one end of a TLS connection.
type ClientTLS struct {
	// CA is a PEM bundle of the authorities that are trusted. Default: those of the system.
	// +optional
	CA *SecretKeyReference `json:"ca,omitempty"`
	// ClientCertificate names a Secret of type kubernetes.io/tls that is shown to the server.
	// +optional
	ClientCertificate *SecretReference `json:"clientCertificate,omitempty"`
	// ServerName is what the server's certificate must carry, where that is not the host of the address.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServerName string `json:"serverName,omitempty"`
}

// JobSource runs a Job in the Canary's namespace for each measurement: it passes when the Job
// completes and fails when the Job fails. Whoever may write a Canary can run pods in its namespace with this.
type JobSource struct {
	// Spec of the Job, a batch/v1 JobSpec. In its containers the environment variables HEADGATE_CANARY,
	// HEADGATE_NAMESPACE, HEADGATE_VERSION, HEADGATE_RELEASE, HEADGATE_STEP, HEADGATE_WEIGHT and HEADGATE_SERVICE (of the
	// canary) are set. Where the spec does not say otherwise it gets activeDeadlineSeconds: 600, ttlSecondsAfterFinished: 3600,
	// backoffLimit: 0, restartPolicy: Never and a podFailurePolicy that does not count pods whose node was drained. A Job
	// that runs out of its activeDeadlineSeconds is Unknown, because it may never have had a node or an image.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Spec runtime.RawExtension `json:"spec"`
}

// TemplateReference names a MetricTemplate of the Canary's namespace.
type TemplateReference struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Args are the values of the template's arguments. They are put in as they are, without escaping, and may
	// contain fields such as {{.Pods}}.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Args []Argument `json:"args,omitempty"`
}

// Argument is a named value: {{.Args.name}} in a template.
type Argument struct {
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern="^[a-z][A-Za-z0-9]*$"
	Name string `json:"name"`
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// Tolerance is how much worse the canary may be: canary <= stable*(1+relative)+absolute.
//
// +kubebuilder:validation:XValidation:rule="has(self.relative) || has(self.absolute)",message="give relative (20%), absolute (0.5% for errors, 5ms for latency, a number for queries) or both"
type Tolerance struct {
	// Relative, in percent of stable's value: 20%.
	// +optional
	// +kubebuilder:validation:Pattern="^[0-9]+(\\.[0-9]+)?%$"
	Relative string `json:"relative,omitempty"`
	// Absolute: 0.5% (points) for ErrorRate, 5ms for Latency, a number for queries.
	// +optional
	Absolute *Amount `json:"absolute,omitempty"`
	// Better says which direction is better for a query: Lower (default) or Higher.
	// +optional
	// +kubebuilder:validation:Enum=Lower;Higher
	Better string `json:"better,omitempty"`
}

// Threshold is a closed range of allowed values.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="give min, max or both"
type Threshold struct {
	// Min is the smallest allowed value: 1% for ErrorRate, 300ms for Latency, a number for queries.
	// +optional
	Min *Amount `json:"min,omitempty"`
	// Max is the largest allowed value, in the units of Min.
	// +optional
	Max *Amount `json:"max,omitempty"`
}

// Amount is a number with an optional unit: 10, "0.5", "0.5%", "300ms", "1.5s".
// A number with a decimal point is written in quotes.
//
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="type(self) == int || self.matches('^-?[0-9]+([.][0-9]+)?(%|us|ms|s|m)?$')",message="write a number with an optional unit: 10, '0.5', 0.5%, 300ms, 1.5s"
type Amount intstr.IntOrString
