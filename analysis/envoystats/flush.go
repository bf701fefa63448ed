// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"fmt"
	"math"
	"slices"
	"time"

	"headgate.dev/headgate/analysis/sequential"
)

// flush is what a proxy says at once: all counts of the interval since it did so before.
// Its memory is used again for the next one.
type flush struct {
	// at is the proxy's own time, in milliseconds since 1970.
	at int64
	// clusters are those that are wanted, by name; they stay from flush to flush.
	clusters map[string]*cluster
}

// begin forgets the counts of the flush before, and the clusters that nobody wants any more.
func (f *flush) begin(wanted map[string]*upstream) {
	f.at = 0
	if f.clusters == nil {
		f.clusters = map[string]*cluster{}
	}
	for name, c := range f.clusters {
		up := wanted[c.upstream.name]
		if up == nil {
			delete(f.clusters, name)
			continue
		}
		c.upstream = up
		c.clear()
	}
}

// cluster is where the counts of a cluster go.
func (f *flush) cluster(up *upstream, name []byte) (*cluster, error) {
	if c := f.clusters[string(name)]; c != nil {
		return c, nil
	}
	variants := 0
	for _, c := range f.clusters {
		if c.upstream == up {
			variants++
		}
	}
	if variants >= maxVariants {
		return nil, fmt.Errorf("upstream %s has more than %d clusters", up.name, maxVariants)
	}
	c := &cluster{upstream: up}
	f.clusters[string(name)] = c
	return c, nil
}

// carrySlack is how many requests may be seen half in one flush and half in the next, apart
// from an eighth of all requests: Envoy reads its counters within a few hundredths of a second.
const carrySlack = 3

// settle gives the counts of a cluster in which bad requests are requests, and what is
// carried to the next flush. It is an error when the difference is larger than what can
// end while Envoy reads its counters.
func (c *cluster) settle(classes *Classes) (sequential.Counts, carry, error) {
	n, x := classes.requests()+c.requests, classes.bad()+c.bad
	counts := sequential.Counts{N: max(n, 0)}
	counts.X = min(max(x, 0), counts.N)
	next := carry{requests: n - counts.N, bad: x - counts.X}
	limit := carrySlack + (counts.N+c.before)/8
	if next.requests < -limit || math.Abs(next.bad) > limit {
		return counts, next, fmt.Errorf("it counts %v bad ones among %v requests", x, n)
	}
	return counts, next, nil
}

// part is what one flush says of one version, or what several say together.
type part struct {
	counts  sequential.Counts
	classes Classes
	times   times
}

func (p *part) add(o *part) {
	p.counts.N += o.counts.N
	p.counts.X += o.counts.X
	p.classes.add(&o.classes)
	p.times.add(&o.times)
}

// times is a cumulative histogram in milliseconds whose bounds several may share.
type times struct {
	bounds, counts []float64
	total          float64
}

// add adds a histogram. Where the bounds differ, as they can while proxies are
// replaced, those remain that both have: nothing is invented.
func (t *times) add(o *times) {
	switch {
	case o.total == 0:
		return
	case t.total == 0:
		t.bounds, t.counts, t.total = o.bounds, append(t.counts[:0], o.counts...), o.total
		return
	}
	if !slices.Equal(t.bounds, o.bounds) {
		bounds, mine, theirs := common(t, o)
		t.bounds, t.counts, o = bounds, mine, &times{bounds: bounds, counts: theirs, total: o.total}
	}
	for i, count := range o.counts {
		t.counts[i] += count
	}
	t.total += o.total
}

// common gives the bounds that both histograms have, with the counts of each.
func common(a, b *times) (bounds, as, bs []float64) {
	for i, bound := range a.bounds {
		if j, ok := slices.BinarySearch(b.bounds, bound); ok {
			bounds, as, bs = append(bounds, bound), append(as, a.counts[i]), append(bs, b.counts[j])
		}
	}
	return bounds, as, bs
}

// buckets are the counts by upper bounds in seconds, the last one +Inf; none when there are no requests.
func (t *times) buckets() []sequential.Bucket {
	if t.total <= 0 {
		return nil
	}
	out := make([]sequential.Bucket, 0, len(t.bounds)+1)
	for i, bound := range t.bounds {
		out = append(out, sequential.Bucket{Le: bound / 1000, Count: t.counts[i]})
	}
	return append(out, sequential.Bucket{Le: math.Inf(1), Count: t.total})
}

// clientTimes are the times of the requests of clients: all but those that were no
// client's.
func (c *cluster) clientTimes() (times, error) {
	all, internal := &c.times[0], &c.times[1]
	out := times{bounds: slices.Clone(all.bounds), counts: slices.Clone(all.counts), total: all.total}
	if internal.total == 0 {
		return out, nil
	}
	if !slices.Equal(all.bounds, internal.bounds) || internal.total > all.total {
		return times{}, fmt.Errorf("its times of mirrored requests are no part of all of them")
	}
	out.total -= internal.total
	least := 0.0
	for i := range out.counts {
		// A request is in both histograms or in none; what Envoy rounds is kept in order.
		out.counts[i] = min(max(out.counts[i]-internal.counts[i], least), out.total)
		least = out.counts[i]
	}
	return out, nil
}

// record is a flush as it waits to be taken.
type record struct {
	// begin is no later than when its interval began, zero when that is not known.
	begin, end time.Time
	arms       [arms]part
}

// The two versions of a release.
const (
	stable = iota
	canary
	arms
)

// fold makes two records one, whose interval has both of theirs in it.
func (r *record) fold(o *record) {
	if o.begin.Before(r.begin) {
		r.begin = o.begin
	}
	if o.end.After(r.end) {
		r.end = o.end
	}
	for i := range r.arms {
		r.arms[i].add(&o.arms[i])
	}
}
