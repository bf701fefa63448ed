// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// pace measures how long the proxies take to acknowledge what is published and what is
// diverted, and counts what they refuse.
type pace struct {
	acknowledged, diverted *waits
	refused                *prometheus.CounterVec
}

func newPace() *pace {
	return &pace{
		acknowledged: newWaits("headgate_gateway_publish_to_acknowledged_seconds",
			"Time from the publication of a configuration until every connected proxy had answered it.",
			prometheus.ExponentialBuckets(0.001, 2, 15)), // 1 ms to 16 s
		diverted: newWaits("headgate_gateway_divert_seconds",
			"Time from the decision to divert a Service, or to end that, until every connected proxy had acknowledged the weights.",
			prometheus.ExponentialBuckets(0.0005, 2, 15)), // 0.5 ms to 8 s
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_gateway_nacks_total", Help: "Responses that a proxy refused.",
		}, gatewayLabels),
	}
}

// published begins to wait for the proxies of a gateway.
func (p *pace) published(gateway types.NamespacedName, version uint64, now time.Time) {
	// So that the rate of a counter's first increase is not lost.
	p.refused.WithLabelValues(gateway.Namespace, gateway.Name)
	p.diverted.seconds.WithLabelValues(gateway.Namespace, gateway.Name)
	p.acknowledged.begin(gateway, version, now)
}

// deserted is called when no proxy of a gateway is connected: how long nobody is there is
// not how long proxies take.
func (p *pace) deserted(gateway types.NamespacedName) {
	p.acknowledged.desert(gateway)
	p.diverted.desert(gateway)
}

func (p *pace) forget(gateway types.NamespacedName) {
	p.deserted(gateway)
	for _, v := range []*prometheus.MetricVec{p.acknowledged.seconds.MetricVec, p.diverted.seconds.MetricVec, p.refused.MetricVec} {
		v.DeleteLabelValues(gateway.Namespace, gateway.Name)
	}
}

// waits measures how long it takes until every connected proxy of a gateway has come to
// a number: a version, or a generation of the diversions.
type waits struct {
	seconds *prometheus.HistogramVec

	mu sync.Mutex
	// waiting are the numbers that are not reached yet, lowest first.
	waiting map[types.NamespacedName][]wait
}

type wait struct {
	number uint64
	since  time.Time
}

// waitingLimit bounds how many numbers of one gateway are remembered. A proxy
// that hangs would keep all that follow.
const waitingLimit = 1024

func newWaits(name, help string, buckets []float64) *waits {
	return &waits{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, gatewayLabels),
		waiting: map[types.NamespacedName][]wait{},
	}
}

func (w *waits) begin(gateway types.NamespacedName, number uint64, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting[gateway]) < waitingLimit {
		w.waiting[gateway] = append(w.waiting[gateway], wait{number, since})
	}
}

// reached is called when every connected proxy has come to a number.
func (w *waits) reached(gateway types.NamespacedName, number uint64, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting := w.waiting[gateway]
	for len(waiting) > 0 && waiting[0].number <= number {
		w.seconds.WithLabelValues(gateway.Namespace, gateway.Name).Observe(now.Sub(waiting[0].since).Seconds())
		waiting = waiting[1:]
	}
	w.waiting[gateway] = waiting
}

func (w *waits) desert(gateway types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, gateway)
}
