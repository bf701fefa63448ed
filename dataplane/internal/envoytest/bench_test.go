// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// fleet is many routes at rest, each with a host of its own, over 1,000 Services.
type fleet struct {
	*rig
	port   uint32
	routes []*graph.Route
	before xds.Snapshot
}

func newFleet(b *testing.B, n int) *fleet { return newFleetOn(b, newRig(b), n) }

func newFleetOn(b *testing.B, r *rig, n int) *fleet {
	f := &fleet{rig: r, port: FreePort(b)}
	backend := NewBackend(b, "web")
	for i := range 1000 {
		f.endpoints(fmt.Sprintf("service-%d", i), backend)
	}
	f.endpoints("canary", backend)
	for range n {
		f.add()
	}
	f.before = xds.Translate(f.graph(), graphtest.GatewayKey)
	f.AwaitAck(graphtest.GatewayKey, f.Server.Publish(f.before))
	return f
}

func (f *fleet) add() {
	i := len(f.routes)
	f.routes = append(f.routes, graphtest.Route(fmt.Sprintf("route-%d", i), []string{fmt.Sprintf("host-%d.example.com", i)},
		graphtest.Rule("/", graphtest.Backend(fmt.Sprintf("service-%d", i%1000), 90), graphtest.Backend("canary", 10))))
}

func (f *fleet) graph() *graph.Graph {
	return graphtest.Graph(graphtest.HTTP("http", f.port, "", f.routes...))
}

// measure makes a change as often as the benchmark asks and reports: how long translating,
// publishing and the proxy's acknowledgement take, the bytes of the resources that
// changed, and the time that Envoy's main thread ran, each of one change.
func (f *fleet) measure(b *testing.B, change func(i int)) {
	var acks, translations, publications []time.Duration
	bytes, busy, changes := 0, time.Duration(0), 0
	for b.Loop() {
		change(changes)
		changes++
		mainBefore := f.proxy.mainThread(b)
		start := time.Now()
		snap := xds.Translate(f.graph(), graphtest.GatewayKey)
		translated := time.Now()
		version := f.Server.Publish(snap)
		publications = append(publications, time.Since(translated))
		f.AwaitAck(graphtest.GatewayKey, version)
		acks = append(acks, time.Since(translated))
		translations = append(translations, translated.Sub(start))
		b.StopTimer()
		time.Sleep(20 * time.Millisecond) // what the proxy does behind its acknowledgement counts too
		busy += f.proxy.mainThread(b) - mainBefore
		bytes += changedBytes(f.before, snap)
		f.before = snap
		b.StartTimer()
	}
	for name, times := range map[string][]time.Duration{"translate": translations, "publish": publications, "ack": acks} {
		slices.Sort(times)
		b.ReportMetric(milliseconds(times[len(times)/2]), name+"-p50-ms")
		b.ReportMetric(milliseconds(times[len(times)*99/100]), name+"-p99-ms")
	}
	b.ReportMetric(float64(bytes)/float64(changes), "bytes/change")
	b.ReportMetric(milliseconds(busy)/float64(changes), "envoy-main-ms/change")
}

// mainThread is how long Envoy's main thread ran until now, from the kernel's account.
func (p *Proxy) mainThread(tb testing.TB) time.Duration {
	tb.Helper()
	pid := strconv.Itoa(p.command.Process.Pid)
	account, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "schedstat"))
	if err != nil {
		tb.Fatal(err)
	}
	ran, err := strconv.ParseInt(strings.Fields(string(account))[0], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ran)
}

func changedBytes(before, after xds.Snapshot) int {
	sum := 0
	for _, maps := range [][2]map[string]proto.Message{
		{before.Listeners, after.Listeners}, {before.Routes, after.Routes}, {before.Clusters, after.Clusters}, {before.Runtimes, after.Runtimes},
	} {
		for name, m := range maps[1] {
			if was := maps[0][name]; was == nil || !proto.Equal(was, m) {
				sum += proto.Size(m)
			}
		}
	}
	return sum
}

// BenchmarkWeightChange measures a change of one weight under release among many routes
// at rest.
func BenchmarkWeightChange(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			f := newFleet(b, n)
			f.routes[0].Running = true
			f.measure(b, func(i int) {
				backends := f.routes[0].Rules[0].Backends
				backends[1].Weight = int32(i%100 + 1)
				backends[0].Weight = 101 - backends[1].Weight
			})
		})
	}
}

// BenchmarkRouteAdded measures a route that is added, with a host of its own.
func BenchmarkRouteAdded(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			f := newFleet(b, n)
			f.measure(b, func(int) { f.add() })
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
