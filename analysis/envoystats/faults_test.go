// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis/trial"
)

// liars plays a release through proxies some of whose reports are lies: those that tell the truth are
// told to another Store as well, which hears nothing else.
type liars struct {
	r          *rand.Rand
	h, honest  *hand
	proxies    map[string][2]*line // in h, in honest
	waiting    map[string]said     // flushes on their way for more than a second
	last       map[string]said     // the newest true ones
	born       int
	lies, gone int
}

func newLiars(t *testing.T, seed uint64) *liars {
	l := &liars{r: rand.New(rand.NewPCG(seed, 9)), h: newHand(t), honest: newHand(t), proxies: map[string][2]*line{}, waiting: map[string]said{}, last: map[string]said{}}
	for range 2 {
		l.connect()
	}
	return l
}

func (l *liars) connect() {
	l.born++
	name := fmt.Sprint("proxy-", l.born)
	l.proxies[name] = [2]*line{l.h.connect(name), l.honest.connect(name)}
}

func (l *liars) disconnect(name string) {
	l.gone++
	for _, line := range l.proxies[name] {
		line.disconnect()
	}
	delete(l.proxies, name)
	delete(l.waiting, name)
	delete(l.last, name)
}

// tell tells both Stores the truth.
func (l *liars) tell(name string, s said) {
	for _, line := range l.proxies[name] {
		line.say(s)
	}
	l.last[name] = s
}

func (l *liars) poisson(mean float64) int {
	n := 0
	for t := l.r.ExpFloat64(); t < mean; t += l.r.ExpFloat64() {
		n++
	}
	return n
}

// count gives what a proxy counted in a second.
func (l *liars) count(weight, stableBad, canaryBad float64, testers int) said {
	s := said{at: l.h.clock.UnixMilli(), counters: map[string]float64{}, times: map[string][]uint64{}}
	arm := func(name string, n int, bad float64) {
		times := make([]uint64, len(testBounds())+1)
		for range n {
			class := "2xx"
			if l.r.Float64() < bad {
				class = "5xx"
			}
			s.counters["cluster.shop/"+name+"/80.upstream_rq_"+class]++
			for i := min(int(1.5*l.r.ExpFloat64()), len(times)-1); i < len(times); i++ {
				times[i]++
			}
		}
		s.times["cluster.shop/"+name+"/80.upstream_rq_time"] = times
	}
	arm("stable", l.poisson(100*(1-weight)), stableBad)
	arm("canary", l.poisson(100*weight), canaryBad)
	s.counters["cluster.shop/canary/80.upstream_rq_5xx"] += float64(testers)
	return s
}

// lie spoils a flush in a way that can be seen. Envoy does not count what it said once more.
func (l *liars) lie(name string, s said) said {
	const canary = "cluster.shop/canary/80."
	lie := said{at: s.at, counters: maps.Clone(s.counters), times: maps.Clone(s.times)}
	last, repeats := l.last[name]
	delete(l.last, name)
	switch l.r.IntN(6) {
	case 0: // a counter that was reset
		lie.counters[canary+"upstream_rq_2xx"] = -5
	case 1: // more bad requests than requests
		lie.counters[canary+"grpc.14"] = 500
	case 2: // answers that nobody asked for
		lie.counters[canary+"internal.upstream_rq_2xx"] = 500
	case 3: // a bucket is missing from the middle of a cumulative histogram
		lie.times[canary+"upstream_rq_time"] = []uint64{9, 0, 9, 9}
	case 4: // more than can be
		lie.counters[canary+"upstream_rq_5xx"] = 1e30
	default: // the flush before, once more
		if repeats {
			return last
		}
		lie.counters[canary+"upstream_rq_4xx"] = -1
	}
	return lie
}

