// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var ip = netip.MustParseAddr

func TestAssign(t *testing.T) {
	within := netip.MustParsePrefix("10.250.0.0/29") // .1 to .6
	tests := []struct {
		name  string
		wants []Want
		// want maps a key to its address, or to a part of why it gets none.
		want map[string]string
	}{
		{"nothing wanted, nothing given", nil, map[string]string{}},
		{
			"gives the lowest addresses in order of key, not of arrival",
			[]Want{{Key: "ns/b"}, {Key: "ns/a"}},
			map[string]string{"ns/a": "10.250.0.1", "ns/b": "10.250.0.2"},
		},
		{
			"an address never moves because of a newcomer",
			[]Want{{Key: "ns/a"}, {Key: "ns/b", Has: ip("10.250.0.1")}},
			map[string]string{"ns/a": "10.250.0.2", "ns/b": "10.250.0.1"},
		},
		{
			"gives the asked address when it is free",
			[]Want{{Key: "ns/a"}, {Key: "ns/b", Asks: ip("10.250.0.1")}},
			map[string]string{"ns/a": "10.250.0.2", "ns/b": "10.250.0.1"},
		},
		{
			"an asked address that is held is refused, and no other given instead",
			[]Want{{Key: "ns/a", Has: ip("10.250.0.3")}, {Key: "ns/b", Asks: ip("10.250.0.3")}},
			map[string]string{"ns/a": "10.250.0.3", "ns/b": "held by Service ns/a"},
		},
		{
			"an asked address outside the range is refused with the range",
			[]Want{{Key: "ns/a", Asks: ip("192.0.2.1")}},
			map[string]string{"ns/a": "ask for one of 10.250.0.1 to 10.250.0.6"},
		},
		{
			"network and broadcast addresses are not given",
			[]Want{{Key: "ns/a", Asks: ip("10.250.0.0")}, {Key: "ns/b", Asks: ip("10.250.0.7")}},
			map[string]string{"ns/a": "is not in", "ns/b": "is not in"},
		},
		{
			"moves a Service that asks for another address later",
			[]Want{{Key: "ns/a", Has: ip("10.250.0.1"), Asks: ip("10.250.0.5")}},
			map[string]string{"ns/a": "10.250.0.5"},
		},
		{
			"of two that show one address the first keeps it",
			[]Want{{Key: "ns/b", Has: ip("10.250.0.1")}, {Key: "ns/a", Has: ip("10.250.0.1")}},
			map[string]string{"ns/a": "10.250.0.1", "ns/b": "10.250.0.2"},
		},
		{
			"an address from another range is replaced",
			[]Want{{Key: "ns/a", Has: ip("172.16.0.9")}},
			map[string]string{"ns/a": "10.250.0.1"},
		},
		{
			"the last one of seven gets none and is told so",
			[]Want{{Key: "1"}, {Key: "2"}, {Key: "3"}, {Key: "4"}, {Key: "5"}, {Key: "6"}, {Key: "7"}},
			map[string]string{
				"1": "10.250.0.1", "2": "10.250.0.2", "3": "10.250.0.3", "4": "10.250.0.4", "5": "10.250.0.5", "6": "10.250.0.6",
				"7": "all addresses of 10.250.0.0/29 are given",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.wants)
			got := Assign(within, tt.wants)
			if len(got) != len(tt.want) {
				t.Errorf("got %d grants, want %d", len(got), len(tt.want))
			}
			for key, want := range tt.want {
				grant := got[key]
				if grant.IP.IsValid() && grant.IP.String() != want || !grant.IP.IsValid() && !strings.Contains(grant.Why, want) {
					t.Errorf("%s got %v %q, want %s", key, grant.IP, grant.Why, want)
				}
			}
			if fmt.Sprint(tt.wants) != before {
				t.Error("the argument was modified")
			}
		})
	}
}

func TestAssignIsStable(t *testing.T) {
	within := netip.MustParsePrefix("10.250.0.0/24")
	wants := []Want{{Key: "a"}, {Key: "b", Asks: ip("10.250.0.9")}, {Key: "c"}}
	first := Assign(within, wants)
	for i := range wants {
		wants[i].Has = first[wants[i].Key].IP
	}
	if diff := cmp.Diff(first, Assign(within, wants), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error("what was given is not kept:", diff)
	}
}
