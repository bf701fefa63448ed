// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// admin plays Envoy's admin interface; load says what is open after a time.
type admin struct {
	mu    sync.Mutex
	start time.Time
	calls []string
	load  func(elapsed time.Duration) (requests, connections int)
	// streams are connections that do not speak HTTP, accepted all that ever were.
	streams, accepted func(elapsed time.Duration) int
}

func none(time.Duration) int { return 0 }

func (a *admin) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Method == http.MethodPost {
		a.calls = append(a.calls, req.URL.RequestURI())
		if a.start.IsZero() {
			a.start = time.Now()
		}
		return
	}
	elapsed := time.Since(a.start)
	requests, connections := a.load(elapsed)
	fmt.Fprintf(w, `{"stats":[
		{"name":"http.admin.downstream_rq_active","value":1},{"name":"http.admin.downstream_cx_active","value":1},
		{"name":"listener.admin.downstream_cx_active","value":1},{"name":"listener.stats.downstream_cx_total","value":%d},
		{"name":"listener.tcp-90.downstream_cx_active","value":%d},{"name":"listener.tcp-90.worker_0.downstream_cx_active","value":%[2]d},
		{"name":"listener.http-80.downstream_cx_active","value":%d},{"name":"listener.http-80.downstream_cx_total","value":%d},
		{"name":"http.http-80.downstream_rq_active","value":%d},{"name":"http.http-80.downstream_cx_active","value":%[3]d}]}`,
		elapsed.Milliseconds(), a.streams(elapsed), connections, a.accepted(elapsed), requests)
}

// drainWith asks for a drain and gives the answer and how long it took.
func drainWith(t *testing.T, a *admin) (string, int, time.Duration) {
	t.Helper()
	envoy := httptest.NewServer(a)
	defer envoy.Close()
	manager := httptest.NewServer(Handler(Options{
		Admin: envoy.URL, Path: "/drain", TokenHeader: "T", Token: "secret", Log: logr.Discard(), Poll: 5 * time.Millisecond,
		Notice: 60 * time.Millisecond, DrainTime: 200 * time.Millisecond, MaxTime: 500 * time.Millisecond,
	}))
	defer manager.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, manager.URL+"/drain", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("T", "secret")
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 200)
	n, _ := resp.Body.Read(body) // a short answer comes whole
	return strings.TrimSpace(string(body[:n])), resp.StatusCode, time.Since(start)
}

func TestDrain(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name     string
		load     func(time.Duration) (int, int)
		want     string
		min, max time.Duration
	}{
		{"load balancers get their time though nothing is open", func(time.Duration) (int, int) { return 0, 0 }, "every connection is closed", 60 * ms, 190 * ms},
		{
			"connections that close end it", func(d time.Duration) (int, int) {
				if d > 100*ms {
					return 0, 0
				}
				return 1, 3
			}, "every connection is closed", 100 * ms, 200 * ms,
		},
		{"idle connections are given up after the drain time", func(time.Duration) (int, int) { return 0, 2 }, "connections are idle", 200 * ms, 400 * ms},
		{
			"a running request is waited for", func(d time.Duration) (int, int) {
				if d > 300*ms {
					return 0, 1
				}
				return 1, 1
			}, "connections are idle", 300 * ms, 480 * ms,
		},
		{"a request that never ends is not", func(time.Duration) (int, int) { return 1, 1 }, "longest time", 490 * ms, 900 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &admin{load: tt.load, streams: none, accepted: none}
			answer, code, took := drainWith(t, a)
			if code != http.StatusOK || !strings.Contains(answer, tt.want) {
				t.Errorf("%d %q, want 200 and %q", code, answer, tt.want)
			}
			if took < tt.min || took > tt.max {
				t.Errorf("it took %s, want %s to %s", took, tt.min, tt.max)
			}
			if want := []string{"/healthcheck/fail", "/drain_listeners?graceful&skip_exit"}; !slices.Equal(a.calls, want) {
				t.Errorf("the proxy was told %q, want %q", a.calls, want)
			}
		})
	}
}

func TestDrainWaitsForWhatItCannotSee(t *testing.T) {
	const ms = time.Millisecond
	nothing := func(time.Duration) (int, int) { return 0, 0 }
	until := func(end time.Duration, value func(time.Duration) int) func(time.Duration) int {
		return func(d time.Duration) int { return value(min(d, end)) }
	}
	a := &admin{load: nothing, streams: none, accepted: until(200*ms, func(d time.Duration) int { return int(d / ms) })}
	if answer, _, took := drainWith(t, a); !strings.Contains(answer, "closed") || took < 250*ms || took > 450*ms {
		t.Errorf("with new connections for 200ms it ends after %s with %q; the last load balancer that noticed gets its 60ms too", took, answer)
	}
	a = &admin{load: nothing, accepted: none, streams: func(d time.Duration) int {
		if d > 300*ms {
			return 0
		}
		return 2
	}}
	if answer, _, took := drainWith(t, a); !strings.Contains(answer, "closed") || took < 300*ms || took > 480*ms {
		t.Errorf("with streams open for 300ms it ends after %s with %q", took, answer)
	}
}

func TestOnlyTheTokenDrains(t *testing.T) {
	a := &admin{load: func(time.Duration) (int, int) { return 0, 0 }}
	envoy := httptest.NewServer(a)
	defer envoy.Close()
	h := Handler(Options{Admin: envoy.URL, Path: "/drain", TokenHeader: "T", Token: "secret", Log: logr.Discard(), MaxTime: time.Second})
	for _, token := range []string{"", "wrong"} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/drain", nil)
		req.Header.Set("T", token)
		h.ServeHTTP(w, req)
		if w.Code != http.StatusForbidden || len(a.calls) > 0 {
			t.Errorf("token %q: %d with calls %q, want 403 and none", token, w.Code, a.calls)
		}
	}
}

func TestAProxyThatIsGoneEndsTheDrain(t *testing.T) {
	h := Handler(Options{Admin: "http://127.0.0.1:1", Path: "/drain", TokenHeader: "T", Token: "s", Log: logr.Discard(), MaxTime: time.Minute})
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/drain", nil)
	req.Header.Set("T", "s")
	h.ServeHTTP(w, req)
	if w.Code != http.StatusBadGateway {
		t.Errorf("code %d, want 502 at once", w.Code)
	}
}
