// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOptionsSayWhatToWrite(t *testing.T) {
	good := Options{URL: "http://10.250.0.1/", Rate: 10, Duration: time.Second}
	tests := []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"an address without scheme", func(o *Options) { o.URL = "10.250.0.1" }, "write http://ADDRESS"},
		{"another scheme", func(o *Options) { o.URL = "ftp://10.250.0.1" }, "write http://ADDRESS"},
		{"gRPC over https", func(o *Options) { o.URL, o.Protocol = "https://10.250.0.1", GRPC }, "write http1 or h2 for https"},
		{"HTTP/2 over TLS without TLS", func(o *Options) { o.Protocol = H2 }, "any but h2 for http"},
		{"no rate", func(o *Options) { o.Rate = 0 }, "write requests per second"},
		{"a rate beyond the bound", func(o *Options) { o.Rate = MaxRate + 1 }, "at most 20000"},
		{"no duration", func(o *Options) { o.Duration = 0 }, "write how long"},
		{"more requests than fit in memory", func(o *Options) { o.Rate, o.Duration = MaxRate, time.Hour }, "lower one"},
		{"an unknown protocol", func(o *Options) { o.Protocol = "http3" }, "write http1, h2c, h2 or grpc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := good
			tt.change(&o)
			if _, err := Do(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Do = %v, want %q", err, tt.want)
			}
		})
	}
}

// server answers like the sample app behind a gateway.
func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &protocols
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func answerAs(w http.ResponseWriter, version string, status int) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"version": version})
}

func TestDoTellsWhoIsToBlame(t *testing.T) {
	for _, protocol := range []Protocol{HTTP1, H2C} {
		t.Run(string(protocol), func(t *testing.T) {
			var n atomic.Int64
			var host atomic.Value
			url := server(t, func(w http.ResponseWriter, r *http.Request) {
				host.Store(r.Host + " " + r.Proto)
				switch n.Add(1) % 10 {
				case 0:
					answerAs(w, "v2", 500)
				case 1:
					http.Error(w, "no healthy upstream", http.StatusServiceUnavailable) // the gateway speaks
				case 2:
					answerAs(w, "v2", 200)
				default:
					answerAs(w, "v1", 200)
				}
			})
			report, err := Do(t.Context(), Options{URL: url, Host: "shop.example", Rate: 200, Duration: 500 * time.Millisecond, Protocol: protocol})
			if err != nil {
				t.Fatal(err)
			}
			if report.Requests != 100 || report.NotCaused() != 10 || report.Blameless[NoVersion] != 10 {
				t.Errorf("requests %d, not caused %d; want 100 and 10\n%s", report.Requests, report.NotCaused(), report)
			}
			if v2 := report.Versions["v2"]; v2.Requests != 20 || v2.Errors != 10 || v2.ErrorRate() != 0.5 {
				t.Errorf("v2 = %+v, want 10 errors of 20", v2)
			}
			if v1 := report.Versions["v1"]; v1.Requests != 70 || v1.Errors != 0 || v1.P99 == 0 {
				t.Errorf("v1 = %+v, want 70 without error", v1)
			}
			if !strings.Contains(report.String(), "status 503: no healthy upstream") {
				t.Errorf("the report does not show the gateway's words:\n%s", report)
			}
			want := map[Protocol]string{HTTP1: "shop.example HTTP/1.1", H2C: "shop.example HTTP/2.0"}[protocol]
			if host.Load() != want {
				t.Errorf("host and protocol = %v, want %s", host.Load(), want)
			}
		})
	}
}

func TestDoSeesWhatTheClientsLibraryHides(t *testing.T) {
	var n atomic.Int64
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%5 == 0 { // on a connection that has served before
			panic(http.ErrAbortHandler)
		}
		answerAs(w, "v1", 200)
	})
	report, err := Do(t.Context(), Options{URL: url, Rate: 50, Duration: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if report.Blameless[SentTwice] == 0 || len(report.Failures) != report.NotCaused() {
		t.Errorf("lost requests that were sent again are not reported:\n%s", report)
	}
}

func TestDoSpeaksTLSAndCountsMisdirectedRequests(t *testing.T) {
	for protocol, want := range map[Protocol]string{HTTP1: "HTTP/1.1", H2: "HTTP/2.0"} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Proto != want || r.TLS.ServerName != "example.com" {
				t.Errorf("%s for %s, want %s for example.com", r.Proto, r.TLS.ServerName, want)
			}
			w.WriteHeader(http.StatusMisdirectedRequest)
		}))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		roots := x509.NewCertPool()
		roots.AddCert(s.Certificate())
		report, err := Do(t.Context(), Options{URL: s.URL, Host: "example.com", Roots: roots, Rate: 50, Duration: 200 * time.Millisecond, Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		if report.Requests != 10 || report.Blameless[Misdirected] != 10 {
			t.Errorf("%s: want 10 misdirected requests:\n%s", protocol, report)
		}
	}
}

