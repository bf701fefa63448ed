// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

var gatewayLabels = []string{"gateway_namespace", "gateway"}

// What a scrape says about the proxies of each Gateway.
var (
	connectedDesc = prometheus.NewDesc("headgate_gateway_proxies_connected", "Proxies with a configuration stream.", gatewayLabels, nil)
	publishedDesc = prometheus.NewDesc("headgate_gateway_published_version", "Newest version of the configuration.", gatewayLabels, nil)
	ackedDesc     = prometheus.NewDesc("headgate_gateway_acknowledged_version", "Newest version that every connected proxy has acknowledged completely; 0 when none is connected.", gatewayLabels, nil)
	answeredDesc  = prometheus.NewDesc("headgate_gateway_answered_version", "Newest version of which every connected proxy has acknowledged all that no proxy refused; 0 when none is connected.", gatewayLabels, nil)
	divertedDesc  = prometheus.NewDesc("headgate_gateway_diversions", "Services that the proxies send nothing to although the configuration says so.", gatewayLabels, nil)
	refusedDesc   = prometheus.NewDesc("headgate_gateway_refusals", "Resources that a proxy refuses and keeps the former version of.", gatewayLabels, nil)
)

// collector reads the State of every gateway when it is asked.
type collector struct{ server *Server }

// NewCollector gives the metrics of a server for a Prometheus registry.
func NewCollector(s *Server) prometheus.Collector { return collector{s} }

// Describe lists the metrics.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedDesc, publishedDesc, ackedDesc, answeredDesc, refusedDesc, divertedDesc} {
		out <- d
	}
	c.server.pace.acknowledged.seconds.Describe(out)
	c.server.pace.diverted.seconds.Describe(out)
	c.server.pace.refused.Describe(out)
}

// Collect sends them as they are now.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.server.mu.Lock()
	gateways := slices.Collect(maps.Keys(c.server.targets))
	c.server.mu.Unlock()
	for _, key := range gateways {
		state := c.server.State(key)
		for _, m := range []struct {
			desc  *prometheus.Desc
			value float64
		}{
			{connectedDesc, float64(state.Connected)},
			{publishedDesc, float64(state.Published)},
			{ackedDesc, float64(state.Acked)},
			{answeredDesc, float64(state.Answered)},
			{refusedDesc, float64(len(state.Refused))},
			{divertedDesc, float64(c.server.diversionsOf(key))},
		} {
			out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value, key.Namespace, key.Name)
		}
	}
	c.server.pace.acknowledged.seconds.Collect(out)
	c.server.pace.diverted.seconds.Collect(out)
	c.server.pace.refused.Collect(out)
}
