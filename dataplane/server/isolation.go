// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"headgate.dev/headgate/dataplane/xds"
)

// maxTrials bounds how many contents of one route table are tried until everything that
// is not known to be good is taken for bad.
const maxTrials = 64

// isolation finds the rules because of which a proxy refused a route table, and keeps
// them away from the others. A refusal does not name its cause, and throws away the
// table as a whole; so the rules that are new in it are tried by halves:
//
//	refused   more than one was tried   the bad one is among them: try half of these
//	          one was tried             it is the one: it answers 500 from now on
//	accepted                            those that were tried are good: try the others
//
// A rule that waits for its trial keeps its former content, or is not there yet when it
// had none, so that a trial takes nothing away that was served. It is pure: proto messages in,
// proto messages out.
type isolation struct {
	// whole is the table as it was published, former the one that the proxies
	// accepted last; nil when that is not known.
	whole  proto.Message
	former *routev3.RouteConfiguration
	// bad are the rules that stay away as long as their content does.
	bad map[xds.Rule]*fault
	// suspects are the rules of whom nobody knows; guilty are those of them among whom
	// there is a bad one; trial are those that are in the present table.
	suspects, guilty, trial []xds.Rule
	// fresh is the last of bad that was not in an accepted table since. It may be that
	// not what it does is refused but what it matches.
	fresh   *fault
	trials  int
	message string
	// stuck is set when the table is refused whatever is left out of it.
	stuck bool
}

// fault is what is known about a bad rule.
type fault struct {
	content [sha256.Size]byte
	message string
	// sure is set once a table was accepted that the rule was kept away from.
	sure bool
	// out leaves the rule out of the table: its match cannot even answer 500.
	out bool
}

// isolate begins the search after a refusal of whole.
func isolate(whole proto.Message, former *routev3.RouteConfiguration) *isolation {
	i := &isolation{former: former, bad: map[xds.Rule]*fault{}}
	i.renew(whole)
	return i
}

// renew takes a newly published table. What is known about a rule holds as long as
// the rule's content is the same.
func (i *isolation) renew(whole proto.Message) {
	if i.whole != nil && proto.Equal(i.whole, whole) {
		i.whole = whole
		return
	}
	is, was, before := contents(xds.Table(whole)), contents(i.former), contents(xds.Table(i.whole))
	i.whole, i.stuck, i.fresh, i.trials = whole, false, nil, 0
	maps.DeleteFunc(i.bad, func(r xds.Rule, f *fault) bool { return is[r] != f.content })
	i.suspects = nil
	for r, content := range is {
		if was[r] != content && i.bad[r] == nil {
			i.suspects = append(i.suspects, r)
		}
	}
	slices.SortFunc(i.suspects, compareRules)
	if slices.ContainsFunc(i.guilty, func(r xds.Rule) bool { return is[r] != before[r] || !slices.Contains(i.suspects, r) }) {
		i.guilty = nil // the bad one among them may be mended
	}
	i.choose()
}

// refused takes the proxies' refusal of the present table.
func (i *isolation) refused(message string) {
	i.message = message
	i.trials++
	if i.fresh != nil {
		i.fresh.out = !i.fresh.out
		if i.fresh.out {
			return // the same trial once more, without the rule
		}
		i.fresh = nil // it was not that
	}
	switch {
	case len(i.trial) == 0:
		i.giveUp()
		return
	case i.trials >= maxTrials:
		for _, r := range slices.Clone(i.suspects) {
			i.convict(r)
		}
	case len(i.trial) == 1:
		i.convict(i.trial[0])
	default:
		i.guilty = i.trial
	}
	i.choose()
}

// giveUp acquits the rules that were taken for bad and without which the table is
// refused all the same.
func (i *isolation) giveUp() {
	for r, f := range i.bad {
		if !f.sure {
			delete(i.bad, r)
			i.suspects = append(i.suspects, r)
		}
	}
	slices.SortFunc(i.suspects, compareRules)
	i.stuck = true
}

// accepted takes the proxies' acknowledgement of the present table.
func (i *isolation) accepted() {
	i.former, i.fresh, i.stuck = xds.Table(i.table()), nil, false
	for _, f := range i.bad {
		f.sure = true
	}
	tried := func(r xds.Rule) bool { return slices.Contains(i.trial, r) }
	i.suspects = slices.DeleteFunc(i.suspects, tried)
	i.guilty = slices.DeleteFunc(slices.Clone(i.guilty), tried)
	if len(i.guilty) == 1 { // the other half was good
		i.convict(i.guilty[0])
	}
	i.choose()
}

