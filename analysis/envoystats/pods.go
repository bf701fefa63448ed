// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/analysis/sequential"
)

const (
	// loadInterval is how often proxies report single endpoints while somebody wants it, quietInterval
	// how often they would report that nobody does.
	loadInterval  = time.Second
	quietInterval = time.Hour
	// maxPods bounds how many endpoints of stable are kept for one Reading.
	maxPods = 1000
)

// loads is what one report says of the endpoints of stable, as it waits to be taken.
type loads struct {
	begin time.Time
	pods  map[string]sequential.Counts
}

// ServeLoads takes what one proxy of a gateway reports of single endpoints, until receive
// gives an error, which it returns. It asks the proxy for the endpoints of the stable versions that are counted
// now, each second, and for nothing when there are none; so this costs a proxy nothing between releases.
// The caller has made sure that the proxy belongs to the gateway.
func (s *Store) ServeLoads(gateway types.NamespacedName, _ string,
	receive func() (*loadstatsv3.LoadStatsRequest, error), ask func(*loadstatsv3.LoadStatsResponse) error,
) error {
	changed := make(chan struct{}, 1)
	s.mu.Lock()
	s.askers[changed] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.askers, changed)
	}()
	failed := make(chan error, 1)
	go func() {
		for {
			report, err := receive()
			if err != nil {
				failed <- err
				return
			}
			s.takeLoads(gateway, report)
		}
	}()
	var asked []string
	for {
		if names := s.stableClusters(gateway); !slices.Equal(asked, names) {
			interval := loadInterval
			if len(names) == 0 {
				interval = quietInterval
			}
			asked = names
			if err := ask(&loadstatsv3.LoadStatsResponse{
				Clusters: names, LoadReportingInterval: durationpb.New(interval), ReportEndpointGranularity: true,
			}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case err := <-failed:
			return err
		}
	}
}

// stableClusters names the clusters whose endpoints somebody wants, in order. A proxy takes no notice of
// those that it does not have.
func (s *Store) stableClusters(gateway types.NamespacedName) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]bool{}
	for _, t := range s.tapsOf(gateway) {
		for _, upstream := range t.versions.Stable {
			for _, protocol := range []string{"", "/h2c", "/ws"} { // those over HTTP
				names[upstream+protocol] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// takeLoads hands out what a report says. A report that cannot be true is refused whole.
func (s *Store) takeLoads(gateway types.NamespacedName, report *loadstatsv3.LoadStatsRequest) {
	arrival := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	byTap := map[*Tap]*loads{}
	for _, c := range report.GetClusterStats() {
		up := s.wanted[gateway][string(upstreamOf([]byte(c.GetClusterName())))]
		if up == nil {
			continue
		}
		pods, err := podsOf(c)
		if err != nil {
			s.refuse(gateway, err)
			return
		}
		begin := arrival.Add(-max(c.GetLoadReportInterval().AsDuration(), 0))
		for _, w := range up.by {
			if w.arm != stable {
				continue
			}
			if byTap[w.tap] == nil {
				byTap[w.tap] = &loads{begin: begin, pods: map[string]sequential.Counts{}}
			}
			l := byTap[w.tap]
			if begin.Before(l.begin) {
				l.begin = begin
			}
			addPods(l.pods, pods)
		}
	}
	for t, l := range byTap {
		if len(t.loads) >= maxPending {
			t.loads = slices.Delete(t.loads, 0, 1)
		}
		t.loads = append(t.loads, *l)
	}
}

// podsOf reads the endpoints of a cluster. An endpoint that is in several localities is one.
func podsOf(c *endpointv3.ClusterStats) (map[string]sequential.Counts, error) {
	out := map[string]sequential.Counts{}
	for _, locality := range c.GetUpstreamLocalityStats() {
		for _, e := range locality.GetUpstreamEndpointStats() {
			good, bad := float64(e.GetTotalSuccessfulRequests()), float64(e.GetTotalErrorRequests())
			if !plausible(good) || !plausible(bad) {
				return nil, fmt.Errorf("an endpoint of cluster %s has %v good and %v bad answers", c.GetClusterName(), good, bad)
			}
			if good+bad > 0 {
				addPods(out, map[string]sequential.Counts{addressOf(e.GetAddress()): {N: good + bad, X: bad}})
			}
		}
	}
	return out, nil
}

func addressOf(a *corev3.Address) string {
	socket := a.GetSocketAddress()
	return net.JoinHostPort(socket.GetAddress(), strconv.Itoa(int(socket.GetPortValue())))
}

// addPods adds some endpoints; of more than maxPods those that came first are kept.
func addPods(to, pods map[string]sequential.Counts) {
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		was, known := to[name]
		if !known && len(to) >= maxPods {
			continue
		}
		to[name] = sequential.Counts{N: was.N + pods[name].N, X: was.X + pods[name].X}
	}
}

// takePods gives what waits and began at or after since, in order of the names. mu is held.
func (t *Tap) takePods(since time.Time) []Pod {
	sum := map[string]sequential.Counts{}
	for _, l := range t.loads {
		if !l.begin.Before(since) {
			addPods(sum, l.pods)
		}
	}
	t.loads = nil
	var out []Pod
	for name, counts := range sum {
		out = append(out, Pod{Name: name, Requests: counts})
	}
	slices.SortFunc(out, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	return out
}
