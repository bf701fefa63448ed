// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package drain lets a proxy leave without a failed request. The kubelet asks
// for it in the proxy's preStop hook and sends SIGTERM to the proxy once it was
// answered:
//
//	kubelet ─GET /drain─▶ Handler ─▶ Envoy's admin: fail /ready, drain listeners
//	                         │ wait: load balancers notice, connections go,
//	                         │       running requests end
//	kubelet ◀──── 200 ───────┘
package drain

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-logr/logr"
)

// Options configure a Handler.
type Options struct {
	// Admin is the URL of Envoy's admin interface, for example http://127.0.0.1:19000.
	Admin string
	// Path and TokenHeader are where and how the kubelet asks; Token is what it must say.
	Path, TokenHeader, Token string
	// Notice is how long at least a drain lasts: load balancers must have learned
	// by then that the proxy is leaving.
	Notice time.Duration
	// DrainTime is how long to wait for idle connections to be closed by their
	// clients; after it only running requests count. At least Notice.
	DrainTime time.Duration
	// MaxTime ends a drain whatever still runs. At least DrainTime.
	MaxTime time.Duration
	// Poll is the time between two looks at the proxy; 0 means 250ms.
	Poll time.Duration
	Log  logr.Logger
}

// Handler answers a GET of o.Path once the proxy can be stopped. Asked again
// while it drains, it joins the wait.
func Handler(o Options) http.Handler {
	if o.Poll == 0 {
		o.Poll = 250 * time.Millisecond
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+o.Path, func(w http.ResponseWriter, req *http.Request) {
		if subtle.ConstantTimeCompare([]byte(req.Header.Get(o.TokenHeader)), []byte(o.Token)) != 1 {
			http.Error(w, "the token is wrong: only the kubelet drains a proxy", http.StatusForbidden)
			return
		}
		reason, took, err := drain(req.Context(), o)
		if err != nil {
			o.Log.Error(err, "Draining the proxy ended early", "after", took.String())
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		o.Log.Info("Drained the proxy", "after", took.String(), "because", reason)
		fmt.Fprintln(w, reason)
	})
	return mux
}

// drain gives the reason why the proxy can be stopped now, and how long it took.
func drain(ctx context.Context, o Options) (reason string, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.MaxTime)
	defer cancel()
	for _, path := range []string{"/healthcheck/fail", "/drain_listeners?graceful&skip_exit"} {
		if _, err := o.ask(ctx, http.MethodPost, path); err != nil {
			return "", 0, err
		}
	}
	ticker := time.NewTicker(o.Poll)
	defer ticker.Stop()
	var start time.Time
	quiet := false
	var accepted int64
	var news time.Duration // when a connection was last seen to be new
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return "the longest time was over, with requests running", o.MaxTime, nil
			}
			return "", took, ctx.Err()
		case tick := <-ticker.C:
			if start.IsZero() {
				start = tick.Add(-o.Poll)
			}
			took = tick.Sub(start)
		}
		load, err := o.load(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			continue
		case err != nil:
			return "", took, err
		}
		if load.accepted != accepted {
			accepted, news = load.accepted, took
		}
		switch {
		case took-news < o.Notice:
			// Somebody has not noticed yet that the proxy is leaving: the next connection
			// would be cut.
		case load.connections == 0:
			return "every connection is closed", took, nil
		case took >= o.DrainTime && load.requests == 0 && quiet:
			// Twice in a row, so that a request between two looks is not cut.
			return "no request is running, connections are idle", took, nil
		}
		quiet = load.requests == 0
	}
}

// load is what clients have open. A connection that does not speak HTTP, or not to the
// proxy, counts as a request that runs: nobody can know whether it is idle. Accepted is how
// many connections there were in all.
type load struct{ requests, connections, accepted int64 }

// own are the connection managers and listeners of the proxy that serve itself, and
// what counts a listener's connections a second time, by thread.
func own(name string) bool {
	return strings.HasPrefix(name, "http.admin.") || strings.HasPrefix(name, "http.stats.") ||
		strings.HasPrefix(name, "listener.admin.") || strings.HasPrefix(name, "listener.stats.") || strings.Contains(name, ".worker_")
}

// load counts what clients still have open.
func (o Options) load(ctx context.Context) (load, error) {
	const filter = `^(http\..*\.downstream_(rq|cx)_active|listener\..*\.downstream_cx_(active|total))$`
	body, err := o.ask(ctx, http.MethodGet, "/stats?format=json&filter="+url.QueryEscape(filter))
	if err != nil {
		return load{}, err
	}
	var answer struct {
		Stats []struct {
			Name  string `json:"name"`
			Value int64  `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return load{}, fmt.Errorf("reading the proxy's statistics: %w", err)
	}
	var l load
	var spokenTo int64
	for _, s := range answer.Stats {
		switch {
		case own(s.Name):
		case strings.HasSuffix(s.Name, ".downstream_rq_active"):
			l.requests += s.Value
		case strings.HasSuffix(s.Name, ".downstream_cx_total"):
			l.accepted += s.Value
		case strings.HasPrefix(s.Name, "http."):
			spokenTo += s.Value
		default:
			l.connections += s.Value
		}
	}
	// The two are not read at the same moment.
	l.connections = max(l.connections, spokenTo)
	l.requests += l.connections - spokenTo
	return l, nil
}

func (o Options) ask(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, o.Admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the proxy's admin interface: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the proxy's admin interface: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer of the proxy's admin interface: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the proxy's admin interface answered %s to %s with %s", method, path, resp.Status)
	}
	return body, nil
}
