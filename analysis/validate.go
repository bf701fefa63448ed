// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"headgate.dev/headgate/analysis/expression"
	"headgate.dev/headgate/api/v1beta1"
)

// Validate says what the schema of the API cannot: units that do not fit the
// metric, texts that cannot be rendered, ranges nothing lies in. The spec may
// be nil. The error is a sentence that says what to write instead. A metric with a template
// is checked by [Resolve], which knows the template.
func Validate(spec *v1beta1.Analysis) error {
	if spec == nil {
		return nil
	}
	if spec.Interval != nil && spec.Interval.Duration < time.Second {
		return fmt.Errorf("analysis.interval %s is shorter than a second: write interval: 10s", spec.Interval.Duration)
	}
	if _, err := rollbackRate(spec.FalseRollbackRate); err != nil {
		return err
	}
	for i := range spec.Metrics {
		if spec.Metrics[i].Template != nil && sources(spec.Metrics[i]) == 1 {
			continue
		}
		if err := ValidateMetric(spec.Metrics[i]); err != nil {
			return fmt.Errorf("metric %q: %w", spec.Metrics[i].Name, err)
		}
	}
	return nil
}

// ValidateMetric is Validate for one metric.
func ValidateMetric(m v1beta1.Metric) error {
	if sources(m) != 1 {
		return fmt.Errorf("give exactly one of gateway (ErrorRate, Latency or Answers), prometheus, http, job, webhook and template")
	}
	if m.Gateway != "" {
		if err := validateGateway(m); err != nil {
			return err
		}
	}
	if err := validateLimits(m); err != nil {
		return err
	}
	switch {
	case m.Prometheus != nil:
		return validatePrometheus(m)
	case m.HTTP != nil:
		return validateHTTP(m.HTTP)
	case m.Webhook != nil:
		return validateWebhook(m.Webhook)
	case m.Job != nil:
		return validateJob(m.Job)
	}
	return nil
}

func sources(m v1beta1.Metric) int {
	n := 0
	for _, has := range []bool{m.Gateway != "", m.Prometheus != nil, m.HTTP != nil, m.Job != nil, m.Webhook != nil, m.Template != nil} {
		if has {
			n++
		}
	}
	return n
}

// counted says whether a metric is judged by every single request.
func counted(m v1beta1.Metric) bool {
	return m.Gateway != "" || (m.Prometheus != nil && (m.Prometheus.Counters != nil || m.Prometheus.Histogram != ""))
}

// validateLimits checks what the metric is compared with.
func validateLimits(m v1beta1.Metric) error {
	if m.Job != nil || m.Webhook != nil {
		if m.Tolerance != nil || m.Threshold != nil || m.GoodEnough != nil {
			return fmt.Errorf("a job and a webhook say pass or fail by themselves: remove tolerance, threshold and goodEnough")
		}
		return nil
	}
	switch {
	case m.Tolerance != nil && m.Threshold != nil:
		return fmt.Errorf("give tolerance (compare with stable) or threshold (compare with a number), not both")
	case m.GoodEnough != nil && !counted(m):
		return fmt.Errorf("goodEnough belongs to what is counted by requests (gateway, counters, histogram): one number at a time passes when it is in range; remove it")
	case m.Misses != nil && counted(m):
		return fmt.Errorf("what is counted by requests is judged by its evidence, not by misses in a row: remove misses")
	case m.Gateway == v1beta1.GatewayAnswers:
		return validateAnswers(m)
	}
	if _, err := limitsOf(withDefaults(m)); err != nil {
		return err
	}
	return validateEnough(m)
}

