// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"headgate.dev/headgate/dataplane/graph"
)

// TestEndpointsGoOutWhileAPublicationIsMade holds a publication where it compares, checks and
// packs, and publishes endpoints meanwhile. A proxy is told of them at once.
func TestEndpointsGoOutWhileAPublicationIsMade(t *testing.T) {
	key := graph.ClusterKey{Namespace: "shop", Service: "web", Port: 80}
	s := New(Options{})
	proxy := s.attach(benchGateway, "p")
	target := &target{version: 1}
	target.resources[kindCluster].put(newResource(kindCluster, key.Name(), clusterVariant(key.Name(), 0), 1))
	proxy.do(func(session *session) {
		session.publish(target, [kinds][]string{})
		session.receive(request{kind: kindEndpoints, subscribe: []string{key.Name()}})
	})
	for r, _ := proxy.session.next(time.Now()); r != nil; r, _ = proxy.session.next(time.Now()) {
	}

	s.publishing.Lock()
	defer s.publishing.Unlock()
	published := make(chan struct{})
	go func() {
		defer close(published)
		s.PublishEndpoints(key, &endpointv3.ClusterLoadAssignment{ClusterName: key.Name(), Endpoints: []*endpointv3.LocalityLbEndpoints{{}}})
	}()
	select {
	case <-published:
	case <-time.After(10 * time.Second):
		t.Fatal("the endpoints wait for the publication")
	}
	if r, _ := proxy.session.next(time.Now()); r == nil || r.kind != kindEndpoints || r.resources[0].name != key.Name() {
		t.Errorf("the proxy is sent %v, want the endpoints", r)
	}
}