// second lets every proxy report, and some of them lie, wait, go away or begin.
func (l *liars) second(weight, stableBad, canaryBad float64, testers int) {
	l.h.pass(time.Second)
	l.honest.pass(time.Second)
	for _, name := range slices.Sorted(maps.Keys(l.proxies)) {
		s, p := l.count(weight, stableBad, canaryBad, testers), l.proxies[name]
		if before, waits := l.waiting[name]; waits {
			delete(l.waiting, name)
			l.tell(name, before)
		}
		switch l.r.IntN(20) {
		case 0, 1, 2: // a lie in place of the truth
			l.lies++
			lie := l.lie(name, s)
			p[0].say(lie)
			if lie.at == s.at {
				p[1].say(said{at: s.at}) // a lie ends an interval, too
			}
		case 3, 4: // the truth twice
			l.lies++
			l.tell(name, s)
			p[0].say(s)
		case 5: // without the times of the canary's requests
			delete(s.times, "cluster.shop/canary/80.upstream_rq_time")
			l.tell(name, s)
		case 6: // late
			l.waiting[name] = s
		case 7: // it goes, with what it counted
			if len(l.proxies) > 1 {
				l.disconnect(name)
			}
		default:
			l.tell(name, s)
		}
	}
	if len(l.proxies) < 2 || l.r.IntN(20) == 0 && len(l.proxies) < 4 {
		l.connect()
	}
}

// release plays a release: stable alone, testers at weight 0, then a step of seconds at a weight. It gives the
// verdict of every second of that.
func (l *liars) release(t *testing.T, c *trial.Config, weight, stableBad, canaryBad float64, seconds int) *trial.Trial {
	t.Helper()
	tap, truth := l.h.open(), l.honest.open()
	tr, since := &trial.Trial{}, time.Time{}
	take := func() Reading {
		got, want := tap.Take(since), truth.Take(since)
		if diff := cmp.Diff([]Arm{want.Stable, want.Canary}, []Arm{got.Stable, got.Canary}); diff != "" {
			t.Fatalf("lies count (-truth +got):\n%s", diff)
		}
		return got
	}
	for range 20 {
		l.second(0, stableBad, 0, 0)
		r := take()
		tr.Learn(c, trial.Arm{Requests: r.Stable.Requests, Latency: r.Stable.Latency}, nil)
	}
	since = l.h.clock
	for range 10 {
		l.second(0, stableBad, 1, 20)
		r := take()
		tr.Add(c, trial.Tick{Canary: trial.Arm{Requests: r.Canary.Requests}, Stable: trial.Arm{Requests: r.Stable.Requests}})
	}
	since = l.h.clock.Add(300 * time.Millisecond)
	tr.Step()
	l.second(weight, stableBad, canaryBad, 20) // testers still in the second in which the weight is confirmed
	for range seconds {
		r := take()
		tr.Add(c, trial.Tick{
			Weight: weight,
			Canary: trial.Arm{Requests: r.Canary.Requests, Latency: r.Canary.Latency},
			Stable: trial.Arm{Requests: r.Stable.Requests, Latency: r.Stable.Latency},
		})
		if tr.Verdict(c).Result == trial.Bad {
			break
		}
		l.second(weight, stableBad, canaryBad, 0)
	}
	for _, name := range slices.Sorted(maps.Keys(l.proxies)) {
		l.disconnect(name)
	}
	return tr
}

// Proxies that count back, count twice, come late, contradict themselves, come and go: what cannot be true is left
// out with both versions, and nothing is invented. So the evidence is exactly that of the reports
// that are true. (It can be larger than with all of them: one that is lost may have spoken for the canary.)
func TestLiesOfProxiesNeitherRollBackNorHideABadVersion(t *testing.T) {
	lies, gone := 0, 0
	for seed := range uint64(45) {
		c := trial.Default()
		l := newLiars(t, seed)
		weight := []float64{.05, .25, .5}[seed%3]
		if v := l.release(t, &c, weight, .01, .01, 120).Verdict(&c); v.Result == trial.Bad {
			t.Errorf("seed %d: a healthy version is rolled back at %v: %+v", seed, weight, v)
		}
		lies, gone = lies+l.lies, gone+l.gone
		l = newLiars(t, seed)
		if v := l.release(t, &c, weight, .01, .3, 120).Verdict(&c); v.Result != trial.Bad {
			t.Errorf("seed %d: a bad version is not found at %v: %+v", seed, weight, v)
		}
	}
	t.Logf("%d lies, %d proxies that went away", lies, gone)
	if lies < 1000 || gone < 300 {
		t.Error("the test shows nothing")
	}
}
