// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want options
		err  string
	}{
		{
			"defaults",
			map[string]string{"HOSTNAME": "shop-1"},
			options{Version: "dev", Pod: "shop-1", Port: 8080, DrainDelay: 5 * time.Second},
			"",
		},
		{
			"every knob",
			map[string]string{
				"VERSION": "v2", "POD_NAME": "p", "HOSTNAME": "h", "PORT": "9000", "ERROR_RATE": "0.05", "LATENCY": "20ms",
				"CRASH_AFTER": "1m", "START_DELAY": "1s", "READY_DELAY": "2s", "DRAIN_DELAY": "0s",
				"WAITING": "2.5", "VERDICT": "Pass", "GATE_TOKEN": "sesame",
			},
			options{
				Version: "v2", Pod: "p", Port: 9000, ErrorRate: 0.05, Latency: 20 * time.Millisecond,
				CrashAfter: time.Minute, StartDelay: time.Second, ReadyDelay: 2 * time.Second,
				Waiting: 2.5, Verdict: "Pass", GateToken: "sesame",
			},
			"",
		},
		{"a rate in percent", map[string]string{"ERROR_RATE": "5"}, options{}, `ERROR_RATE="5": write a share from 0 to 1`},
		{"a rate that is no number", map[string]string{"ERROR_RATE": "NaN"}, options{}, "write a share"},
		{"a duration without unit", map[string]string{"LATENCY": "20"}, options{}, `LATENCY="20": write a duration such as`},
		{"a negative duration", map[string]string{"CRASH_AFTER": "-1s"}, options{}, "write a duration"},
		{"a report of no number", map[string]string{"WAITING": "many"}, options{}, `WAITING="many": write a number`},
		{"a port that is none", map[string]string{"PORT": "http"}, options{}, "write a number from 1 to 65535"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseOptions(func(name string) string { return tt.env[name] })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error("(-want +got):", diff)
			}
		})
	}
}

func TestServe(t *testing.T) {
	tests := []struct {
		name      string
		options   options
		path      string
		chance    float64
		status    int
		answer    answer
		wantSleep time.Duration
	}{
		{"answers with its version, pod and path", options{Version: "v1", Pod: "p"}, "/cart?x=1", 0, 200, answer{Version: "v1", Pod: "p", Path: "/cart"}, 0},
		{
			"fails as often as the error rate says",
			options{Version: "v1", ErrorRate: 0.3},
			"/", 0.29, 500,
			answer{Version: "v1", Path: "/", Error: "failing on purpose"},
			0,
		},
		{"and not more often", options{Version: "v1", ErrorRate: 0.3}, "/", 0.3, 200, answer{Version: "v1", Path: "/"}, 0},
		{"waits for the latency", options{Version: "v1", Latency: time.Second}, "/", 0, 200, answer{Version: "v1", Path: "/"}, time.Second},
		{
			"a request's knobs win over the environment's",
			options{Version: "v1", ErrorRate: 1, Latency: time.Second},
			"/?error_rate=0&latency=5ms", 0, 200,
			answer{Version: "v1", Path: "/"},
			5 * time.Millisecond,
		},
		{"knobs for its version", options{Version: "v1"}, "/?error_rate=1&only=v1", 0.5, 500, answer{Version: "v1", Path: "/", Error: "failing on purpose"}, 0},
		{"knobs for another version", options{Version: "v1"}, "/?error_rate=1&only=v2", 0.5, 200, answer{Version: "v1", Path: "/"}, 0},
		{
			"a bad knob is told to the caller",
			options{Version: "v1"},
			"/?latency=5", 0, 400,
			answer{Version: "v1", Path: "/", Error: `latency="5": write a duration such as 250ms or 10s`},
			0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slept time.Duration
			a := newApp(tt.options, func() float64 { return tt.chance }, func(_ *http.Request, d time.Duration) { slept += d })
			w := httptest.NewRecorder()
			a.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
			var got answer
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err, w.Body)
			}
			if diff := cmp.Diff(tt.answer, got); diff != "" || w.Code != tt.status || slept != tt.wantSleep {
				t.Errorf("status %d, slept %s, answer (-want +got): %s", w.Code, slept, diff)
			}
			if w.Header().Get("X-Version") != tt.options.Version {
				t.Errorf("X-Version = %q", w.Header().Get("X-Version"))
			}
		})
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String(), w.Header()
}

