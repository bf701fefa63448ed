// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoystats

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"
)

// reporter is a proxy that reports endpoints.
type reporter struct {
	reports chan *loadstatsv3.LoadStatsRequest
	asked   chan *loadstatsv3.LoadStatsResponse
	ready   chan bool
	ended   chan error
}

func (h *hand) report(gateway types.NamespacedName) *reporter {
	r := &reporter{
		reports: make(chan *loadstatsv3.LoadStatsRequest), asked: make(chan *loadstatsv3.LoadStatsResponse, 1),
		ready: make(chan bool), ended: make(chan error, 1),
	}
	go func() {
		r.ended <- h.store.ServeLoads(gateway, "a", func() (*loadstatsv3.LoadStatsRequest, error) {
			r.ready <- true
			report, ok := <-r.reports
			if !ok {
				return nil, io.EOF
			}
			return report, nil
		}, func(m *loadstatsv3.LoadStatsResponse) error {
			r.asked <- m
			return nil
		})
	}()
	<-r.ready
	return r
}

// say reports one cluster, by address the good and the bad answers since so long.
func (r *reporter) say(since time.Duration, cluster string, answers map[string][2]uint64) {
	stats := &endpointv3.UpstreamLocalityStats{}
	for address, a := range answers {
		stats.UpstreamEndpointStats = append(stats.UpstreamEndpointStats, &endpointv3.UpstreamEndpointStats{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
			}}},
			TotalSuccessfulRequests: a[0], TotalErrorRequests: a[1],
		})
	}
	r.reports <- &loadstatsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{{
		ClusterName: cluster, LoadReportInterval: durationpb.New(since), UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{stats},
	}}}
	<-r.ready
}

func TestEndpointsAreAskedForWhileSomebodyWantsThem(t *testing.T) {
	h := newHand(t)
	r := h.report(edge)
	tap := h.open()
	asked := <-r.asked
	if want := []string{"shop/stable/80", "shop/stable/80/h2c", "shop/stable/80/ws"}; !slices.Equal(asked.Clusters, want) ||
		!asked.ReportEndpointGranularity || asked.LoadReportingInterval.AsDuration() != time.Second {
		t.Errorf("asked for %v", asked)
	}
	tap.Close()
	if asked = <-r.asked; len(asked.Clusters) > 0 || asked.LoadReportingInterval.AsDuration() < time.Minute {
		t.Errorf("asked for %v", asked)
	}
	close(r.reports)
	if err := <-r.ended; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestEndpointsOfStableAddUp(t *testing.T) {
	h := newHand(t)
	tap := h.open()
	a, b, foreign := h.report(edge), h.report(edge), h.report(types.NamespacedName{Namespace: "evil", Name: "edge"})
	began := h.clock
	h.pass(time.Second)
	a.say(time.Second, "shop/stable/80", map[string][2]uint64{"10.0.0.2": {5, 1}, "10.0.0.1": {7, 0}, "10.0.0.9": {0, 0}})
	b.say(500*time.Millisecond, "shop/stable/80/h2c", map[string][2]uint64{"10.0.0.2": {3, 2}})
	b.say(time.Second, "shop/canary/80", map[string][2]uint64{"10.0.0.7": {3, 2}})
	b.say(time.Second, "shop/other/80", map[string][2]uint64{"10.0.0.8": {3, 2}})
	b.say(2*time.Second, "shop/stable/80", map[string][2]uint64{"10.0.0.3": {3, 2}}) // began too early
	foreign.say(time.Second, "shop/stable/80", map[string][2]uint64{"10.0.0.2": {0, 1000}})
	want := []Pod{{"10.0.0.1:80", counts(7, 0)}, {"10.0.0.2:80", counts(11, 3)}}
	r := tap.Take(began)
	if diff := cmp.Diff(want, r.StablePods); diff != "" || r.Dropped != 0 {
		t.Errorf("%s (-want +got): %s", r.Why, diff)
	}
	a.say(time.Second, "shop/stable/80", map[string][2]uint64{"10.0.0.2": {1 << 60, 1}})
	if r := tap.Take(time.Time{}); r.StablePods != nil || r.Dropped != 1 || !strings.Contains(r.Why, "good and 1 bad") {
		t.Errorf("%+v", r)
	}
}

func TestEndpointsWithoutEndAreBounded(t *testing.T) {
	h := newHand(t)
	tap, r := h.open(), h.report(edge)
	many := map[string][2]uint64{}
	for i := range 3 * maxPods {
		many[strings.Repeat("a", i%50+1)+string(rune('0'+i/50))] = [2]uint64{1, 0}
	}
	for range 2 * maxPending {
		r.say(time.Second, "shop/stable/80", map[string][2]uint64{"10.0.0.1": {1, 0}})
	}
	r.say(time.Second, "shop/stable/80", many)
	if len(tap.loads) > maxPending {
		t.Errorf("%d reports are kept", len(tap.loads))
	}
	if n := len(tap.Take(time.Time{}).StablePods); n != maxPods {
		t.Errorf("%d endpoints are kept", n)
	}
}
