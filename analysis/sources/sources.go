// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sources sends each query of an analysis to the package that can answer it, and
// reads the Secrets that the answers need.
package sources

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"headgate.dev/headgate/analysis"
	"headgate.dev/headgate/analysis/connection"
	"headgate.dev/headgate/analysis/httpjson"
	"headgate.dev/headgate/analysis/job"
	"headgate.dev/headgate/analysis/prometheus"
	"headgate.dev/headgate/analysis/webhook"
	"headgate.dev/headgate/api/v1beta1"
)

// Options are what the sources work with.
type Options struct {
	// PrometheusAddress is asked by metrics that name none. May be empty.
	PrometheusAddress string
	// Client reads Secrets and Canaries and runs Jobs, without a cache: a watch of all
	// Secrets of a cluster would keep them all in memory. Required.
	Client client.Client
	// Now is the clock. Required.
	Now func() time.Time
	// Local lets the addresses that Canaries name lead to this machine: for tests.
	Local bool
}

// Sources answer queries. Their methods may be called from several goroutines.
type Sources struct {
	prometheus *prometheus.Source
	http       *httpjson.Source
	webhook    *webhook.Source
	job        *job.Source
}

// New makes the sources. The error is a sentence about the address.
func New(o Options) (*Sources, error) {
	secrets := &secrets{reader: o.Client, now: o.Now, read: map[types.NamespacedName]secret{}}
	pool := connection.New(connection.Options{Secrets: secrets.data, Local: o.Local})
	p, err := prometheus.New(prometheus.Options{Address: o.PrometheusAddress, Connections: pool, Now: o.Now})
	if err != nil {
		return nil, err
	}
	return &Sources{
		prometheus: p,
		http:       &httpjson.Source{Connections: pool},
		webhook:    &webhook.Source{Connections: pool},
		job:        job.New(o.Client),
	}, nil
}

// Ask answers one query. What goes wrong is in the answer's Problem, which is a sentence for the user.
func (s *Sources) Ask(ctx context.Context, q analysis.Query) analysis.Measurement {
	m := q.Metric
	switch {
	case m.HTTP != nil:
		return s.http.Ask(ctx, q)
	case m.Webhook != nil:
		return s.webhook.Ask(ctx, q)
	case m.Job != nil:
		return s.job.Ask(ctx, q)
	case m.Prometheus != nil:
		return s.prometheus.Ask(ctx, q)
	default:
		return analysis.Measurement{Metric: m.Name, Kind: q.Kind, From: q.From, To: q.To, Asked: q.Asked, Problem: &analysis.Problem{
			Reason: v1beta1.ReasonInvalidSpec, Message: "the metric names nothing that can be asked: write prometheus, http, job or webhook",
		}}
	}
}

// +kubebuilder:rbac:groups="",resources=secrets,verbs=get

// keepSecret is how long a Secret that was read is used without looking again: a rotation takes
// effect within this time, and a metric every second does not read it every second.
const keepSecret = 10 * time.Second

// secrets reads Secrets, and keeps what it has read for a moment.
type secrets struct {
	reader client.Reader
	now    func() time.Time

	mu   sync.Mutex
	read map[types.NamespacedName]secret
}

type secret struct {
	data map[string][]byte
	at   time.Time
}

func (s *secrets) data(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	key, now := types.NamespacedName{Namespace: namespace, Name: name}, s.now()
	s.mu.Lock()
	known, ok := s.read[key]
	// What is old goes with the next one that is asked for.
	maps.DeleteFunc(s.read, func(_ types.NamespacedName, v secret) bool { return now.Sub(v.at) >= keepSecret })
	s.mu.Unlock()
	if ok && now.Sub(known.at) < keepSecret {
		return known.data, nil
	}
	object := &corev1.Secret{}
	if err := s.reader.Get(ctx, key, object); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read[key] = secret{data: object.Data, at: now}
	return object.Data, nil
}
