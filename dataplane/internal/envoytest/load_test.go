// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
)

// load sends requests to a port at a constant, bounded rate, half of them over HTTP/1.1
// on kept connections and half over HTTP/2, until it is stopped.
type load struct {
	tb           testing.TB
	sent, failed atomic.Int64
	// connected counts the clients that have an answer.
	connected    atomic.Int64
	url          string
	mu           sync.Mutex
	firstFailure string
	byBackend    map[string]int
	cancel       context.CancelFunc
	done         sync.WaitGroup
}

// startLoad begins with 8 connections and about 800 requests a second in all.
func startLoad(tb testing.TB, port uint32) *load { return startLoadOver(tb, port, nil) }

// startLoadOver sends over TLS, unless config is nil.
func startLoadOver(tb testing.TB, port uint32, config *tls.Config) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{tb: tb, byBackend: map[string]int{}, cancel: cancel, url: "http://example.com/"}
	if config != nil {
		l.url = "https://example.com/"
	}
	for i := range 8 {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(i%2 == 0)
		protocols.SetUnencryptedHTTP2(i%2 == 1 && config == nil)
		protocols.SetHTTP2(i%2 == 1 && config != nil)
		transport := &http.Transport{
			Protocols: protocols, MaxIdleConnsPerHost: 1, TLSClientConfig: config.Clone(),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, Address(uint32(graph.ProxyPort(int32(port)))))
			},
		}
		l.done.Add(1)
		go l.run(ctx, &http.Client{Transport: transport, Timeout: 10 * time.Second})
	}
	return l
}

func (l *load) run(ctx context.Context, client *http.Client) {
	defer l.done.Done()
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if l.one(client); first {
				l.connected.Add(1)
				first = false
			}
		}
	}
}

func (l *load) one(client *http.Client) {
	answer, err := client.Get(l.url)
	failure := ""
	backend := ""
	if err != nil {
		failure = err.Error()
	} else {
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		backend = answer.Header.Get("X-Backend")
		if err != nil || answer.StatusCode != http.StatusOK {
			failure = fmt.Sprintf("%s %s %v", answer.Status, body, err)
		}
	}
	l.sent.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byBackend[backend]++
	if failure != "" {
		l.failed.Add(1)
		if l.firstFailure == "" {
			l.firstFailure = failure
		}
	}
}

// stop ends the load and fails the test when a request failed or when none was sent.
func (l *load) stop() (sent int64, byBackend map[string]int) {
	l.tb.Helper()
	l.cancel()
	l.done.Wait()
	if n := l.failed.Load(); n > 0 {
		l.tb.Errorf("%d of %d requests failed, the first with: %s", n, l.sent.Load(), l.firstFailure)
	}
	if l.sent.Load() < 100 {
		l.tb.Errorf("only %d requests were sent", l.sent.Load())
	}
	return l.sent.Load(), l.byBackend
}
