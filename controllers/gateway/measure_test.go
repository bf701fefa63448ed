// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
)

// measured gives a metric of a Gateway of the test's namespace: its value, or how often it was
// observed; 0 when it is not there.
func (e *env) measured(name, gateway string) float64 {
	e.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e.passes)
	families, err := registry.Gather()
	if err != nil {
		e.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == name && labels["gateway_namespace"] == e.ns && labels["gateway"] == gateway {
				return m.Gauge.GetValue() + float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return 0
}
