// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// validHostname tells whether a hostname, in lower case, is a DNS name, perhaps
// with "*." in front. IP addresses are none, as the Gateway API says.
func validHostname(hostname string) bool {
	bare := strings.TrimPrefix(hostname, "*.")
	if _, err := netip.ParseAddr(bare); err == nil {
		return false
	}
	return len(validation.IsDNS1123Subdomain(bare)) == 0
}

// covers tells whether every host of b is a host of a. "" is every host, and
// "*.example.com" covers "a.b.example.com" but not "example.com".
func covers(a, b string) bool {
	switch {
	case a == "" || a == b:
		return true
	case b == "" || !strings.HasPrefix(a, "*."):
		return false
	}
	suffix := a[1:]
	b = strings.TrimPrefix(b, "*")
	return strings.HasSuffix(b, suffix) && len(b) > len(suffix)
}

// moreSpecific orders hostnames as precedence does: exact before wildcard, then
// the longer one.
func moreSpecific(a, b string) bool {
	if wildA, wildB := strings.HasPrefix(a, "*."), strings.HasPrefix(b, "*."); wildA != wildB {
		return wildB
	}
	return len(a) > len(b)
}

// intersect gives the hosts that a listener and a route have in common: for each
// of the route's hostnames the narrower of the two. {""} stands for every host,
// nil for none.
func intersect(listener string, route []string) []string {
	if len(route) == 0 {
		return []string{listener}
	}
	var common []string
	for _, host := range route {
		switch {
		case covers(listener, host):
			common = append(common, host)
		case covers(host, listener):
			common = append(common, listener)
		}
	}
	slices.Sort(common)
	return slices.Compact(common)
}

func hostText(hostname string) string {
	if hostname == "" {
		return "every host"
	}
	return "host " + hostname
}

func quoted(names []string) string {
	return `"` + strings.Join(names, `", "`) + `"`
}
