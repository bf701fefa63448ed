// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package load sends requests at a constant rate and tells who is to blame for
// each failure: the version that answered, or something on the way to it.
//
// The rate is open-loop: a slow answer does not delay the next request, and a
// latency counts from the moment the request was due, so that a stall is seen by
// every request that fell into it.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Protocol is how requests travel.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = "http1" // HTTP/1.1, connections are kept
	H2C   Protocol = "h2c"   // HTTP/2 without TLS, one connection
	H2    Protocol = "h2"    // HTTP/2 over TLS, one connection
	GRPC  Protocol = "grpc"  // the gRPC health service, one connection
)

// Bounds of one run: it can neither fill the memory nor run away.
const (
	MaxRate     = 20000.0
	MaxRequests = 5_000_000
	// MaxInFlight is how many requests wait for an answer at most; those due
	// beyond are counted as NotSent.
	MaxInFlight = 2000
)

// Options say what to send.
type Options struct {
	// URL is where to connect, such as http://10.250.0.1/checkout. Of https only
	// HTTP1 and H2 can be spoken.
	URL string
	// Host is the Host header (or :authority), and the server name of TLS; empty
	// means that of URL.
	Host string
	// Roots are who may sign the server's certificate; nil means the machine's.
	Roots *x509.CertPool
	// Rate is in requests per second.
	Rate float64
	// Duration ends the run, counted from its start.
	Duration time.Duration
	// Timeout of one request; zero means 5 s.
	Timeout  time.Duration
	Protocol Protocol // empty means HTTP1
	Header   http.Header
}

// Failure classifies a request that did not succeed.
type Failure string

// Only OwnError is the fault of a version; with the others no version answered.
const (
	None      Failure = ""
	OwnError  Failure = "own 5xx"           // a version answered, with 5xx (gRPC: a server-side code)
	NoVersion Failure = "answer of a proxy" // an answer without version: 503 of the gateway, 404, …
	// Misdirected is status 421: the connection is open, but is not for this host any
	// more. A client has to ask again on a new one (RFC 9110, section 15.5.20).
	Misdirected Failure = "misdirected (421)"
	// SentTwice is an answer that came only because the client's library sent the
	// request a second time, after the first was lost without an answer.
	SentTwice Failure = "sent twice"
	Refused   Failure = "no connection"
	Reset     Failure = "connection lost"
	Timeout   Failure = "timeout"
	NotSent   Failure = "not sent" // too many requests were waiting already
	Other     Failure = "other"
)

// Result is what became of one request.
type Result struct {
	// Due is when the request should be sent, counted from the start.
	Due time.Duration
	// Latency is from Due to the end of the answer.
	Latency time.Duration
	// Status is the HTTP status, or the gRPC code for GRPC; 0 without an answer.
	Status  int
	Version string
	Failure Failure
	// Detail is the error's text, for failures.
	Detail string
}

// sender sends one request and fills in Status, Version, Failure and Detail.
type sender interface {
	send(ctx context.Context) Result
	close()
}

// Run is a run in progress.
type Run struct {
	// Start is when the first request was due.
	Start  time.Time
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	results []Result
}

// Do sends the load and returns what became of it. It ends early with ctx;
// requests that are under way then are waited for.
func Do(ctx context.Context, o Options) (Report, error) {
	run, err := Begin(ctx, o)
	if err != nil {
		return Report{}, err
	}
	return run.Wait(), nil
}

