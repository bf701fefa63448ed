// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import "headgate.dev/headgate/analysis/sequential"

// A release whose metrics are edited keeps its promise: the chance that it is ever rolled back while it is
// tolerable stays at most Alpha. Think of each metric's evidence times its share as a stake. All stakes together
// begin at no more than 1, grow on average by nothing, and a rollback takes one of them to 1/Alpha. So an
// edit may lower stakes, and must not raise one:
//
//	another question      the evidence begins anew, with what is left of the old one and at most 1
//	a larger share        the evidence is scaled down by as much
//	a smaller share       the evidence stays
//	one that is added     its share is a stake of its own, which comes on top
//
// What others have gathered stays theirs.

// Adopt goes over to a config whose metrics may be others. Evidence goes on where it is of the
// same question under the same name; what does not fit, as when it was not stored by Headgate, begins anew.
func (t *Trial) Adopt(c *Config) {
	if len(t.Metrics) == 0 {
		return
	}
	old := t.Metrics
	t.Metrics = make([]Evidence, 0, len(c.Metrics))
	for i := range c.Metrics {
		m := &c.Metrics[i]
		was := named(old, m.Name)
		if was != nil && was.answers(m) {
			was.scale(m.Share)
			was.Of = *m
			t.Metrics = append(t.Metrics, *was)
			continue
		}
		if m.Kind == Errors && m.Limit == 0 {
			t.Placebo = sequential.Placebo{} // it asks the pods of stable the same question
		}
		e := m.evidence(t.Before)
		e.beginWith(was, m.Share)
		t.Metrics = append(t.Metrics, e)
	}
}

// Anew is the start of a trial of other counts that takes the place of this one, left what is left of evidence that
// is not in it. How failures come together is still known.
func (t *Trial) Anew(c *Config, left float64) Trial {
	next := Trial{Clumping: t.Clumping}
	for i := range c.Metrics {
		m := &c.Metrics[i]
		e := m.evidence(nil)
		e.beginWith(named(t.Metrics, m.Name), m.Share)
		e.each(func(x *sequential.Mixture) { x.Scale(min(left, 1)) })
		next.Metrics = append(next.Metrics, e)
	}
	return next
}

func named(all []Evidence, name string) *Evidence {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// evidence is the start of a metric's.
func (m *Metric) evidence(before []sequential.Bucket) Evidence {
	e := Evidence{Name: m.Name, Of: *m}
	switch m.Kind {
	case Errors:
		e.Worse, e.Good, e.Difference = &sequential.Regression{}, &sequential.Acceptance{}, &sequential.Excess{}
	case Latency:
		e.Edges = m.edges(before)
	case Answers:
		e.Missing = &sequential.Completions{}
	}
	return e
}

// answers tells whether this is evidence of a metric, whatever its share, and whole.
func (e *Evidence) answers(m *Metric) bool {
	of := e.Of
	of.Share = m.Share
	if of != *m {
		return false
	}
	switch m.Kind {
	case Errors:
		return e.Worse != nil && e.Good != nil && e.Difference != nil
	case Answers:
		return e.Missing != nil
	default:
		return e.Worse == nil && e.Missing == nil
	}
}

// Left is what evidence in other numbers begins with that takes the place of this.
func (t *Trial) Left() float64 {
	left := 1.0
	for i := range t.Metrics {
		left *= t.Metrics[i].left()
	}
	return left
}

// each visits all that speaks against the canary.
func (e *Evidence) each(visit func(*sequential.Mixture)) {
	if e.Worse != nil {
		visit(&e.Worse.Mixture)
	}
	if e.Missing != nil {
		visit(&e.Missing.Mixture)
	}
	for i := range e.Edges {
		visit(&e.Edges[i].Worse.Mixture)
	}
	visit(&e.Learning)
}

// left is what another question begins with. Edges own equal parts of the metric's share.
func (e *Evidence) left() float64 {
	switch {
	case e.Worse != nil:
		return e.Worse.Left()
	case e.Missing != nil:
		return e.Missing.Left()
	case len(e.Edges) == 0:
		return e.Learning.Left()
	}
	sum := 0.0
	for i := range e.Edges {
		sum += e.Edges[i].Worse.Evidence()
	}
	return min(sum/float64(len(e.Edges)), 1)
}

// scale keeps the stake where the share becomes a larger one.
func (e *Evidence) scale(share float64) {
	if e.Of.Share > 0 && share > e.Of.Share {
		e.each(func(x *sequential.Mixture) { x.Scale(e.Of.Share / share) })
	}
}

// beginWith lowers a start to what is left of the evidence whose place it takes; nil is for none.
func (e *Evidence) beginWith(was *Evidence, share float64) {
	if was == nil {
		return
	}
	left := was.left()
	if was.Of.Share > 0 && share > was.Of.Share {
		left *= was.Of.Share / share
	}
	e.each(func(x *sequential.Mixture) { x.Scale(left) })
}
