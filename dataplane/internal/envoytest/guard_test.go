// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// minimalBootstrap is the least that forwards: a listener, a route, a cluster, the router.
// Everything else is as Envoy has it by default.
const minimalBootstrap = `{
"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN}}},
"static_resources": {
  "listeners": [{"name": "http", "address": {"socket_address": {"address": "0.0.0.0", "port_value": PORT}},
    "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      "stat_prefix": "http",
      "route_config": {"name": "http", "virtual_hosts": [{"name": "example", "domains": ["example.com"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]}]},
      "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
  "clusters": [{"name": "web", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": "web",
    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": BACKEND}}}}]}]}}]}
}`

// side is one of the proxies that are compared.
type side struct {
	name string
	// without takes a part out of what is published; nil leaves all in.
	without func(*parts)
	// logOff switches the access log off as its user does.
	logOff bool

	proxy *Proxy
	port  uint32
	load  *hammer

	rates, costs, middles, tails []float64
}

// parts is what Headgate publishes for one HTTPRoute, opened for changes.
type parts struct {
	manager   *hcmv3.HttpConnectionManager
	table     *routev3.RouteConfiguration
	bootstrap *bootstrapv3.Bootstrap
}

// dropFilters takes filters out of the chain by the beginnings of their names.
func (p *parts) dropFilters(prefixes ...string) {
	p.manager.HttpFilters = slices.DeleteFunc(p.manager.HttpFilters, func(f *hcmv3.HttpFilter) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(f.Name, prefix) })
	})
	for name := range p.table.TypedPerFilterConfig {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			delete(p.table.TypedPerFilterConfig, name)
		}
	}
}

func minimal() *side { return &side{name: "minimal"} }

// without is what is published with the access log off, and without a part.
func without(name string, part func(*parts)) *side {
	return &side{name: "without " + name, logOff: true, without: part}
}

// partSides are what BenchmarkGuardParts takes out, one at a time.
func partSides() []*side {
	idle := []string{"headgate.route", "envoy.filters.http.cors", "envoy.filters.http.stateful_session"}
	return []*side{
		minimal(),
		{name: "published"},
		{name: "access log off", logOff: true},
		without("the access log at all", func(p *parts) { p.manager.AccessLog = nil }),
		without("switching filters off that a route does not use", func(p *parts) {
			for _, name := range idle {
				delete(p.table.TypedPerFilterConfig, name)
			}
		}),
		without("the filters that it does not use", func(p *parts) { p.dropFilters(append(idle, "headgate.scope")...) }),
		without("the statistics of gRPC", (*parts).noGRPC),
		without("scopes", (*parts).noScopes),
		without("retries of what was not sent", (*parts).noRetries),
		without("the statistics of the route", (*parts).noRouteStats),
		without("the overload manager", (*parts).noOverload),
		without("the choice and the labels of statistics", (*parts).noStats),
		without("client address, path normalisation and header timeout", (*parts).noHardening),
		without("all of these", func(p *parts) {
			p.manager.AccessLog = nil
			p.dropFilters(idle...)
			for _, part := range []func(*parts){
				(*parts).noGRPC, (*parts).noScopes, (*parts).noRetries, (*parts).noRouteStats, (*parts).noOverload, (*parts).noStats, (*parts).noHardening,
			} {
				part(p)
			}
		}),
	}
}

func (p *parts) noGRPC() { p.dropFilters("envoy.filters.http.grpc_stats") }

func (p *parts) noScopes() {
	p.dropFilters("headgate.scope")
	p.table.RequestHeadersToRemove = nil
	p.manager.EarlyHeaderMutationExtensions = nil
	p.manager.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: p.table}
}

func (p *parts) noRetries()    { p.table.VirtualHosts[0].RetryPolicy = nil }
func (p *parts) noRouteStats() { p.table.VirtualHosts[0].Routes[0].StatPrefix = "" }
func (p *parts) noOverload()   { p.bootstrap.OverloadManager = nil }
func (p *parts) noStats()      { p.bootstrap.StatsConfig, p.bootstrap.DeferredStatOptions = nil, nil }

func (p *parts) noHardening() {
	p.manager.NormalizePath, p.manager.UseRemoteAddress, p.manager.RequestHeadersTimeout, p.manager.StripTrailingHostDot = nil, nil, nil, false
	p.manager.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT
}

// start runs the side's Envoy with one worker thread, in front of the backend.
func (s *side) start(b *testing.B, first bool, backend *Backend) {
	w := NewWorld(b)
	gateway := graphtest.GatewayKey
	s.proxy = w.newProxy(gateway)
	s.proxy.output = io.Discard // through a pipe, as in a container
	s.port = FreePort(b)
	if first {
		s.proxy.writeMinimal(w, proxyPort(s.port), uint32(backend.address.Port))
		w.run(s.proxy, 1)
		s.load = newHammer(b, proxyPort(s.port))
		return
	}
	key := graphtest.Key("web")
	w.Server.PublishEndpoints(key, Endpoints(key, backend))
	var log *v1beta1.AccessLog
	if s.logOff {
		log = &v1beta1.AccessLog{Format: v1beta1.AccessLogOff}
	}
	snap := xds.Translate(guardGraph(s.port, log), gateway)
	w.writeFiles(s.proxy, func(*xds.BootstrapParams) {})
	s.change(b, w, &snap)
	w.run(s.proxy, 1)
	w.AwaitAck(gateway, w.Server.Publish(snap))
	s.load = newHammer(b, proxyPort(s.port))
}