// Begin starts a run. Bad options are an error that says what to write.
func Begin(ctx context.Context, o Options) (*Run, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s, err := newSender(o)
	if err != nil {
		return nil, err
	}
	pacing, cancel := context.WithCancel(ctx)
	r := &Run{Start: time.Now(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer cancel()
		defer s.close()
		r.pace(pacing, o, s)
	}()
	return r, nil
}

func (o *Options) complete() error {
	if o.Protocol == "" {
		o.Protocol = HTTP1
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("URL %q: write http://ADDRESS[:PORT][/PATH], or https://", o.URL)
	case (o.Protocol == H2) != (u.Scheme == "https") && o.Protocol != HTTP1:
		return fmt.Errorf("protocol %s for URL %q: write %s or %s for https, and any but %s for http", o.Protocol, o.URL, HTTP1, H2, H2)
	case !(o.Rate > 0 && o.Rate <= MaxRate):
		return fmt.Errorf("rate %v: write requests per second, above 0 and at most %v", o.Rate, MaxRate)
	case o.Duration <= 0:
		return fmt.Errorf("duration %s: write how long the run takes, such as 30s", o.Duration)
	case o.Rate*o.Duration.Seconds() > MaxRequests:
		return fmt.Errorf("%v requests per second for %s are more than %d requests; lower one", o.Rate, o.Duration, MaxRequests)
	case o.Timeout < 0:
		return fmt.Errorf("timeout %s: write a positive duration", o.Timeout)
	}
	return nil
}

// pace sends each request when it is due and returns when the last is answered.
func (r *Run) pace(ctx context.Context, o Options, s sender) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var inFlight atomic.Int64
	// Requests outlive the pacing: the last ones get their full timeout.
	base := context.WithoutCancel(ctx)
	total := int(o.Rate * o.Duration.Seconds())
	for i := range total {
		due := time.Duration(float64(i) / o.Rate * float64(time.Second))
		if !sleepUntil(ctx, r.Start.Add(due)) {
			return
		}
		if inFlight.Load() >= MaxInFlight {
			r.add(Result{Due: due, Failure: NotSent, Detail: fmt.Sprintf("%d requests wait for an answer", MaxInFlight)})
			continue
		}
		inFlight.Add(1)
		wg.Go(func() {
			defer inFlight.Add(-1)
			request, cancel := context.WithTimeout(base, o.Timeout)
			defer cancel()
			result := s.send(request)
			result.Due, result.Latency = due, time.Since(r.Start.Add(due))
			r.add(result)
		})
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (r *Run) add(result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, result)
}

// Wait waits for the end of the run and reports on it.
func (r *Run) Wait() Report {
	<-r.done
	return r.Snapshot()
}

// Stop ends the run now, waits for requests under way, and reports.
func (r *Run) Stop() Report {
	r.cancel()
	return r.Wait()
}

// Snapshot reports on the requests answered so far.
func (r *Run) Snapshot() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Summarise(r.Start, r.results)
}

func newSender(o Options) (sender, error) {
	if o.Protocol == GRPC {
		return newGRPCSender(o)
	}
	var protocols http.Protocols
	switch o.Protocol {
	case HTTP1:
		protocols.SetHTTP1(true)
	case H2C:
		protocols.SetUnencryptedHTTP2(true)
	case H2:
		protocols.SetHTTP2(true)
	default:
		return nil, fmt.Errorf("protocol %q: write %s, %s, %s or %s", o.Protocol, HTTP1, H2C, H2, GRPC)
	}
	serverName, _, err := net.SplitHostPort(o.Host)
	if err != nil {
		serverName = o.Host // without a port
	}
	transport := &http.Transport{
		Protocols:           &protocols,
		MaxIdleConns:        MaxInFlight,
		MaxIdleConnsPerHost: MaxInFlight,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		TLSClientConfig:     &tls.Config{ServerName: serverName, RootCAs: o.Roots},
	}
	return &httpSender{options: o, transport: transport}, nil
}

type httpSender struct {
	options   Options
	transport *http.Transport
}

func (s *httpSender) close() { s.transport.CloseIdleConnections() }

func (s *httpSender) send(ctx context.Context) Result {
	// The transport sends a GET again when its connection is lost before the answer
	// begins. That hides a loss from us, but not from clients that do not do so.
	var sent atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Add(1) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.options.URL, nil)
	if err != nil {
		return Result{Failure: Other, Detail: err.Error()}
	}
	request.Host = s.options.Host
	for name, values := range s.options.Header {
		request.Header[name] = values
	}
	// Not http.Client: a redirect is an answer here, not something to follow.
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return Result{Failure: classify(err), Detail: err.Error()}
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return Result{Status: response.StatusCode, Failure: classify(err), Detail: err.Error()}
	}
	result := judge(response.StatusCode, version(response.Header, body), body)
	if n := sent.Load(); n > 1 && result.Failure == None {
		result.Failure, result.Detail = SentTwice, fmt.Sprintf("sent %d times", n)
	}
	return result
}

// version finds which version answered: in the header, or in the body of proxies
// that remove unknown headers. Empty means that no version did.
func version(header http.Header, body []byte) string {
	if v := header.Get("X-Version"); v != "" {
		return v
	}
	var answer struct{ Version string }
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	return answer.Version
}

func judge(status int, version string, body []byte) Result {
	r := Result{Status: status, Version: version}
	switch {
	case version == "" && status == http.StatusMisdirectedRequest:
		r.Failure, r.Detail = Misdirected, fmt.Sprintf("status %d", status)
	case version == "":
		r.Failure, r.Detail = NoVersion, fmt.Sprintf("status %d: %s", status, firstLine(body))
	case status >= 500:
		r.Failure, r.Detail = OwnError, fmt.Sprintf("status %d", status)
	}
	return r
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return line[:min(len(line), 120)]
}

// classify says what kind of failure kept an answer away.
func classify(err error) Failure {
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return Timeout
	case errors.As(err, &opErr) && opErr.Op == "dial":
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &opErr):
		return Reset
	// The HTTP/2 transport has no exported error types for these.
	case strings.Contains(err.Error(), "GOAWAY"), strings.Contains(err.Error(), "stream error"), strings.Contains(err.Error(), "connection lost"):
		return Reset
	}
	return Other
}
