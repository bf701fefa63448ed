// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"slices"

	"headgate.dev/headgate/api/v1beta1"
)

// TLS to a backend, by a BackendTLSPolicy or by an XBackend, concerns the connections that
// the proxies can read: those whose TLS they end,
// and those that had none. What is passed through is the client's own TLS, and stays it.

// setProtocol says what is spoken to the backend, and over TLS or not.
func (b *Backend) setProtocol(protocol UpstreamProtocol, secure bool) {
	b.Cluster.Protocol = protocol
	if secure && protocol == UpstreamTCP {
		through := b.Cluster
		b.Through = &through
		b.Cluster.Protocol = UpstreamSecureTCP
	}
}

// passThrough decides, when the route's listeners are known, which of the two its backends get. Where
// all is passed through a policy says nothing about the route, even one that cannot be followed.
func (r *Route) passThrough() {
	all, some := r.passes(r.Parents)
	for _, rule := range r.Rules {
		for _, b := range rule.Backends {
			switch {
			case b.Through == nil:
			case all:
				b.Cluster, b.TLS, b.Through = *b.Through, nil, nil
				b.Problems = slices.DeleteFunc(b.Problems, func(p Problem) bool { return p.Reason == v1beta1.ReasonInvalidBackendTLS })
				b.Valid = len(b.Problems) == 0
			case !some:
				b.Through = nil
			}
		}
	}
}

// passes tells whether all of the listeners that the route has at the parents pass TLS
// through, and whether any does.
func (r *Route) passes(parents []*Parent) (all, some bool) {
	all = true
	for _, p := range parents {
		for _, a := range p.Attachments {
			through := passesThrough(a.Listener.Source)
			all, some = all && through, some || through
		}
	}
	return all && some, some
}