// validateAnswers allows what the test for missing answers has: a share.
func validateAnswers(m v1beta1.Metric) error {
	const write = "Answers compares the canary's share of the answers with its share of the requests: write tolerance: {relative: 20%}"
	t := m.Tolerance
	switch {
	case m.Threshold != nil:
		return fmt.Errorf("threshold does not fit: %s", write)
	case m.GoodEnough != nil:
		return fmt.Errorf("goodEnough does not fit: %s", write)
	case t != nil && t.Absolute != nil:
		return fmt.Errorf("tolerance.absolute does not fit: %s", write)
	case t != nil && t.Better == "Higher":
		return fmt.Errorf("better: Higher does not fit: %s", write)
	case t != nil && !(shareOf(t.Relative) > 0 && shareOf(t.Relative) < 1):
		return fmt.Errorf("tolerance.relative %q is not between 0%% and 100%%: %s", t.Relative, write)
	}
	return nil
}

// shareOf is a percentage as a share; -1 where it is none.
func shareOf(percent string) float64 {
	number, ok := strings.CutSuffix(percent, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return -1
	}
	return v / 100
}

// validateEnough refuses a step that could not pass with what is tolerated at any rate of
// stable: a version between the two is neither accepted nor rolled back.
func validateEnough(m v1beta1.Metric) error {
	g, t := m.GoodEnough, withDefaults(m).Tolerance
	if g == nil || t == nil || KindOf(m) != KindCounts {
		return nil
	}
	enough, tolerated := [2]float64{}, [2]float64{}
	for i, from := range []*v1beta1.Tolerance{g, t} {
		to := [...]*[2]float64{&enough, &tolerated}[i]
		if from.Relative != "" {
			to[0] = shareOf(from.Relative)
		}
		if from.Absolute != nil {
			v, _, err := from.Absolute.Parse()
			if err != nil {
				return fmt.Errorf("goodEnough.absolute: %w", err)
			}
			to[1] = v / 100
		}
	}
	if enough != tolerated && enough[0] <= tolerated[0] && enough[1] <= tolerated[1] {
		return fmt.Errorf("goodEnough is stricter than tolerance: a version between the two would neither be accepted nor rolled back; write goodEnough of at least relative: %s%%, absolute: %s%%",
			trimmedPercent(tolerated[0]), trimmedPercent(tolerated[1]))
	}
	return nil
}

func trimmedPercent(share float64) string { return strconv.FormatFloat(100*share, 'g', 6, 64) }

func validateGateway(m v1beta1.Metric) error {
	switch m.Gateway {
	case v1beta1.GatewayErrorRate, v1beta1.GatewayLatency, v1beta1.GatewayAnswers:
		return nil
	default:
		return fmt.Errorf("gateway: %s does not exist: write ErrorRate, Latency or Answers", m.Gateway)
	}
}

// example are fields for a trial of a text.
var example = Fields{
	Namespace: "namespace", Canary: "canary", Release: "1", Step: "1", Version: "version", Service: "service", Pods: "pods", Window: "60s",
}

func validatePrometheus(m v1beta1.Metric) error {
	p := m.Prometheus
	if p.StableQuery != "" && m.Tolerance == nil {
		return fmt.Errorf("prometheus.stableQuery is only asked with tolerance: remove it, or compare with stable")
	}
	var err error
	switch {
	case p.Counters != nil:
		if err = validateSelector("prometheus.counters.bad", p.Counters.Bad); err == nil {
			err = validateSelector("prometheus.counters.total", p.Counters.Total)
		}
	case p.Histogram != "":
		err = validateHistogram(p.Histogram)
	default:
		if err = validateQuery("prometheus.query", p.Query); err == nil && p.StableQuery != "" {
			err = validateQuery("prometheus.stableQuery", p.StableQuery)
		}
	}
	if err != nil {
		return err
	}
	if p.Address != "" {
		if err := validateURL("prometheus.address", p.Address, "http://prometheus.monitoring:9090"); err != nil {
			return err
		}
	}
	return validateConnection("prometheus", p.Connection, p.Address)
}

func validateQuery(field, query string) error {
	text, err := Render(query, example, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", field, err)
	case strings.TrimSpace(text) == "":
		return fmt.Errorf("%s is empty: write PromQL that gives one number", field)
	}
	return nil
}

