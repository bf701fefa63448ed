// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/bootstrap"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// steadily sends so many requests a second for a while, on eight connections.
func (v *visitors) steadily(perSecond int, d time.Duration, host string) {
	const lanes = 8
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for range lanes {
		all.Go(func() {
			tick := time.NewTicker(time.Second * lanes / time.Duration(perSecond))
			defer tick.Stop()
			for time.Now().Before(end) {
				v.one(host)
				<-tick.C
			}
		})
	}
	all.Wait()
}

// BenchmarkMeasuring reports what it costs a proxy with thousands of clusters to be measured: the time that Envoy's main thread
// computes each second, and the bytes it sends, at 2,000 requests a second to two versions. A cluster without any
// request since the proxy's start has no statistics of requests, so both ends are shown.
func BenchmarkMeasuring(b *testing.B) {
	const clusters, perSecond, seconds = 3000, 2000, 10
	w := NewWorld(b)
	w.StopServer()
	var bytes, flushes atomic.Int64
	w.Measurements = func(_ types.NamespacedName, _ string, receive func() ([]byte, error)) error {
		for {
			message, err := receive()
			if err != nil {
				return err
			}
			bytes.Add(int64(len(message)))
			flushes.Add(1)
		}
	}
	w.StartServer()
	snap, port := manyClusters(b, w, clusters)
	flush := snap.Clusters[bootstrap.Flush].(*clusterv3.Cluster)
	for _, row := range []struct {
		name          string
		used, running bool
	}{
		{"no release, clusters never used", false, false},
		{"a release, clusters never used", false, true},
		{"no release, clusters all used", true, false},
		{"a release, clusters all used", true, true},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				p := w.StartProxy(graphtest.GatewayKey)
				delete(snap.Clusters, bootstrap.Flush)
				if row.running {
					snap.Clusters[bootstrap.Flush] = proto.CloneOf(flush)
					flushing(snap, p)
				}
				w.AwaitAck(graphtest.GatewayKey, w.Server.Publish(snap))
				w.Eventually("the proxy is ready", func() error { _, err := p.Stats("/ready"); return err })
				v := newVisitors(b, port)
				for i := range clusters {
					if row.used {
						v.one(fmt.Sprintf("host-%d.example.com", i))
					}
				}
				time.Sleep(2 * time.Second)
				main, sent, before := p.mainThread(b), bytes.Load(), flushes.Load()
				v.steadily(perSecond, seconds*time.Second, "release.example.com")
				b.ReportMetric(milliseconds(p.mainThread(b)-main)/seconds, "main-ms/s")
				b.ReportMetric(float64(bytes.Load()-sent)/1000/seconds, "kB/s")
				b.ReportMetric(float64(flushes.Load()-before)/seconds, "flushes/s")
				b.ReportMetric(p.allocated(b), "MB")
				if row.used && row.running {
					reportAway(b, w, p)
				}
				p.Stop()
			}
		})
	}
}

// reportAway stops the control plane: whatever the proxy would say then has to go nowhere, and must not pile up.
func reportAway(b *testing.B, w *World, p *Proxy) {
	const seconds = 20
	w.StopServer()
	defer w.StartServer()
	time.Sleep(time.Second)
	main, memory := p.mainThread(b), p.allocated(b)
	time.Sleep(seconds * time.Second)
	b.ReportMetric(milliseconds(p.mainThread(b)-main)/seconds, "away-main-ms/s")
	b.ReportMetric(p.allocated(b)-memory, "away-more-MB")
}

// manyClusters is a release on one host beside many hosts, each with a Service of its own.
func manyClusters(b *testing.B, w *World, n int) (xds.Snapshot, uint32) {
	backend, port := NewBackend(b, "web"), FreePort(b)
	services := []string{"stable", "canary"}
	release := graphtest.Route("release", []string{"release.example.com"}, graphtest.Rule("/", graphtest.Backend("stable", 50), graphtest.Backend("canary", 50)))
	release.Running = true
	routes := []*graph.Route{release}
	for i := range n {
		service := fmt.Sprintf("service-%d", i)
		services = append(services, service)
		routes = append(routes, graphtest.Route(service, []string{fmt.Sprintf("host-%d.example.com", i)}, graphtest.Rule("/", graphtest.Backend(service, 1))))
	}
	for _, service := range services {
		w.Server.PublishEndpoints(graphtest.Key(service), Endpoints(graphtest.Key(service), backend))
	}
	return xds.Translate(graphtest.Graph(graphtest.HTTP("http", port, "", routes...)), graphtest.GatewayKey), port
}
