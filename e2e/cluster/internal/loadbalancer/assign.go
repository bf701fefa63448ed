// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package loadbalancer gives every Service of type LoadBalancer an address, as
// a cloud would. kube-proxy then serves that address on the node.
package loadbalancer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Want is one Service that wants an address.
type Want struct {
	// Key is namespace/name.
	Key string
	// Has is the address that the Service's status shows, zero when it shows none.
	Has netip.Addr
	// Asks is spec.loadBalancerIP, zero when it is empty or no address.
	Asks netip.Addr
}

// Grant is the decision for one Service.
type Grant struct {
	// IP is zero when the Service gets no address; Why says why.
	IP  netip.Addr
	Why string
}

// Assign gives each Service an address of the range. It keeps what a Service has
// unless the Service asks for another one; an asked address is given when it is
// free and in the range, and never replaced by a different one: who asks for an
// address wants that or none. The rest get the lowest free addresses in order of
// key. The range's network and broadcast addresses are not given.
func Assign(within netip.Prefix, wants []Want) map[string]Grant {
	wants = slices.SortedFunc(slices.Values(wants), func(a, b Want) int {
		switch {
		case a.Key < b.Key:
			return -1
		case a.Key > b.Key:
			return 1
		}
		return 0
	})
	grants := map[string]Grant{}
	taken := map[netip.Addr]string{}
	give := func(w Want, ip netip.Addr) {
		grants[w.Key], taken[ip] = Grant{IP: ip}, w.Key
	}
	// First what is held already: an address never moves because of a newcomer.
	for _, w := range wants {
		_, used := taken[w.Has]
		if usable(within, w.Has) && !used && (!w.Asks.IsValid() || w.Asks == w.Has) {
			give(w, w.Has)
		}
	}
	for _, w := range wants {
		if _, done := grants[w.Key]; done || !w.Asks.IsValid() {
			continue
		}
		switch holder, used := taken[w.Asks]; {
		case !usable(within, w.Asks):
			grants[w.Key] = Grant{Why: fmt.Sprintf("spec.loadBalancerIP %s is not in %s; ask for one of %s to %s, or for none", w.Asks, within, first(within), last(within))}
		case used:
			grants[w.Key] = Grant{Why: fmt.Sprintf("spec.loadBalancerIP %s is held by Service %s", w.Asks, holder)}
		default:
			give(w, w.Asks)
		}
	}
	next := first(within)
	for _, w := range wants {
		if _, done := grants[w.Key]; done {
			continue
		}
		for usable(within, next) && taken[next] != "" {
			next = next.Next()
		}
		if !usable(within, next) {
			grants[w.Key] = Grant{Why: fmt.Sprintf("all addresses of %s are given; delete a Service of type LoadBalancer", within)}
			continue
		}
		give(w, next)
	}
	return maps.Clone(grants)
}

func usable(within netip.Prefix, ip netip.Addr) bool {
	return ip.IsValid() && within.Contains(ip) && ip != within.Masked().Addr() && within.Contains(ip.Next())
}

func first(within netip.Prefix) netip.Addr { return within.Masked().Addr().Next() }

func last(within netip.Prefix) netip.Addr {
	bytes := within.Masked().Addr().AsSlice()
	for bit := within.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	broadcast, _ := netip.AddrFromSlice(bytes)
	return broadcast.Prev()
}