func guardGraph(port uint32, log *v1beta1.AccessLog) *graph.Graph {
	g := graphtest.Graph(graphtest.HTTP("http", port, "",
		graphtest.Route("web", []string{"example.com"}, graphtest.Rule("/", graphtest.Backend("web", 1)))))
	g.Gateways[0].Proxy.AccessLog = log
	return g
}

// change opens what is published and what the proxy starts with, and closes it again
// without what the side goes without.
func (s *side) change(b *testing.B, w *World, snap *xds.Snapshot) {
	if s.without == nil {
		return
	}
	p := parts{manager: &hcmv3.HttpConnectionManager{}, bootstrap: &bootstrapv3.Bootstrap{}}
	for name, m := range snap.Routes {
		if strings.HasSuffix(name, "/example.com") {
			p.table = xds.Table(m)
		}
	}
	var listener *listenerv3.Listener
	for _, m := range snap.Listeners {
		listener = m.(*listenerv3.Listener)
	}
	filter := listener.FilterChains[0].Filters[0]
	if err := filter.GetTypedConfig().UnmarshalTo(p.manager); err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(s.proxy.Dir, xds.FileBootstrap)
	content, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	if err := protojson.Unmarshal(content, p.bootstrap); err != nil {
		b.Fatal(err)
	}
	s.without(&p)
	if p.manager.GetScopedRoutes() == nil {
		clear(snap.Routes) // nobody would ask for them
	}
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(b, p.manager)}
	content, err = protojson.Marshal(p.bootstrap)
	if err != nil {
		b.Fatal(err)
	}
	w.write(file, content)
}

func packed(b *testing.B, m proto.Message) *anypb.Any {
	out, err := anypb.New(m)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// startSides runs all of them beside each other, in front of one backend; the first is the minimal one.
func startSides(b *testing.B, sides []*side) {
	backend := newPlainBackend(b)
	for i, s := range sides {
		s.start(b, i == 0, backend)
		s.load.saturate(b, 500) // connections and first allocations
	}
}

// saturate measures each of the sides once, beginning with another one in every round, so that
// whatever else the machine does hits all alike.
func saturate(b *testing.B, sides []*side, round int) {
	const requests = 1000
	for i := range sides {
		s := sides[(i+round)%len(sides)]
		before := s.proxy.computed(b)
		took := s.load.saturate(b, requests)
		s.costs = append(s.costs, float64((s.proxy.computed(b)-before).Nanoseconds())/1000/requests)
		s.rates = append(s.rates, requests/took.Seconds())
	}
}

// BenchmarkGuard compares what Headgate publishes for one HTTPRoute with the least that
// forwards, in the same Envoy with one worker thread each: the time that Envoy computes for one request, which a
// shared machine disturbs least; the requests a second at saturation; and the median and the 99th percentile of the times at
// 1,000 requests a second. It reports the medians over the rounds of the ratios within a round.
func BenchmarkGuard(b *testing.B) {
	least := minimal()
	sides := []*side{least, {name: "published"}, {name: "log-off", logOff: true}}
	startSides(b, sides)
	for round := 0; b.Loop(); round++ {
		saturate(b, sides, round)
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			p50, p99 := s.load.steady(b, 300, time.Millisecond)
			s.middles, s.tails = append(s.middles, p50), append(s.tails, p99)
		}
	}
	b.ReportMetric(median(least.costs), "minimal-µs/request")
	b.ReportMetric(median(least.rates), "minimal-requests/s")
	b.ReportMetric(median(least.middles), "minimal-p50-ms")
	b.ReportMetric(median(least.tails), "minimal-p99-ms")
	for _, s := range sides[1:] {
		b.ReportMetric(median(ratios(s.costs, least.costs)), s.name+"-cpu-ratio")
		b.ReportMetric(median(ratios(s.rates, least.rates)), s.name+"-rate-ratio")
		b.ReportMetric(median(ratios(s.middles, least.middles)), s.name+"-p50-ratio")
		b.ReportMetric(median(ratios(s.tails, least.tails)), s.name+"-p99-ratio")
	}
}

// BenchmarkGuardParts shows where the difference is: the same without one part of what is published at a time. It
// compares the lower quartiles of the time that Envoy computes, because what others do on the machine only adds to it.
func BenchmarkGuardParts(b *testing.B) {
	sides := partSides()
	startSides(b, sides)
	for round := 0; b.Loop(); round++ {
		saturate(b, sides, round)
	}
	for _, s := range sides { // shown in full with -v
		b.Logf("%-62s %5.1f µs/request %6.3f", s.name, quantile(s.costs, 0.25), quantile(s.costs, 0.25)/quantile(sides[0].costs, 0.25))
	}
}

func ratios(of, to []float64) []float64 {
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i] / to[i]
	}
	return out
}

func median(of []float64) float64 { return quantile(of, 0.5) }

func quantile(of []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[int(float64(len(sorted)-1)*part)]
}

func (p *Proxy) writeMinimal(w *World, port, backend uint32) {
	number := func(n uint32) string { return strconv.Itoa(int(n)) }
	w.write(filepath.Join(p.Dir, xds.FileBootstrap), []byte(strings.NewReplacer(
		"ADMIN", number(p.AdminPort), "PORT", number(port), "BACKEND", number(backend)).Replace(minimalBootstrap)))
}
