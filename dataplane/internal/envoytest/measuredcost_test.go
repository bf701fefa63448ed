// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
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

// The load of a proxy that is measured.
const (
	measuredClusters  = 3000
	measuredPerSecond = 2000
	measuredSeconds   = 10
)

// measuring is a control plane that counts what is sent to it of the statistics of a proxy with thousands of clusters.
type measuring struct {
	*World
	snap           xds.Snapshot
	port           uint32
	bytes, flushes atomic.Int64
}

func newMeasuring(b *testing.B) *measuring {
	m := &measuring{World: NewWorld(b)}
	m.StopServer()
	m.Measurements = func(_ types.NamespacedName, _ string, receive func() ([]byte, error)) error {
		for {
			message, err := receive()
			if err != nil {
				return err
			}
			m.bytes.Add(int64(len(message)))
			m.flushes.Add(1)
		}
	}
	m.StartServer()
	m.snap, m.port = manyClusters(b, m.World, measuredClusters)
	return m
}

// report sends the load to a proxy, after a request to each of its clusters if they are to be used.
func (m *measuring) report(b *testing.B, p *Proxy, used bool) {
	m.AwaitAck(graphtest.GatewayKey, m.Server.Publish(m.snap))
	m.Eventually("the proxy is ready", func() error { _, err := p.Stats("/ready"); return err })
	v := newVisitors(b, m.port)
	for i := range measuredClusters {
		if used {
			v.one(fmt.Sprintf("host-%d.example.com", i))
		}
	}
	time.Sleep(2 * time.Second)
	main, sent, before := p.mainThread(b), m.bytes.Load(), m.flushes.Load()
	v.steadily(measuredPerSecond, measuredSeconds*time.Second, "release.example.com")
	b.ReportMetric(milliseconds(p.mainThread(b)-main)/measuredSeconds, "main-ms/s")
	b.ReportMetric(float64(m.bytes.Load()-sent)/1000/measuredSeconds, "kB/s")
	b.ReportMetric(float64(m.flushes.Load()-before)/measuredSeconds, "messages/s")
	b.ReportMetric(p.allocated(b), "MB")
}

// BenchmarkMeasuring reports what it costs a proxy with thousands of clusters to be measured: the time that Envoy's main thread
// computes each second, and the bytes it sends, at 2,000 requests a second to two versions. A cluster without any
// request since the proxy's start has no statistics of requests, so both ends are shown.
func BenchmarkMeasuring(b *testing.B) {
	m := newMeasuring(b)
	flush := m.snap.Clusters[bootstrap.Flush].(*clusterv3.Cluster)
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
				p := m.StartProxy(graphtest.GatewayKey)
				delete(m.snap.Clusters, bootstrap.Flush)
				if row.running {
					m.snap.Clusters[bootstrap.Flush] = proto.CloneOf(flush)
					flushing(m.snap, p)
				}
				m.report(b, p, row.used)
				if row.used && row.running {
					reportAway(b, m.World, p)
				}
				p.Stop()
			}
		})
	}
}

// BenchmarkMeasuringParts reports what the parts of a flush of 3,000 clusters in use cost: what is left of it when the proxy
// has fewer statistics than Headgate's have, or sends them otherwise.
func BenchmarkMeasuringParts(b *testing.B) {
	m := newMeasuring(b)
	flush := m.snap.Clusters[bootstrap.Flush].(*clusterv3.Cluster)
	tenEdges := func(s *bootstrapv3.Bootstrap) {
		s.StatsConfig.HistogramBucketSettings[0].Buckets = []float64{1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000}
	}
	only := func(s *bootstrapv3.Bootstrap, expression string) {
		s.StatsConfig.StatsMatcher = &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: &matcherv3.ListStringMatcher{
			Patterns: []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
				Regex: expression + `|vhost\..*\.route\..*\.upstream_rq_[1-5]xx|(server|control_plane|cluster_manager|listener_manager|runtime|overload)\..*`,
			}}}},
		}}}
	}
	for _, row := range []struct {
		name   string
		change func(*bootstrapv3.Bootstrap)
	}{
		{"as published", func(*bootstrapv3.Bootstrap) {}},
		{"messages of 200", func(s *bootstrapv3.Bootstrap) {
			sink := &metricsv3.MetricsServiceConfig{}
			if err := s.StatsSinks[0].GetTypedConfig().UnmarshalTo(sink); err != nil {
				b.Fatal(err)
			}
			sink.BatchSize = 200
			if err := s.StatsSinks[0].GetTypedConfig().MarshalFrom(sink); err != nil {
				b.Fatal(err)
			}
		}},
		{"10 edges instead of 55", tenEdges},
		{"classes and 55 edges alone", func(s *bootstrapv3.Bootstrap) {
			only(s, `cluster\.[^.]+\.(internal\.)?upstream_rq_([1-5]xx|time)`)
		}},
		{"classes and 10 edges alone", func(s *bootstrapv3.Bootstrap) {
			tenEdges(s)
			only(s, `cluster\.[^.]+\.(internal\.)?upstream_rq_([1-5]xx|time)`)
		}},
		{"classes alone", func(s *bootstrapv3.Bootstrap) { only(s, `cluster\.[^.]+\.(internal\.)?upstream_rq_[1-5]xx`) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				p := m.startProxyFrom(graphtest.GatewayKey, row.change)
				m.snap.Clusters[bootstrap.Flush] = proto.CloneOf(flush)
				flushing(m.snap, p)
				m.report(b, p, true)
				p.Stop()
			}
		})
	}
}

// startProxyFrom starts a proxy whose bootstrap is not quite what Headgate makes.
func (w *World) startProxyFrom(gateway types.NamespacedName, change func(*bootstrapv3.Bootstrap)) *Proxy {
	w.TB.Helper()
	p := w.newProxy(gateway)
	w.writeFiles(p, func(*xds.BootstrapParams) {})
	path := filepath.Join(p.Dir, xds.FileBootstrap)
	text, err := os.ReadFile(path)
	if err != nil {
		w.TB.Fatal(err)
	}
	start := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(text, start); err != nil {
		w.TB.Fatal(err)
	}
	change(start)
	if text, err = protojson.Marshal(start); err != nil {
		w.TB.Fatal(err)
	}
	w.write(path, text)
	w.run(p, 2)
	return p
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
