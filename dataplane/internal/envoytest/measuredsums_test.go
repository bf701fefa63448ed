// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headgate.dev/headgate/analysis/envoystats"
	"headgate.dev/headgate/analysis/sequential"
	"headgate.dev/headgate/dataplane/internal/graphtest"
	"headgate.dev/headgate/dataplane/xds"
)

// visitors send requests on a few connections and count what they get, by the version that answered.
type visitors struct {
	client *http.Client
	mu     sync.Mutex
	seen   map[string]sequential.Counts
}

func newVisitors(tb testing.TB, port uint32) *visitors {
	v := &visitors{seen: map[string]sequential.Counts{}, client: &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, MaxConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, Address(proxyPort(port)))
		},
	}}}
	tb.Cleanup(v.client.CloseIdleConnections)
	return v
}

// one asks for a host and gives the status, 0 when there was no answer.
func (v *visitors) one(host string) int {
	request, err := http.NewRequest(http.MethodGet, "http://proxy/", nil)
	if err != nil {
		return 0
	}
	request.Host = host
	answer, err := v.client.Do(request)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.seen[answer.Header.Get("X-Version")]
	if c.N++; answer.StatusCode >= 500 {
		c.X++
	}
	v.seen[answer.Header.Get("X-Version")] = c
	return answer.StatusCode
}

// many sends n requests, eight at a time.
func (v *visitors) many(n int, host string) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range n / 8 {
				v.one(host)
			}
		})
	}
	all.Wait()
}

