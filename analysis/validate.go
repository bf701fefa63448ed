// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"net/url"
	"time"

	"headgate.dev/headgate/api/v1beta1"
)

// Validate says what the schema of the API cannot: units that do not fit the
// metric, templates that cannot be rendered, ranges nothing lies in. The spec may
// be nil. The error is a sentence that says what to write instead.
func Validate(spec *v1beta1.Analysis) error {
	if spec == nil {
		return nil
	}
	if spec.Interval != nil && spec.Interval.Duration < time.Second {
		return fmt.Errorf("analysis.interval %s is shorter than a second: write interval: 10s", spec.Interval.Duration)
	}
	for i := range spec.Metrics {
		if err := ValidateMetric(spec.Metrics[i]); err != nil {
			return fmt.Errorf("metric %q: %w", spec.Metrics[i].Name, err)
		}
	}
	return nil
}

// ValidateMetric is Validate for one metric.
func ValidateMetric(m v1beta1.Metric) error {
	if (m.Gateway == "") == (m.Prometheus == nil) {
		return fmt.Errorf("give exactly one of gateway (ErrorRate or Latency) and prometheus (a query)")
	}
	switch m.Gateway {
	case "", v1beta1.GatewayErrorRate, v1beta1.GatewayLatency:
	default:
		return fmt.Errorf("gateway: %s does not exist: write ErrorRate or Latency", m.Gateway)
	}
	if _, err := limitsOf(withDefaults(m)); err != nil {
		return err
	}
	if m.Prometheus == nil {
		return nil
	}
	return validateQuery(m)
}

func validateQuery(m v1beta1.Metric) error {
	q := m.Prometheus
	example := Fields{Namespace: "namespace", Canary: "canary", Service: "service", Pods: "pods", Window: "60s"}
	if _, err := Render(q.Query, example); err != nil {
		return fmt.Errorf("prometheus.query: %w", err)
	}
	if q.StableQuery != "" {
		if m.Tolerance == nil {
			return fmt.Errorf("prometheus.stableQuery is only asked with tolerance: remove it, or compare with stable")
		}
		if _, err := Render(q.StableQuery, example); err != nil {
			return fmt.Errorf("prometheus.stableQuery: %w", err)
		}
	}
	if q.Address == "" {
		return nil
	}
	u, err := url.Parse(q.Address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("prometheus.address %q is not an address: write http://prometheus.monitoring:9090", q.Address)
	}
	return nil
}
