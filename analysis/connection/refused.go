// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"fmt"
	"net/netip"
	"syscall"
)

// refusedError says that a Canary may not have this address asked.
type refusedError struct {
	address netip.Addr
	what    string
}

// Error implements error.
func (e *refusedError) Error() string {
	return fmt.Sprintf("%s is %s, which Headgate does not ask for a Canary", e.address, e.what)
}

// refuseOwn is called with the address that is about to be connected to.
func refuseOwn(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("reading the address %s: %w", address, err)
	}
	return refuse(a.Addr())
}

// refuseHost refuses what is written as an address; names are checked once resolved.
func refuseHost(host string) error {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil //nolint:nilerr // a name, not an address
	}
	return refuse(a)
}

// metadata are services of clouds that tell a machine its credentials and stand at an
// address of their own; that of most is one of the link, 169.254.169.254.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS over IPv6
	netip.MustParseAddr("168.63.129.16"),   // Azure's host
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
}

// nat64 is the prefix under which IPv4 is reached from a network of IPv6 (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func refuse(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case a.IsLoopback(), a.IsUnspecified():
		return &refusedError{a, "Headgate's own machine"}
	case a.IsLinkLocalUnicast():
		return &refusedError{a, "an address of the link, where clouds keep the credentials of a node"}
	case a.IsMulticast():
		return &refusedError{a, "an address of many machines"}
	}
	for _, m := range metadata {
		if a == m {
			return &refusedError{a, "a cloud's service for the credentials of a node"}
		}
	}
	return nil
}
