// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"headgate.dev/headgate/analysis/trial"
	"headgate.dev/headgate/api/v1beta1"
)

// Keeping is the plan with those metrics as they were in an earlier one whose template cannot be read now: what
// they have is kept, and so are the shares of the others. Problems still say why they are not measured.
func (p Plan) Keeping(was Plan) Plan {
	metrics := make([]v1beta1.Metric, len(p.Metrics))
	for i, m := range p.Metrics {
		if old, ok := was.metric(m.Name); ok && unresolved(m) {
			m = old
		}
		metrics[i] = m
	}
	if p.Metrics != nil {
		p.Metrics = metrics
	}
	return p
}

// unresolved tells whether what a metric is stands in a template that could not be read or used.
func unresolved(m v1beta1.Metric) bool { return m.Template != nil }

// Adopt goes over to a plan of the same release whose metrics may be others, or that may be of before a
// restart. A metric goes on where its name and its meaning are the same: a source, a query, a tolerance, a limit.
// How often it is measured, how much of the evidence it owns, and whether it only observes may change. Every other
// one begins anew, on what is measured after now, and with at most what is left of its evidence (see
// package trial). One whose template cannot be read stays as it is.
func (e *Evidence) Adopt(p Plan, now time.Time) {
	c := p.gatewayTrial()
	e.Gateway.Adopt(&c)
	series := map[string]*Series{}
	for _, m := range p.Metrics {
		switch old := e.Series[m.Name]; {
		case m.Gateway != "":
		case unresolved(m):
			if old != nil {
				series[m.Name] = old
			}
		case old == nil:
			series[m.Name] = &Series{Of: fingerprint(m), Share: p.share(m), From: now}
		default:
			series[m.Name] = old.adopt(p, m, now)
		}
	}
	e.Series = series
}

func (s *Series) adopt(p Plan, m v1beta1.Metric, now time.Time) *Series {
	share, factor := p.share(m), 1.0
	if s.Share > 0 && share > s.Share {
		factor = s.Share / share
	}
	c := trial.Config{}
	if k := KindOf(m); k == KindCounts || k == KindHistogram {
		c = p.trialOf(m)
	}
	if s.Of == fingerprint(m) {
		s.Share = share
		s.Trial.Adopt(&c)
		s.Sign.Scale(factor)
		return s
	}
	next := &Series{Of: fingerprint(m), Share: share, From: now, Trial: s.Trial.Anew(&c, s.Sign.Left())}
	next.Sign.Scale(s.Sign.Left() * s.Trial.Left() * factor)
	return next
}

// fingerprint is the same for metrics that ask the same.
func fingerprint(m v1beta1.Metric) string {
	m.Name, m.Interval, m.InitialDelay, m.Weight, m.Misses, m.Observe = "", nil, nil, nil, nil, false
	data, err := json.Marshal(m)
	if err != nil {
		return "" // no API server gives such a metric
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}