// TestTheSumsAreTheClients sends thousands of requests to two versions, with a proxy and a control plane
// that are started again in between, and wants exactly these from what the proxies said. What happened while the
// control plane was away is not known, and not counted.
func TestTheSumsAreTheClients(t *testing.T) {
	m := newReporting(t)
	port := FreePort(t)
	backends := map[string]*Backend{}
	for i, name := range []string{"stable", "canary"} {
		count := 0
		var mu sync.Mutex
		backends[name] = NewBackendFunc(t, name, func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			count++
			fails := count%(50-40*i) == 0 // 2 % of stable, 10 % of the canary
			mu.Unlock()
			w.Header().Set("X-Version", name)
			if fails {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		m.endpoints(name, backends[name])
	}
	route := graphtest.Route("release", nil, graphtest.Rule("/", graphtest.Backend("stable", 80), graphtest.Backend("canary", 20)))
	route.Running = true
	g := graphtest.Graph(graphtest.HTTP("http", port, "", route))
	m.publish(g, func(xds.Snapshot) {})
	v, tap := newVisitors(t, port), m.open("stable", "canary")
	var got [2]sequential.Counts
	gaps := 0
	take := func() envoystats.Reading {
		r := tap.Take(time.Time{})
		for i, arm := range []envoystats.Arm{r.Stable, r.Canary} {
			got[i].N += arm.Requests.N
			got[i].X += arm.Requests.X
		}
		if gaps += r.Gaps; r.Dropped > 0 {
			t.Errorf("refused: %s", r.Why)
		}
		return r
	}
	settled := func() {
		t.Helper()
		m.Eventually("the sums are the clients'", func() error {
			take()
			if want := [2]sequential.Counts{v.seen["stable"], v.seen["canary"]}; got != want {
				return fmt.Errorf("got %v, the clients have %v", got, want)
			}
			return nil
		})
		// Nothing comes twice.
		from := take().Newest
		m.Eventually("another flush", func() error {
			if r := take(); !r.Newest.After(from) {
				return fmt.Errorf("none after %s", from)
			}
			return nil
		})
		if want := [2]sequential.Counts{v.seen["stable"], v.seen["canary"]}; got != want {
			t.Fatalf("got %v, the clients have %v", got, want)
		}
	}
	v.many(4000, "example.com")
	settled()

	// The proxy goes and comes back.
	m.proxy.Stop()
	m.proxy = m.StartProxy(graphtest.GatewayKey)
	m.publish(g, func(xds.Snapshot) {})
	m.Eventually("the proxy serves", func() error {
		if v.one("example.com") != http.StatusOK {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	v.many(4000, "example.com")
	settled()

	// The control plane goes and comes back; the proxy serves on.
	m.StopServer()
	before := v.seen["stable"].N + v.seen["canary"].N
	v.many(400, "example.com")
	time.Sleep(2500 * time.Millisecond) // flushes that reach nobody
	lost := v.seen["stable"].N + v.seen["canary"].N - before
	m.StartServer()
	for name, backend := range backends {
		m.endpoints(name, backend)
	}
	m.publish(g, func(xds.Snapshot) {})
	gaps = 0
	m.Eventually("the proxy reports again", func() error {
		if take(); gaps == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	take()
	if known := got[0].N + got[1].N; known < before || known > before+lost {
		t.Errorf("%v requests are known, of %v before and %v while nobody heard", known, before, lost)
	}
	t.Logf("of %v requests while nobody heard, %v are known", lost, got[0].N+got[1].N-before)
	v.seen["stable"], v.seen["canary"] = got[0], got[1]
	v.many(4000, "example.com")
	settled()
	t.Logf("stable %+v, canary %+v", got[0], got[1])
}

// TestMeasurementsAreFresh is how long it takes from a response until its request is counted.
func TestMeasurementsAreFresh(t *testing.T) {
	m := newReporting(t)
	port := FreePort(t)
	m.endpoints("web", NewBackend(t, "web"))
	route := graphtest.Route("web", nil, graphtest.Rule("/", graphtest.Backend("web", 1)))
	route.Running = true
	m.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)), func(xds.Snapshot) {})
	v, tap := newVisitors(t, port), m.open("none", "web")
	v.one("example.com")
	m.sum(tap, 1)
	var took []time.Duration
	for i := range 12 {
		time.Sleep(time.Duration(i*83) * time.Millisecond)
		if status := v.one("example.com"); status != http.StatusOK {
			t.Fatal(status)
		}
		start := time.Now()
		for tap.Take(time.Time{}).Canary.Requests.N == 0 {
			if time.Since(start) > patience {
				t.Fatal("it is never counted")
			}
			time.Sleep(5 * time.Millisecond)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("p50 %s, largest %s", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 1500*time.Millisecond {
		t.Errorf("half of the requests take longer than %s to be counted", median)
	}
}

// TestTheEndpointsOfStableAreCountedOneByOne has three endpoints, of which one fails often.
func TestTheEndpointsOfStableAreCountedOneByOne(t *testing.T) {
	m := newReporting(t)
	port := FreePort(t)
	var pods []*Backend
	want := map[string]sequential.Counts{}
	for i := range 3 {
		count := 0
		var mu sync.Mutex
		var b *Backend
		b = NewBackendFunc(t, "stable", func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			c := want[b.address.String()]
			count++
			if c.N++; i == 1 && count%3 == 0 {
				c.X++
				w.WriteHeader(http.StatusBadGateway)
			}
			want[b.address.String()] = c
		})
		pods = append(pods, b)
	}
	m.endpoints("stable", pods...)
	m.endpoints("canary", pods[0])
	route := graphtest.Route("release", nil, graphtest.Rule("/", graphtest.Backend("stable", 1), graphtest.Backend("canary", 0)))
	route.Running = true
	m.publish(graphtest.Graph(graphtest.HTTP("http", port, "", route)), func(xds.Snapshot) {})
	v, tap := newVisitors(t, port), m.open("stable", "canary")
	asked := func() {
		m.Eventually("the proxy knows that it is to report endpoints", func() error {
			v.one("example.com")
			if len(tap.Take(time.Time{}).StablePods) == 0 {
				return fmt.Errorf("it reports none")
			}
			return nil
		})
	}
	asked()
	time.Sleep(2500 * time.Millisecond)
	tap.Take(time.Time{})
	clear(want)
	for range 600 {
		v.one("example.com")
	}
	got := map[string]sequential.Counts{}
	m.Eventually("the endpoints are counted", func() error {
		for _, p := range tap.Take(time.Time{}).StablePods {
			c := got[p.Name]
			got[p.Name] = sequential.Counts{N: c.N + p.Requests.N, X: c.X + p.Requests.X}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-endpoint +counted):\n%s", diff)
		}
		return nil
	})
	t.Logf("%v", got)
}
