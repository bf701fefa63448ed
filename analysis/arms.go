// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

// arms is what both versions did in one window.
type arms struct {
	stable, canary Sample
	measurements   int
	seconds        float64
}

// recentRequests is how many canary requests "the last interval" holds at least,
// where there are that many.
const recentRequests = 10

// gather adds the measurements up to windows: from the newest alone to all of
// them. last is the index of the one that counts as the last interval. Where the
// canary has all the traffic, stable is what it was before.
func gather(p Plan, l limits, s seen) (ends []arms, last int) {
	beside := l.compared && p.Subject.Weight >= 100
	found := false
	for i := len(s.good) - 1; i >= 0; i-- {
		m := s.good[i]
		a := arms{stable: m.Stable, canary: m.Canary}
		if k := len(ends); k > 0 {
			a.stable, a.canary = ends[k-1].stable.Plus(m.Stable), ends[k-1].canary.Plus(m.Canary)
		}
		if beside {
			a.stable = Sample{}
			if s.baseline != nil {
				a.stable = s.baseline.Stable
			}
		}
		a.measurements = len(ends) + 1
		a.seconds = s.good[len(s.good)-1].To.Sub(m.From).Seconds()
		ends = append(ends, a)
		if !found {
			last, found = len(ends)-1, a.canary.Requests >= recentRequests
		}
	}
	if len(ends) == 0 {
		ends = []arms{{}}
		if beside && s.baseline != nil {
			ends[0].stable = s.baseline.Stable
		}
	}
	return ends, last
}

// judge turns every window into a share. In a window that holds hardly any of
// stable's requests, the kinder of its own limit and that of the whole step counts.
func judge(ends []arms, last int, minRequests float64, of func(stable, canary Sample) share) shares {
	whole := ends[len(ends)-1]
	var e shares
	for _, a := range ends {
		w := window{share: of(a.stable, a.canary), measurements: a.measurements, seconds: a.seconds}
		if a.stable.Requests < minRequests {
			other := of(whole.stable, a.canary)
			w.bad, w.limit = min(w.bad, other.bad), max(w.limit, other.limit)
		}
		e.ends = append(e.ends, w)
	}
	e.last = e.ends[last]
	return e
}
