// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"headgate.dev/headgate/dataplane/pki"
)

// stream is one proxy: its session, and the signal that wakes the goroutine that
// sends. The lock is never held while sending, so a slow proxy delays nobody.
type stream struct {
	mu      sync.Mutex
	session *session
	wake    chan struct{}
	// progress is what State reads. onProgress is called after it changed.
	progress   atomic.Pointer[progress]
	onProgress func(*progress)
	// onDiverted is called after the proxy was found to keep to newer diversions.
	onDiverted func()
	// onRefusal is called when the proxy refused a response.
	onRefusal func()
	log       logr.Logger
}

type progress struct {
	acked, answered uint64
	refused         []Nack
	// diverted is the generation of the diversions that the proxy keeps to.
	diverted uint64
}

// equal compares what State tells.
func (p *progress) equal(o *progress) bool {
	return p.acked == o.acked && p.answered == o.answered && slices.Equal(p.refused, o.refused)
}

// do changes the session and wakes the sender.
func (st *stream) do(change func(*session)) {
	st.mu.Lock()
	change(st.session)
	now := &progress{refused: st.session.refusals(), diverted: st.session.divertedTo()}
	now.acked, now.answered = st.session.acked()
	before := st.progress.Swap(now)
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
	if before == nil || !before.equal(now) {
		st.onProgress(now)
	}
	if before != nil && before.diverted != now.diverted {
		st.onDiverted()
	}
}

func compareNacks(a, b Nack) int {
	return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Message, b.Message))
}

// service is the gRPC face of the server.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
	// stopping ends all streams.
	stopping <-chan struct{}
}

// DeltaAggregatedResources serves one proxy until it or the server goes.
func (svc *service) DeltaAggregatedResources(grpcStream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := grpcStream.Recv()
	if err != nil {
		return err
	}
	gateway, err := gatewayOf(grpcStream.Context(), first.GetNode())
	if err != nil {
		svc.server.options.Log.Error(err, "Refused a proxy", "node", first.GetNode().GetId())
		return err
	}
	st := svc.server.attach(gateway, first.GetNode().GetId())
	defer svc.server.detach(gateway, st)
	failed := make(chan error, 1)
	go func() { failed <- st.receive(grpcStream, first) }()
	return st.send(grpcStream, failed, svc.stopping)
}

// gatewayOf is the gateway that the proxy asks for, if its certificate names it.
func gatewayOf(ctx context.Context, node *corev3.Node) (types.NamespacedName, error) {
	client, _ := peer.FromContext(ctx)
	if client == nil {
		return types.NamespacedName{}, status.Error(codes.Unauthenticated, "the connection has no peer")
	}
	info, ok := client.AuthInfo.(identity)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return types.NamespacedName{}, status.Error(codes.Unauthenticated, "a client certificate is needed: give the proxy the one of its Gateway")
	}
	named, err := pki.GatewayOf(info.State.VerifiedChains[0][0])
	if err != nil {
		info.dismiss()
		return types.NamespacedName{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if asked := node.GetCluster(); asked != named.String() {
		info.dismiss()
		return types.NamespacedName{}, status.Errorf(codes.PermissionDenied,
			"the proxy asks for Gateway %q but its certificate names %q: node.cluster must be the Gateway of the certificate", asked, named)
	}
	return named, nil
}

// attach adds a proxy. The lock of the publications is held, so that none falls between
// the look at the target and the first one the new stream is told of.
func (s *Server) attach(gateway types.NamespacedName, node string) *stream {
	st := &stream{
		session:    newSession(s.endpoints.get, s.options.Linger),
		wake:       make(chan struct{}, 1),
		onProgress: func(now *progress) { s.progressed(gateway, now) },
		onDiverted: func() { s.divertAnswered(gateway) },
		onRefusal:  func() { s.pace.refused.WithLabelValues(gateway.Namespace, gateway.Name).Inc() },
		log:        s.options.Log.WithValues("gateway", gateway, "node", node),
	}
	st.progress.Store(&progress{})
	s.publishing.Lock()
	s.mu.Lock()
	present := s.targets[gateway]
	st.session.diversions = s.diversions
	if s.streams[gateway] == nil {
		s.streams[gateway] = map[*stream]bool{}
	}
	s.streams[gateway][st] = true
	s.mu.Unlock()
	if present != nil {
		st.do(func(session *session) { session.publish(present, [kinds][]string{}) })
	}
	s.publishing.Unlock()
	st.log.Info("A proxy connected")
	s.notify(gateway)
	return st
}

func (s *Server) detach(gateway types.NamespacedName, st *stream) {
	s.mu.Lock()
	delete(s.streams[gateway], st)
	if len(s.streams[gateway]) == 0 {
		delete(s.streams, gateway)
		s.pace.deserted(gateway)
	}
	s.mu.Unlock()
	s.divertAnswered(gateway)
	st.log.Info("A proxy disconnected")
	s.notify(gateway)
}

// receive hands requests to the session until the stream ends.
func (st *stream) receive(grpcStream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, in *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		k, ok := kindOf(in.GetTypeUrl())
		if !ok {
			st.log.Info("A proxy asked for a type that is not served", "type", in.GetTypeUrl())
		} else {
			if detail := in.GetErrorDetail(); detail != nil {
				st.log.Info("A proxy refused a configuration", "type", in.GetTypeUrl(), "nonce", in.GetResponseNonce(), "message", detail.GetMessage())
				st.onRefusal()
			}
			st.do(func(session *session) {
				session.receive(request{
					kind:        k,
					nonce:       in.GetResponseNonce(),
					subscribe:   in.GetResourceNamesSubscribe(),
					unsubscribe: in.GetResourceNamesUnsubscribe(),
					initial:     in.GetInitialResourceVersions(),
					refused:     in.GetErrorDetail() != nil,
					message:     in.GetErrorDetail().GetMessage(),
				})
			})
		}
		var err error
		if in, err = grpcStream.Recv(); err != nil {
			return err
		}
	}
}

// send brings out what the session has, until the stream ends.
func (st *stream) send(grpcStream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, failed <-chan error, stopping <-chan struct{}) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		st.mu.Lock()
		r, wake := st.session.next(time.Now())
		st.mu.Unlock()
		if r != nil {
			if err := grpcStream.Send(r.message()); err != nil {
				return err
			}
			continue
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-st.wake:
		case <-timer.C:
		case err := <-failed:
			return err
		case <-grpcStream.Context().Done():
			return grpcStream.Context().Err()
		case <-stopping:
			return status.Error(codes.Unavailable, "the control plane is stopping")
		}
	}
}

func (r *response) message() *discoveryv3.DeltaDiscoveryResponse {
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:          typeURLs[r.kind],
		Nonce:            nonceString(r.nonce),
		RemovedResources: r.removed,
	}
	for _, res := range r.resources {
		out.Resources = append(out.Resources, &discoveryv3.Resource{Name: res.name, Version: res.version, Resource: res.body})
	}
	return out
}
