// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"headgate.dev/headgate/api/v1beta1"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// oneClient sends requests one after the other on one connection.
func oneClient(b *testing.B, port uint32) func(host string) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, Address(proxyPort(port)))
	}}
	client := &http.Client{Transport: transport, Timeout: patience}
	b.Cleanup(client.CloseIdleConnections)
	return func(host string) {
		request, err := http.NewRequest(http.MethodGet, "http://proxy/", nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Host = host
		answer, err := client.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			b.Fatalf("%s: %s", host, answer.Status)
		}
	}
}

// BenchmarkRouteStatistics reports how much memory Envoy has allocated when each of many
// routes has had a request: without statistics of routes, with those that Headgate turns on,
// and with a histogram of each as well.
func BenchmarkRouteStatistics(b *testing.B) {
	const routes = 5000
	for _, row := range []struct {
		name, extra string
		counted     bool
	}{
		{name: "nothing"},
		{name: "classes", counted: true},
		{name: "classes and times", counted: true, extra: `{"stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": "vhost\\..*\\.upstream_rq_time"}}]}}}}`},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				w := NewWorld(b)
				f := newFleetOn(b, &rig{World: w, proxy: w.StartProxyWith(graphtest.GatewayKey, func(p *xds.BootstrapParams) { p.Extra = []byte(row.extra) })}, routes)
				if !row.counted {
					snap := xds.Translate(f.graph(), graphtest.GatewayKey)
					for _, m := range snap.Routes {
						for _, host := range xds.Table(m).VirtualHosts {
							for _, route := range host.Routes {
								route.StatPrefix = ""
							}
						}
					}
					f.AwaitAck(graphtest.GatewayKey, f.Server.Publish(snap))
				}
				before := f.proxy.allocated(b)
				request := oneClient(b, f.port)
				for i := range routes {
					request(fmt.Sprintf("host-%d.example.com", i))
				}
				time.Sleep(1500 * time.Millisecond) // histograms are merged each second
				b.ReportMetric(before, "MB-before")
				b.ReportMetric(f.proxy.allocated(b), "MB-after")
				f.proxy.Stop()
			}
		})
	}
}

// allocated is Envoy's heap in use, in MB.
func (p *Proxy) allocated(b *testing.B) float64 {
	page, err := p.Admin("/memory")
	if err != nil {
		b.Fatal(err)
	}
	var memory struct{ Allocated string }
	if err := json.Unmarshal([]byte(page), &memory); err != nil {
		b.Fatal(err)
	}
	bytes, err := strconv.ParseFloat(memory.Allocated, 64)
	if err != nil {
		b.Fatal(err)
	}
	return bytes / 1e6
}

// BenchmarkAccessLog reports the time that Envoy computes for one request, with the JSON log and
// without. Both are measured in turn, a thousand requests each, so that whatever else
// the machine does hits both.
func BenchmarkAccessLog(b *testing.B) {
	const requests = 1000
	r := newRig(b)
	port := FreePort(b)
	r.endpoints("web", NewBackend(b, "web"))
	r.endpoints("none")
	request := oneClient(b, port)
	var busy [2]time.Duration
	rounds := 0
	for b.Loop() {
		for i, log := range []*v1beta1.AccessLog{{Format: v1beta1.AccessLogOff}, nil} {
			r.publish(logged(port, log))
			request("example.com")
			before := r.proxy.computed(b)
			for range requests {
				request("example.com")
			}
			busy[i] += r.proxy.computed(b) - before
		}
		rounds++
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(rounds*requests) }
	b.ReportMetric(each(busy[0]), "µs/request-off")
	b.ReportMetric(each(busy[1]), "µs/request-on")
	b.ReportMetric(float64(busy[1])/float64(busy[0]), "on/off")
}

// computed is how long all of Envoy's threads ran until now, from the kernel's account.
func (p *Proxy) computed(b *testing.B) time.Duration {
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p.command.Process.Pid), "task", "*", "schedstat"))
	if err != nil || len(tasks) == 0 {
		b.Fatalf("the threads of Envoy: %v", err)
	}
	sum := time.Duration(0)
	for _, task := range tasks {
		account, err := os.ReadFile(task)
		if err != nil {
			b.Fatal(err)
		}
		ran, err := strconv.ParseInt(strings.Fields(string(account))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ran)
	}
	return sum
}
