// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"headgate.dev/headgate/dataplane/graph"
	"headgate.dev/headgate/dataplane/internal/graphtest"
)

// TestARequestThatWaitsForItsRetryOutlivesItsCluster lets requests fail once, and moves their route to another
// Service, which leaves their cluster without a route, while they wait for the retry.
func TestARequestThatWaitsForItsRetryOutlivesItsCluster(t *testing.T) {
	tests := []struct {
		name   string
		linger time.Duration
		lost   bool
	}{
		{"all are answered by their retries", 0, false},
		{"a cluster that goes with its last route takes them along", time.Millisecond, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRigWithLinger(t, tt.linger)
			port := FreePort(t)
			var mu sync.Mutex
			failed := map[string]bool{}
			moved, late := atomic.Bool{}, atomic.Int64{}
			flaky := NewBackendFunc(t, "flaky", func(w http.ResponseWriter, request *http.Request) {
				_, _ = io.Copy(io.Discard, request.Body)
				mu.Lock()
				first := !failed[request.URL.Path]
				failed[request.URL.Path] = true
				mu.Unlock()
				if first {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				if moved.Load() {
					late.Add(1)
				}
			})
			r.endpoints("flaky", flaky)
			r.endpoints("other", NewBackend(t, "other"))
			// Envoy waits for a random time of up to the backoff before the first retry.
			backoff := 2 * time.Second
			graphTo := func(service string) *graph.Graph {
				rule := graphtest.Rule("/", graphtest.Backend(service, 1))
				rule.Retry = &graph.Retry{Attempts: 3, Codes: []uint32{500}, Backoff: &backoff}
				return graphtest.Graph(graphtest.HTTP("http", port, "", graphtest.Route("web", nil, rule)))
			}
			r.publish(graphTo("flaky"))
			r.Eventually("the proxy is ready", func() error { _, err := r.proxy.Stats("/ready"); return err })

			const requests = 40
			statuses := make(chan int, requests)
			for i := range requests {
				go func() {
					a, err := send(call{port: port, path: "/" + strconv.Itoa(i)})
					if err != nil {
						t.Errorf("request %d: %v", i, err)
					}
					statuses <- a.status
				}()
			}
			r.Eventually("every request has failed once", func() error {
				if n := flaky.Requests.Load(); n < requests {
					return fmt.Errorf("%d tries", n)
				}
				return nil
			})
			r.publish(graphTo("other"))
			moved.Store(true)
			answered := map[int]int{}
			for range requests {
				answered[<-statuses]++
			}
			t.Logf("answered with %v; %d retries after the route had moved", answered, late.Load())
			if lost := answered[http.StatusOK] < requests; lost != tt.lost {
				t.Errorf("answered with %v", answered)
			}
			if tt.lost {
				if answered[http.StatusServiceUnavailable] == 0 {
					t.Errorf("answered with %v, want some 503", answered)
				}
				r.Eventually("the old cluster is gone", func() error { return r.clusterIsGone("flaky") })
				return
			}
			if late.Load() == 0 {
				t.Error("no request waited while the route moved")
			}
			if r.clusterIsGone("flaky") == nil {
				t.Error("the old cluster is gone already")
			}
			if a := r.do(call{port: port, path: "/0"}); a.seen.Backend != "other" {
				t.Errorf("a new request went to %+v", a)
			}
		})
	}
}

// clusterIsGone says that a proxy still has the cluster of a Service.
func (r *rig) clusterIsGone(service string) error {
	page, err := r.proxy.Admin("/clusters")
	if err == nil && strings.Contains(page, graphtest.Key(service).Name()+"::") {
		err = fmt.Errorf("the cluster of %s is there", service)
	}
	return err
}