func TestDoSeesLostConnections(t *testing.T) {
	tests := []struct {
		name string
		url  func(t *testing.T) string
		want Failure
	}{
		{"nobody listens", func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			return "http://" + l.Addr().String()
		}, Refused},
		{"the connection is reset instead of an answer", func(t *testing.T) string {
			return server(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			})
		}, Reset},
		{"the answer breaks off", func(t *testing.T) string {
			return server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				fmt.Fprint(w, "half")
				panic(http.ErrAbortHandler)
			})
		}, Reset},
		{"no answer in time", func(t *testing.T) string {
			return server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, Timeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report, err := Do(t.Context(), Options{URL: tt.url(t), Rate: 50, Duration: 100 * time.Millisecond, Timeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if report.Blameless[tt.want] != 5 || len(report.Versions) != 0 {
				t.Errorf("want 5 of %q\n%s", tt.want, report)
			}
		})
	}
}

func TestASlowAnswerDoesNotSlowTheRate(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		answerAs(w, "v1", 200)
	})
	begin := time.Now()
	report, err := Do(t.Context(), Options{URL: url, Rate: 100, Duration: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); report.Versions["v1"].Requests != 50 || took > 3*time.Second {
		t.Errorf("50 requests of 300 ms each took %s, want well below their sum of 15 s\n%s", took, report)
	}
	if report.Versions["v1"].P50 < 300*time.Millisecond {
		t.Errorf("p50 = %s, want at least what the server slept", report.Versions["v1"].P50)
	}
}

func TestStopAndSnapshot(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, _ *http.Request) { answerAs(w, "v1", 200) })
	run, err := Begin(t.Context(), Options{URL: url, Rate: 100, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for run.Snapshot().Requests == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if report := run.Stop(); report.Requests == 0 || report.NotCaused() > 0 {
		t.Errorf("after Stop:\n%s", report)
	}
}

func TestSummarise(t *testing.T) {
	ms := time.Millisecond
	results := []Result{
		{Due: 1500 * ms, Latency: 30 * ms, Status: 200, Version: "v2"},
		{Due: 0, Latency: 10 * ms, Status: 200, Version: "v1"},
		{Due: 100 * ms, Latency: 20 * ms, Status: 500, Version: "v1", Failure: OwnError},
		{Due: 200 * ms, Latency: 5 * ms, Failure: Reset, Detail: "second"},
		{Due: 150 * ms, Latency: 5 * ms, Failure: Reset, Detail: "first"},
		{Due: 3100 * ms, Latency: ms, Status: 200, Version: "v2"},
	}
	start := time.Now()
	want := Report{
		Start: start, Requests: 6,
		Versions: map[string]Stats{
			"v1": {Requests: 2, Errors: 1, P50: 20 * ms, P99: 20 * ms, Max: 20 * ms, FirstError: 120 * ms, Last: 100 * ms},
			"v2": {Requests: 2, P50: 30 * ms, P99: 30 * ms, Max: 30 * ms, Last: 3100 * ms},
		},
		Blameless: map[Failure]int{Reset: 2},
		Examples:  map[Failure]Result{Reset: results[4], OwnError: results[2]},
		Failures:  []Result{results[2], results[4], results[3]},
		Seconds: []Second{
			{Versions: map[string]int{"v1": 2}, Errors: map[string]int{"v1": 1}, Blameless: 2},
			{Versions: map[string]int{"v2": 1}, Errors: map[string]int{}},
			{Versions: map[string]int{}, Errors: map[string]int{}},
			{Versions: map[string]int{"v2": 1}, Errors: map[string]int{}},
		},
	}
	got := Summarise(start, results)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):", diff)
	}
	if got.Seconds[0].Share("v1") != 1 || got.Seconds[2].Share("v1") != 0 {
		t.Error("shares of the first and the empty second are wrong")
	}
}

func TestJudgeGRPC(t *testing.T) {
	tests := []struct {
		name    string
		err     error
		version string
		want    Failure
	}{
		{"an answer of a version", nil, "v1", None},
		{"an answer without version", nil, "", NoVersion},
		{"a version fails", status.Error(codes.Internal, "x"), "v1", OwnError},
		{"a version refuses the caller's argument", status.Error(codes.InvalidArgument, "x"), "v1", None},
		{"the gateway has no backend", status.Error(codes.Unavailable, "no healthy upstream"), "", NoVersion},
		{"nobody answers in time", status.Error(codes.DeadlineExceeded, "x"), "", Timeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := judgeGRPC(tt.err, tt.version); got.Failure != tt.want {
				t.Errorf("judgeGRPC = %q, want %q", got.Failure, tt.want)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	tests := map[Failure][]error{
		Timeout: {context.DeadlineExceeded, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}},
		Refused: {&net.OpError{Op: "dial", Err: errors.New("connection refused")}},
		Reset:   {io.EOF, io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: errors.New("x")}, errors.New("http2: server sent GOAWAY and closed the connection")},
		Other:   {errors.New("malformed HTTP response")},
	}
	for want, errs := range tests {
		for _, err := range errs {
			if got := classify(fmt.Errorf("wrapped: %w", err)); got != want {
				t.Errorf("classify(%v) = %q, want %q", err, got, want)
			}
		}
	}
}
