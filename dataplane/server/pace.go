// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// pace measures how long the proxies take to acknowledge what is published, and counts
// what they refuse.
type pace struct {
	acknowledged *prometheus.HistogramVec
	refused      *prometheus.CounterVec

	mu sync.Mutex
	// waiting are the publications that are not acknowledged yet, oldest first.
	waiting map[types.NamespacedName][]publication
}

type publication struct {
	version uint64
	at      time.Time
}

// waitingLimit bounds how many publications of one gateway are remembered. A proxy
// that hangs would keep all that follow.
const waitingLimit = 1024

func newPace() *pace {
	return &pace{
		acknowledged: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headgate_gateway_publish_to_acknowledged_seconds",
			Help: "Time from the publication of a configuration until every connected proxy had answered it.",
			// 1 ms to 16 s.
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, gatewayLabels),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_gateway_nacks_total", Help: "Responses that a proxy refused.",
		}, gatewayLabels),
		waiting: map[types.NamespacedName][]publication{},
	}
}

// published begins to wait for the proxies of a gateway.
func (p *pace) published(gateway types.NamespacedName, version uint64, now time.Time) {
	// So that the rate of a counter's first increase is not lost.
	p.refused.WithLabelValues(gateway.Namespace, gateway.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting[gateway]) < waitingLimit {
		p.waiting[gateway] = append(p.waiting[gateway], publication{version, now})
	}
}

// answered is called when every connected proxy has answered up to a version.
func (p *pace) answered(gateway types.NamespacedName, version uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.waiting[gateway]
	for len(waiting) > 0 && waiting[0].version <= version {
		p.acknowledged.WithLabelValues(gateway.Namespace, gateway.Name).Observe(now.Sub(waiting[0].at).Seconds())
		waiting = waiting[1:]
	}
	p.waiting[gateway] = waiting
}

// deserted is called when no proxy of a gateway is connected: how long nobody is there is
// not how long proxies take.
func (p *pace) deserted(gateway types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, gateway)
}

func (p *pace) forget(gateway types.NamespacedName) {
	p.deserted(gateway)
	p.acknowledged.DeleteLabelValues(gateway.Namespace, gateway.Name)
	p.refused.DeleteLabelValues(gateway.Namespace, gateway.Name)
}
