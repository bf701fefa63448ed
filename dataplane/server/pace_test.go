// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"
)

func TestThePaceOfProxies(t *testing.T) {
	edge := types.NamespacedName{Namespace: "infra", Name: "edge"}
	begin := time.Unix(1_000_000, 0)
	for _, row := range []struct {
		name    string
		happens func(p *pace)
		count   uint64
		sum     float64
	}{
		{"one publication, answered after two seconds", func(p *pace) {
			p.published(edge, 1, begin)
			p.acknowledged.reached(edge, 1, begin.Add(2*time.Second))
		}, 1, 2},
		{"an answer counts once", func(p *pace) {
			p.published(edge, 1, begin)
			p.acknowledged.reached(edge, 1, begin.Add(2*time.Second))
			p.acknowledged.reached(edge, 1, begin.Add(9*time.Second))
		}, 1, 2},
		{"one answer to two publications", func(p *pace) {
			p.published(edge, 1, begin)
			p.published(edge, 3, begin.Add(time.Second))
			p.acknowledged.reached(edge, 3, begin.Add(2*time.Second))
		}, 2, 3},
		{"an answer to the first of two", func(p *pace) {
			p.published(edge, 1, begin)
			p.published(edge, 2, begin)
			p.acknowledged.reached(edge, 1, begin.Add(2*time.Second))
		}, 1, 2},
		{"nobody is there to answer for an hour", func(p *pace) {
			p.published(edge, 1, begin)
			p.deserted(edge)
			p.acknowledged.reached(edge, 1, begin.Add(time.Hour))
		}, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPace()
			row.happens(p)
			var m dto.Metric
			if err := p.acknowledged.seconds.WithLabelValues("infra", "edge").(prometheus.Metric).Write(&m); err != nil {
				t.Fatal(err)
			}
			if h := m.Histogram; h.GetSampleCount() != row.count || h.GetSampleSum() != row.sum {
				t.Errorf("counted %d with the sum %v, want %d with %v", h.GetSampleCount(), h.GetSampleSum(), row.count, row.sum)
			}
		})
	}
}
