// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// options are the knobs of the app. ErrorRate and Latency can also be given with
// a request: ?error_rate=0.5&latency=20ms. With &only=v2 they are meant for that version,
// and the others go on as they are.
type options struct {
	Version string
	Pod     string
	Port    int
	// ErrorRate is the share of requests answered with status 500, 0 to 1.
	ErrorRate float64
	// Latency is added to each answer.
	Latency time.Duration
	// CrashAfter is when the process exits with status 1; zero means never.
	CrashAfter time.Duration
	// StartDelay passes before the port opens, ReadyDelay before /readyz says so.
	StartDelay, ReadyDelay time.Duration
	// DrainDelay is how long the app goes on serving after SIGTERM, while proxies
	// learn that it goes.
	DrainDelay time.Duration
	// Waiting is the number in its report.
	Waiting float64
	// Verdict is what it answers as a webhook, to those who have GateToken; without one to nobody.
	Verdict, GateToken string
}

// parseOptions reads options from the environment. A value that cannot be read
// is an error that says what to write.
func parseOptions(getenv func(string) string) (options, error) {
	o := options{Version: getenv("VERSION"), Pod: getenv("POD_NAME"), Port: 8080, DrainDelay: 5 * time.Second}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Pod == "" {
		o.Pod = getenv("HOSTNAME")
	}
	if s := getenv("PORT"); s != "" {
		port, err := strconv.Atoi(s)
		if err != nil || port < 1 || port > 65535 {
			return o, fmt.Errorf("PORT=%q: write a number from 1 to 65535", s)
		}
		o.Port = port
	}
	if s := getenv("WAITING"); s != "" {
		waiting, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return o, fmt.Errorf("WAITING=%q: write a number", s)
		}
		o.Waiting = waiting
	}
	o.Verdict, o.GateToken = getenv("VERDICT"), getenv("GATE_TOKEN")
	if s := getenv("ERROR_RATE"); s != "" {
		rate, err := parseRate(s)
		if err != nil {
			return o, fmt.Errorf("ERROR_RATE=%q: %w", s, err)
		}
		o.ErrorRate = rate
	}
	for name, field := range map[string]*time.Duration{
		"LATENCY": &o.Latency, "CRASH_AFTER": &o.CrashAfter, "START_DELAY": &o.StartDelay,
		"READY_DELAY": &o.ReadyDelay, "DRAIN_DELAY": &o.DrainDelay,
	} {
		if s := getenv(name); s != "" {
			d, err := parseDelay(s)
			if err != nil {
				return o, fmt.Errorf("%s=%q: %w", name, s, err)
			}
			*field = d
		}
	}
	return o, nil
}

func parseRate(s string) (float64, error) {
	rate, err := strconv.ParseFloat(s, 64)
	if err != nil || !(rate >= 0 && rate <= 1) { // the negation catches NaN
		return 0, fmt.Errorf("write a share from 0 to 1, such as 0.05")
	}
	return rate, nil
}

func parseDelay(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("write a duration such as 250ms or 10s")
	}
	return d, nil
}

// forRequest applies the knobs of a request's query.
func (o options) forRequest(query url.Values) (options, error) {
	var err error
	if only := query.Get("only"); only != "" && only != o.Version {
		return o, nil
	}
	if s := query.Get("error_rate"); s != "" {
		if o.ErrorRate, err = parseRate(s); err != nil {
			return o, fmt.Errorf("error_rate=%q: %w", s, err)
		}
	}
	if s := query.Get("latency"); s != "" {
		if o.Latency, err = parseDelay(s); err != nil {
			return o, fmt.Errorf("latency=%q: %w", s, err)
		}
	}
	return o, nil
}

// answer is the body of every answer, also of failures: whoever reads it knows
// which version is to blame.
type answer struct {
	Version string `json:"version"`
	Pod     string `json:"pod"`
	Path    string `json:"path"`
	Error   string `json:"error,omitempty"`
}

// app answers requests. Chance and Sleep are its randomness and its clock.
type app struct {
	options options
	// Chance returns a number from 0 up to 1.
	Chance func() float64
	// Sleep waits, or returns early when the request is gone.
	Sleep func(*http.Request, time.Duration)

	ready    atomic.Bool
	draining atomic.Bool
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	registry *prometheus.Registry
}

func newApp(o options, chance func() float64, sleep func(*http.Request, time.Duration)) *app {
	a := &app{
		options: o, Chance: chance, Sleep: sleep, registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "app_requests_total", Help: "Requests answered, by version and status code.",
		}, []string{"version", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "app_request_duration_seconds", Help: "Time to answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
			// The same as a native histogram, for those who scrape these.
			NativeHistogramBucketFactor: 1.1,
		}, []string{"version"}),
	}
	a.registry.MustRegister(a.requests, a.seconds)
	return a
}

// routes returns the handler: probes, metrics, and the answer everywhere else.
func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case a.draining.Load():
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		case !a.ready.Load():
			http.Error(w, "starting", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	mux.Handle("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /report", a.report)
	mux.HandleFunc("POST /gate", a.gate)
	mux.HandleFunc("/", a.serve)
	return mux
}

func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	body := answer{Version: a.options.Version, Pod: a.options.Pod, Path: r.URL.Path}
	status := http.StatusOK
	o, err := a.options.forRequest(r.URL.Query())
	switch {
	case err != nil:
		status, body.Error = http.StatusBadRequest, err.Error()
	case a.Chance() < o.ErrorRate:
		status, body.Error = http.StatusInternalServerError, "failing on purpose"
	}
	if err == nil && o.Latency > 0 {
		a.Sleep(r, o.Latency)
	}
	if a.draining.Load() {
		// The caller's next request then goes to somebody who stays. HTTP/2 turns
		// this into a graceful GOAWAY.
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Version", body.Version)
	w.Header().Set("X-Pod", body.Pod)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone when this fails
	a.requests.WithLabelValues(body.Version, strconv.Itoa(status)).Inc()
	a.seconds.WithLabelValues(body.Version).Observe(time.Since(begin).Seconds())
}