func validateSelector(field, selector string) error {
	text, err := Render(selector, example, nil)
	if err == nil {
		_, err = ParseSelector(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

func validateHistogram(selector string) error {
	const field = "prometheus.histogram"
	if err := validateSelector(field, selector); err != nil {
		return err
	}
	text, err := Render(selector, example, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	parsed, err := ParseSelector(text)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	base := strings.TrimSuffix(parsed.Name, "_bucket")
	for _, end := range []string{"_sum", "_count"} {
		if strings.HasSuffix(base, end) {
			return fmt.Errorf("%s: %s is not the histogram: write %s_bucket, or %s where it is native",
				field, base, strings.TrimSuffix(base, end), strings.TrimSuffix(base, end))
		}
	}
	for _, unit := range []string{"_milliseconds", "_ms", "_microseconds", "_us"} {
		if strings.HasSuffix(base, unit) {
			return fmt.Errorf("%s: %s is not in seconds, and Headgate cannot scale its buckets: use a histogram of seconds, or query with histogram_quantile()", field, base)
		}
	}
	return nil
}

func validateHTTP(h *v1beta1.HTTPSource) error {
	if err := validateURL("http.url", h.URL, "http://orders.shop:8080/summary?service={{.Service}}"); err != nil {
		return err
	}
	if h.Body != "" {
		if h.Method != "POST" {
			return fmt.Errorf("http.body is only sent with method: POST: write that, or remove it")
		}
		if _, err := Render(h.Body, example, AsJSON); err != nil {
			return fmt.Errorf("http.body: %w", err)
		}
	}
	if _, err := expression.Compile(h.Value); err != nil {
		return fmt.Errorf("http.value: %w", err)
	}
	return validateConnection("http", h.Connection, h.URL)
}

func validateWebhook(w *v1beta1.WebhookSource) error {
	if err := validateURL("webhook.url", w.URL, "https://gate.shop:8443/release"); err != nil {
		return err
	}
	return validateConnection("webhook", w.Connection, w.URL)
}

// validateURL checks an address after its fields were filled in.
func validateURL(field, text, write string) error {
	rendered, err := Render(text, example, AsURL)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	u, err := url.Parse(rendered)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return fmt.Errorf("%s %q is not an address: write %s", field, text, write)
	case u.User != nil:
		return fmt.Errorf("%s has a name or password in it, which everybody can read who may read the Canary: use basicAuth with a Secret", field)
	case u.Fragment != "":
		return fmt.Errorf("%s has a part behind #, which no server sees: remove it", field)
	}
	return nil
}

// validateConnection checks what would be sent. An empty address is the one that
// Headgate was installed with, of which nothing is known here.
func validateConnection(source string, c v1beta1.Connection, address string) error {
	seen := map[string]bool{}
	for _, h := range c.Headers {
		name := strings.ToLower(h.Name)
		switch {
		case seen[name]:
			return fmt.Errorf("%s.headers has %s twice: give it once", source, h.Name)
		case name == "authorization" && (c.BasicAuth != nil || c.BearerToken != nil):
			return fmt.Errorf("%s.headers has Authorization beside basicAuth or bearerToken: give one of them", source)
		case name == "authorization" && h.ValueFrom == nil:
			return fmt.Errorf("%s.headers has Authorization with its value for everybody to read: use basicAuth, bearerToken or valueFrom", source)
		case name == "host", name == "content-length", name == "transfer-encoding", name == "connection":
			return fmt.Errorf("%s.headers has %s, which is made from the address and the body: remove it", source, h.Name)
		case strings.ContainsAny(h.Value, "\r\n\x00"):
			return fmt.Errorf("%s.headers: the value of %s has a line break: write it in one line", source, h.Name)
		}
		seen[name] = true
	}
	if c.TLS != nil && strings.HasPrefix(strings.ToLower(address), "http://") {
		return fmt.Errorf("%s.tls has no use with an address that begins with http://: write https://, or remove tls", source)
	}
	return nil
}