// exclude takes rules for bad that nobody had to be asked about.
func (i *isolation) exclude(faults map[xds.Rule]invalidRule) {
	for r, f := range faults {
		if i.bad[r] == nil {
			i.message = f.message
			i.convict(r)
			i.bad[r].out, i.bad[r].sure = f.match, true
		}
	}
	i.fresh = nil
	i.choose()
}

func (i *isolation) convict(r xds.Rule) {
	i.fresh = &fault{content: contents(xds.Table(i.whole))[r], message: i.message}
	i.bad[r] = i.fresh
	same := func(other xds.Rule) bool { return other == r }
	i.suspects = slices.DeleteFunc(i.suspects, same)
	i.guilty = nil
}

// choose sets what is tried next: half of those among whom a bad one is, else all.
func (i *isolation) choose() {
	if len(i.guilty) > 1 {
		i.trial = slices.Clone(i.guilty[:len(i.guilty)/2])
		return
	}
	i.trial = slices.Clone(i.suspects)
}

// settled is true when nothing is left to be tried.
func (i *isolation) settled() bool { return i.stuck || len(i.suspects) == 0 && i.fresh == nil }

// clean is true when nothing is kept away from the proxies any more.
func (i *isolation) clean() bool { return len(i.bad) == 0 && len(i.suspects) == 0 }

// away lists the rules that are not served as published, each with the proxies' sentence.
func (i *isolation) away() map[xds.Rule]string {
	out := map[xds.Rule]string{}
	for _, r := range i.suspects {
		if len(i.trial) < len(i.suspects) || i.stuck {
			out[r] = i.message
		}
	}
	for r, f := range i.bad {
		out[r] = f.message
	}
	return out
}

// table is the whole without what is bad and what waits for its trial.
func (i *isolation) table() proto.Message {
	table := xds.Table(i.whole)
	if i.stuck || len(i.bad) == 0 && len(i.trial) == len(i.suspects) {
		return i.whole
	}
	out := proto.Clone(table).(*routev3.RouteConfiguration)
	for n, host := range out.VirtualHosts {
		host.Routes = i.routes(host.Routes, hostOf(i.former, table.VirtualHosts[n].Name))
	}
	return xds.WithTable(i.whole, out)
}

func (i *isolation) routes(all []*routev3.Route, former *routev3.VirtualHost) []*routev3.Route {
	var routes []*routev3.Route
	done := map[xds.Rule]bool{}
	for _, route := range all {
		rule, named := xds.RuleOf(route.Name)
		f := i.bad[rule]
		switch {
		case !named, f == nil && (!slices.Contains(i.suspects, rule) || slices.Contains(i.trial, rule)):
			routes = append(routes, route)
		case f != nil && f.out:
		case f != nil:
			routes = append(routes, failing(route))
		case !done[rule]:
			done[rule] = true
			routes = append(routes, routesOf(former, rule)...)
		}
	}
	return routes
}

// failing is a route that matches the same and answers 500.
func failing(route *routev3.Route) *routev3.Route {
	return &routev3.Route{
		Name: route.Name, Match: route.Match,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 500}},
	}
}

func routesOf(host *routev3.VirtualHost, rule xds.Rule) []*routev3.Route {
	var routes []*routev3.Route
	for _, route := range host.GetRoutes() {
		if r, named := xds.RuleOf(route.Name); named && r == rule {
			routes = append(routes, route)
		}
	}
	return routes
}

func hostOf(table *routev3.RouteConfiguration, name string) *routev3.VirtualHost {
	for _, host := range table.GetVirtualHosts() {
		if host.Name == name {
			return host
		}
	}
	return nil
}

// contents gives, for each rule of a table, a hash of all that is made of it.
func contents(table *routev3.RouteConfiguration) map[xds.Rule][sha256.Size]byte {
	bytes := map[xds.Rule][]byte{}
	for _, host := range table.GetVirtualHosts() {
		for _, route := range host.Routes {
			rule, named := xds.RuleOf(route.Name)
			if !named {
				continue
			}
			b := append(append(bytes[rule], host.Name...), 0)
			b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, route)
			if err != nil { // only strings that are not UTF-8 do this: such a route is always news
				b = append(b, err.Error()...)
			}
			bytes[rule] = b
		}
	}
	out := make(map[xds.Rule][sha256.Size]byte, len(bytes))
	for rule, b := range bytes {
		out[rule] = sha256.Sum256(b)
	}
	return out
}

func compareRules(a, b xds.Rule) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Route.String(), b.Route.String()), cmp.Compare(a.Index, b.Index))
}
