// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package measure is what the reconciler of Gateways says about itself to Prometheus: how
// long its passes take, and when the certificates end that it found.
package measure

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/graph"
)

// Passes are the metrics of a reconciler, for a Prometheus registry. Its methods may be called
// at the same time.
type Passes struct {
	now            func() time.Time
	eventToPublish *prometheus.HistogramVec

	mu sync.Mutex
	// first is when the first event came that no pass has looked at; zero for none.
	first time.Time
	// expiries are when the certificates of each Gateway end, by Secret.
	expiries map[types.NamespacedName]map[types.NamespacedName]expiry
}

// expiry is when a certificate ends, as it was read from cert.
type expiry struct {
	cert []byte
	at   time.Time
}

var expiryDesc = prometheus.NewDesc("headgate_gateway_certificate_expiry_timestamp_seconds",
	"When the certificate in a Secret that a Gateway's proxies show ends, in seconds since 1970.",
	[]string{"gateway_namespace", "gateway", "secret_namespace", "secret"}, nil)

// New makes metrics with nothing in them. Now is the clock.
func New(now func() time.Time) *Passes {
	return &Passes{
		now: now,
		eventToPublish: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "headgate_gateway_event_to_publish_seconds",
			Help:    "Time from the first watch event of a change until its configuration was published to the proxies.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15), // 1 ms to 16 s
		}, []string{"gateway_namespace", "gateway"}),
		expiries: map[types.NamespacedName]map[types.NamespacedName]expiry{},
	}
}

// Describe lists the metrics.
func (m *Passes) Describe(out chan<- *prometheus.Desc) {
	m.eventToPublish.Describe(out)
	out <- expiryDesc
}

// Collect sends them as they are now.
func (m *Passes) Collect(out chan<- prometheus.Metric) {
	m.eventToPublish.Collect(out)
	m.mu.Lock()
	defer m.mu.Unlock()
	for gw, secrets := range m.expiries {
		for secret, e := range secrets {
			out <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(e.at.Unix()),
				gw.Namespace, gw.Name, secret.Namespace, secret.Name)
		}
	}
}

// Noted is called when an event came that a pass has to look at.
func (m *Passes) Noted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first.IsZero() {
		m.first = m.now()
	}
}

// Take gives the time of the first event that the pass that begins looks at.
func (m *Passes) Take() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.first
	m.first = time.Time{}
	return first
}

// PutBack is Take undone: the pass came to nothing.
func (m *Passes) PutBack(first time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !first.IsZero() {
		m.first = first // the older one, if there is another by now
	}
}

// Published is called when a Gateway got a new configuration because of an event.
func (m *Passes) Published(gateway types.NamespacedName, first time.Time) {
	if first.IsZero() {
		return
	}
	m.eventToPublish.WithLabelValues(gateway.Namespace, gateway.Name).Observe(m.now().Sub(first).Seconds())
}

// Forget drops what is known about a Gateway that is gone.
func (m *Passes) Forget(gateway types.NamespacedName) {
	m.eventToPublish.DeleteLabelValues(gateway.Namespace, gateway.Name)
}

// Certificates renews the account of when certificates end.
func (m *Passes) Certificates(g *graph.Graph) {
	m.mu.Lock()
	defer m.mu.Unlock()
	expiries := map[types.NamespacedName]map[types.NamespacedName]expiry{}
	for _, gw := range g.Gateways {
		var shown []graph.Certificate
		if gw.ClientCertificate != nil {
			shown = append(shown, *gw.ClientCertificate)
		}
		for _, l := range gw.Listeners {
			shown = append(shown, l.Certificates...)
		}
		secrets := map[types.NamespacedName]expiry{}
		for _, c := range shown {
			e := m.expiries[gw.Key][c.Secret]
			if !bytes.Equal(e.cert, c.Cert) { // reading one takes as long as comparing thousands
				e = expiry{cert: c.Cert, at: endOf(c.Cert)}
			}
			if !e.at.IsZero() {
				secrets[c.Secret] = e
			}
		}
		if len(secrets) > 0 {
			expiries[gw.Key] = secrets
		}
	}
	m.expiries = expiries
}

// endOf is when the first certificate of a chain of PEM ends, zero when there is none.
func endOf(chain []byte) time.Time {
	block, _ := pem.Decode(chain)
	if block == nil {
		return time.Time{}
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}