func TestProbesAndMetrics(t *testing.T) {
	a := newApp(options{Version: "v1", ErrorRate: 1}, func() float64 { return 0 }, nil)
	h := a.routes()
	if code, _, _ := get(t, h, "/healthz"); code != 200 {
		t.Errorf("/healthz = %d; the error rate must not touch probes", code)
	}
	if code, body, _ := get(t, h, "/readyz"); code != 503 || !strings.Contains(body, "starting") {
		t.Errorf("/readyz before it is ready = %d %q", code, body)
	}
	a.ready.Store(true)
	if code, _, _ := get(t, h, "/readyz"); code != 200 {
		t.Errorf("/readyz = %d", code)
	}
	get(t, h, "/cart")
	if _, body, _ := get(t, h, "/metrics"); !strings.Contains(body, `app_requests_total{code="500",version="v1"} 1`) {
		t.Errorf("/metrics does not count the request:\n%s", body)
	}
	a.draining.Store(true)
	if code, _, _ := get(t, h, "/readyz"); code != 503 {
		t.Errorf("/readyz while draining = %d", code)
	}
	if code, _, header := get(t, h, "/?error_rate=0"); code != 200 || header.Get("Connection") != "close" {
		t.Errorf("while draining: %d, Connection %q; want an answer that ends the connection", code, header.Get("Connection"))
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// serve runs the whole program, and returns its address and a function that is
// its SIGTERM.
func serve(t *testing.T, o options) (address string, terminate context.CancelFunc, ended <-chan error) {
	t.Helper()
	o.Port = freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, o) }()
	t.Cleanup(cancel)
	address = fmt.Sprintf("127.0.0.1:%d", o.Port)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return address, cancel, done
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestOnePortSpeaksThreeProtocols(t *testing.T) {
	address, _, _ := serve(t, options{Version: "v1"})
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		var protocols http.Protocols
		set(&protocols)
		transport := &http.Transport{Protocols: &protocols}
		response, err := (&http.Client{Transport: transport}).Get("http://" + address + "/x")
		if err != nil {
			t.Fatal(name, err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		transport.CloseIdleConnections()
		if response.Proto != name || !strings.Contains(string(body), `"version":"v1"`) {
			t.Errorf("%s: %s %s", name, response.Proto, body)
		}
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header metadata.MD
	answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	if err != nil || answer.Status != healthpb.HealthCheckResponse_SERVING || strings.Join(header.Get("x-version"), "") != "v1" {
		t.Errorf("gRPC: %v, %v, header %v", answer, err, header)
	}
}

func TestGRPCFailsOnPurpose(t *testing.T) {
	address, _, _ := serve(t, options{Version: "v2", ErrorRate: 1})
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header metadata.MD
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Header(&header))
	if status.Code(err) != codes.Internal || strings.Join(header.Get("x-version"), "") != "v2" {
		t.Errorf("gRPC: %v, header %v; want Internal from v2", err, header)
	}
}

func TestShutdownGoesOnServingThenDrains(t *testing.T) {
	address, terminate, ended := serve(t, options{Version: "v1", DrainDelay: 300 * time.Millisecond, Latency: 0})
	slow := make(chan error, 1)
	terminate()
	time.Sleep(100 * time.Millisecond)
	// A connection opened after SIGTERM, with an answer that outlasts the delay.
	go func() {
		response, err := http.Get("http://" + address + "/?latency=600ms")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode != 200 {
				err = fmt.Errorf("status %d", response.StatusCode)
			}
		}
		slow <- err
	}()
	if err := <-slow; err != nil {
		t.Error("a request during the drain failed:", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the app did not end")
	}
}
